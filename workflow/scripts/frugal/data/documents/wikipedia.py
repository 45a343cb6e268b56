"""Articles of a MediaWiki XML export, such as Wikipedia's dumps, as plain text."""

import bz2
import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Template, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

from frugal.data.documents.characters import plain_characters
from frugal.data.documents.preparation import Document
from frugal.data.source.archives import Limits, Metered
from frugal.errors import FrugalError, first_line

# What an export begins with. A document type, and with it entities that expand without end, has no place there.
BEGINNING = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>)?\s*<mediawiki\b")
HEAD = 4096
LONGEST = 10**15
ARTICLES = "0"
# Sections of links and sources at an article's end.
BACK_MATTER = {
    "bibliography",
    "citations",
    "external links",
    "footnotes",
    "further reading",
    "notes",
    "notes and references",
    "references",
    "references and notes",
    "see also",
    "sources",
}
# Elements that are no running text: their content is left out.
NO_TEXT = {
    *("ref", "references", "table", "gallery", "imagemap", "timeline", "graph", "score", "mapframe", "section"),
    *("math", "chem", "ce", "hiero", "source", "syntaxhighlight", "pre", "templatedata", "inputbox"),
}
# Templates that stand for words in a sentence, and which of their parameters are the words.
INLINE = {"convert": (1, 2), "cvt": (1, 2), "lang": (2,), "nowrap": (1,), "nobr": (1,), "abbr": (1,), "sic": (1,)}
# What links into a namespace (File:, Category:) and to other wikis (de:, wikt:) begin with; in titles that have a
# colon a blank follows it.
PREFIX = re.compile(r"([\w-]+):(?!\s)")
# The parser leaves references to code points that do not exist in the text.
REFERENCE = re.compile(r"&#(\d+|[xX][\da-fA-F]+);")
LEFT_OVER = [
    (re.compile(r"'{2,}|__[A-Z]+__"), ""),  # bold, italic, and switches such as __NOTOC__
    (re.compile(r"^[ \t]*(\{\||\|\}|\||!).*$", re.MULTILINE), ""),  # rows of tables that do not end
    (re.compile(r"\(([\s;,:]|\bor\b)*\)"), ""),  # what templates and links leave of a pair of brackets
    (re.compile(r"\(\s*[;,:]\s*"), "("),
    (re.compile(r"[ \t\xa0]+"), " "),
    (re.compile(r" +(?=[,.;:)\n])|^[ :;,]+| +$", re.MULTILINE), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
]


def read_wikipedia(path: Path, file: str = "") -> Iterator[Document]:
    """One document for each page of an export (XML, plain or bz2), read as a stream.

    Pages of other namespaces and redirects are skipped.

    Args:
        file: what the manifest calls ``path``.

    Raises:
        FrugalError: the file is no export, is cut off or damaged, or unpacks like one made to fill the memory.
    """
    with open(path, "rb") as plain:
        stream = bz2.BZ2File(plain) if plain.peek(3).startswith(b"BZh") else plain
        try:
            if not BEGINNING.match(stream.read(HEAD)):
                raise FrugalError(f"{path}: is no MediaWiki export: it does not begin with <mediawiki>")
            stream.seek(0)
            # A whole encyclopaedia is of any size, and packed to a fifth or so.
            yield from _pages(Metered(stream, path, Limits(size=LONGEST)), file)
        except (ET.ParseError, EOFError, OSError, ValueError, LookupError) as error:
            raise FrugalError(
                f"{path}: cut off or damaged MediaWiki export ({first_line(error)}); fetch it again"
            ) from None


def _pages(stream: Metered, file: str) -> Iterator[Document]:
    root = None
    for event, element in ET.iterparse(stream, ("start", "end")):
        if root is None:
            root = element
        if event != "end" or _local(element) != "page":
            continue
        found = {_local(child): child for child in element.iter()}
        title = (_content(found, "title") or "untitled").strip()
        if _content(found, "ns") != ARTICLES:
            yield Document(title, title, "", file=file, status="skipped", reason="not an article")
        elif "redirect" in found:
            yield Document(title, title, "", file=file, status="skipped", reason="redirect")
        else:
            yield Document(title, title, plain_text(_content(found, "text")), file=file)
        # The root keeps its children otherwise, and with them the whole export.
        root.clear()


def _local(element: ET.Element) -> str:
    """The name without the namespace, which differs from version to version of the export."""
    return element.tag.rpartition("}")[2]


def _content(found: dict[str, ET.Element], name: str) -> str:
    return (found[name].text or "") if name in found else ""


def plain_text(markup: str) -> str:
    """The running text of wiki markup: paragraphs and headings, with a blank line between them.

    Left out are tables, references, files, categories, formulas, most templates, and sections of sources and links.
    """
    blocks: list[tuple[int, str]] = []  # level of a heading (0: text), and its text
    current = ""
    for node in mwparserfromhell.parse(markup, skip_style_tags=True).nodes:
        if isinstance(node, Heading):
            blocks += [(0, _tidy(current)), (node.level, _tidy(_text(node.title)))]
            current = ""
        else:
            current += _node_text(node)
    blocks.append((0, _tidy(current)))
    return plain_characters("\n\n".join(_readable(blocks)))


def _readable(blocks: list[tuple[int, str]]) -> list[str]:
    """The blocks without sections of sources and links, and without headings of empty sections."""
    chosen: list[tuple[int, str]] = []
    hidden = 0
    for level, text in blocks:
        if level and (not hidden or level <= hidden):
            hidden = level if text.lower() in BACK_MATTER else 0
        if not hidden and text:
            chosen.append((level, text))
    result: list[str] = []
    below = 7  # the level of the heading that follows; a section is empty where that is as high
    for level, text in reversed(chosen):
        if not level or (result and level < below):
            result.append(text)
            below = level or 7
    return result[::-1]


def _text(code: Wikicode | None) -> str:
    return "".join(_node_text(node) for node in code.nodes) if code is not None else ""


def _node_text(node: object) -> str:
    if isinstance(node, Text):
        return REFERENCE.sub(lambda found: html.unescape(found[0]), str(node))
    if isinstance(node, Wikilink):
        return _link_text(node)
    if isinstance(node, ExternalLink):
        return _text(node.title)
    if isinstance(node, HTMLEntity):
        # As browsers do: U+FFFD where the number is that of no character.
        return html.unescape(str(node))
    if isinstance(node, Tag):
        name = str(node.tag).strip().lower()
        if name == "br":
            return "\n"
        return "" if name in NO_TEXT else _text(node.contents)
    if isinstance(node, Template):
        words = INLINE.get(str(node.name).strip().lower(), ())
        return " ".join(_text(node.get(place).value).strip() for place in words if node.has(place))
    return ""  # comments and arguments


def _link_text(link: Wikilink) -> str:
    title = str(link.title).strip()
    prefix = PREFIX.match(title)
    # Shown are links to other wikis that have a text; a colon in front shows any link as a link.
    if prefix and (link.text is None or prefix[1][0].isupper() or prefix[1] in ("file", "image", "category")):
        return ""
    return title.removeprefix(":") if link.text is None else _text(link.text)


def _tidy(text: str) -> str:
    for pattern, replacement in LEFT_OVER:
        text = pattern.sub(replacement, text)
    return text.strip()

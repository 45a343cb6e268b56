"""From the lines of a printed page to running text."""

import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set
from itertools import zip_longest

# The Latin ligatures, ff to st. Only they are taken apart: NFKC of everything would turn CO₂ into CO2, m² into m2.
LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
SOFT_HYPHEN = "\u00ad"
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
BLANKS = re.compile(r"[^\S\n]+")
# Running titles and page numbers stand on the outermost lines of a page, on so many at most.
EDGE = 3
LONGEST_TITLE = 200
# A line at the edge of so many pages is a running one, whatever the document's length.
OFTEN = 5
PAGE_NUMBER = re.compile(r"\W*(page\s+)?(\d+|[ivx]{1,7})(\s*(of|/)\s*\d+)?\W*", re.IGNORECASE)
NUMBERED_HEADING = re.compile(r"(\d+(\.\d+)*|[A-Z](\.\d+)+)\.?\s+\S*[^\W\d_].*")
SENTENCE_END = re.compile(r"[.!?:。！？：][\"'”’)\]」』）]*\Z")
LETTERS = re.compile(r"[^\W\d_]*")
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
WORD_AT_END = re.compile(r"[^\W\d_]+\Z")
LONGEST_WORD = 64
# After these a line goes on in the next one.
OPEN_ENDS = ",;-–—(\u00ad\u2010、，；（"
# Thai, Lao, Burmese and Khmer are written without blanks between words, as Chinese and Japanese are.
WITHOUT_BLANKS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
# A line that ends its paragraph is usually shorter than this share of the usual line.
SHORT = 0.8


def clean_pages(pages: Sequence[str]) -> str:
    """The text of a document from that of its pages: paragraphs, with a blank line between them.

    Ligatures are taken apart and control characters left out; running titles and page numbers go; words that were
    cut at a line's end are joined; lines become paragraphs.
    """
    lines = [[line.strip() for line in clean_characters(page).split("\n")] for page in pages]
    return join_lines([line for page in drop_running_lines(lines) for line in page])


def clean_characters(text: str) -> str:
    """Text without ligatures, control characters and runs of blanks; the lines stay.

    Left out are the categories Cc, Cs and Co of Unicode (control, surrogate, private use), invisible spaces, and soft
    hyphens within a line.
    """
    text = re.sub(r"\r\n?|[\f\v\x85\u2028\u2029]", "\n", text).translate(LIGATURES | INVISIBLE)
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Co"))
    lines = BLANKS.sub(" ", text).split("\n")
    return BLANKS.sub(" ", "\n".join(map(_without_soft_hyphens, lines)))


def _without_soft_hyphens(line: str) -> str:
    """The line without its soft hyphens, but for one at its end: that one says that the word goes on."""
    within = line.rstrip(f" {SOFT_HYPHEN}")
    end = line[len(within) :]
    return within.replace(SOFT_HYPHEN, "") + (SOFT_HYPHEN if SOFT_HYPHEN in end else end)


def drop_running_lines(pages: Sequence[Sequence[str]]) -> list[list[str]]:
    """Pages without the lines at their edges that repeat from page to page, page numbers, and blank lines there.

    Looked at are the first and last three lines that are not blank. One is a running line when it is at this edge,
    numbers aside, of a third of the pages, or of five pages; but always of two or more. A page of nothing but such
    lines keeps them, since they are its text.
    """
    written = [[i for i, line in enumerate(page) if line] for page in pages]
    running: list[set[int]] = [set() for _ in pages]
    numbers: list[set[int]] = [set() for _ in pages]
    often = max(2, min(OFTEN, len(pages) / 3))
    for edge in (slice(EDGE), slice(-EDGE, None)):
        masks = [{i: _mask(page[i]) for i in places[edge]} for page, places in zip(pages, written, strict=True)]
        counts = Counter(mask for page in masks for mask in set(page.values()) if mask)
        for index, places in enumerate(masks):
            running[index] |= {i for i, mask in places.items() if counts[mask] >= often}
            numbers[index] |= {i for i in places if PAGE_NUMBER.fullmatch(pages[index][i])}
    result = []
    for page, places, titles, digits in zip(pages, written, running, numbers, strict=True):
        texts = [i for i in places if i not in digits]
        kept = [i for i in texts if i not in titles] or texts
        chosen = set(kept)
        result.append([page[i] for i in range(kept[0], kept[-1] + 1) if i in chosen or not page[i]] if kept else [])
    return result


def _mask(line: str) -> str:
    """A line without what differs between left and right pages and from page to page, numbers; empty for a long one."""
    if len(line) > LONGEST_TITLE:
        return ""
    return re.sub(r"\d+", "0", re.sub(r"^[\W\d]+|[\W\d]+$", "", line.lower()))


def join_lines(lines: Sequence[str]) -> str:
    """Lines joined into paragraphs, with a blank line between two of them.

    Short are lines below four fifths of the usual length. A paragraph ends at a blank line, and after a short line
    that ends a sentence. A heading is a short line that does not: where a paragraph would begin, if the next line
    begins with a capital or a digit, and anywhere after a sentence, if it is numbered.
    """
    words = {word.lower() for line in lines for word in WORD.findall(line)}
    lengths = sorted(len(line) for line in lines if line)
    short = SHORT * lengths[len(lengths) * 3 // 4] if lengths else 0
    paragraphs: list[str] = []
    current: list[str] = []

    def end_paragraph() -> None:
        if current:
            paragraphs.append("".join(current))
            current.clear()

    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        ends = bool(SENTENCE_END.search(line))
        heading = 0 < len(line) < short and not ends and line[-1] not in OPEN_ENDS
        numbered = heading and NUMBERED_HEADING.fullmatch(line)
        if not line or (numbered and current and SENTENCE_END.search(current[-1])):
            end_paragraph()
        heading = heading and not current and (numbered or following[:1].isupper() or following[:1].isdigit())
        if current:
            current[-1] = before_line(current[-1], line, words)
        if line:
            current.append(line)
        if heading or (ends and len(line) < short):
            end_paragraph()
    end_paragraph()
    return "\n\n".join(paragraphs)


def before_line(text: str, line: str, words: Set[str]) -> str:
    """A line with what comes between it and the next: a blank, or nothing where a word was cut, maybe at a hyphen.

    Nothing, too, between lines of a script that is written without blanks, such as Chinese; Korean has them.

    ``assess-`` before ``ment`` becomes ``assess``, since a typesetter's hyphen is the usual case. The hyphen stays
    before a capital or a digit, and where ``words``, those of the document, have the hyphenated word and not the
    joined one.
    """
    if _joins(text[-1], line[:1]):
        return text
    if text[-1] in "–—" and text[-2:-1].isalnum():
        return text
    left = WORD_AT_END.search(text[-LONGEST_WORD:-1])
    if text[-1] not in "-\u2010\u00ad" or not left:
        return f"{text} "
    if text[-1] == SOFT_HYPHEN:
        return text[:-1]
    right = LETTERS.match(line)[0]
    if not right[:1].islower():
        return text
    start, end = left[0].lower(), right.lower()
    return text if f"{start}-{end}" in words and start + end not in words else text[:-1]


def _joins(last: str, first: str) -> bool:
    """Whether no blank stands between two characters, the last of a line and the first of the next."""
    without = [_is_without_blanks(c) for c in (last, first)]
    # Quotes, dashes and the ellipsis are the same in Latin and Chinese text.
    shared = [unicodedata.category(c)[0] == "P" and unicodedata.east_asian_width(c) == "A" for c in (last, first) if c]
    return bool(first) and any(without) and all(map(operator.or_, without, shared))


def _is_without_blanks(character: str) -> bool:
    if unicodedata.east_asian_width(character or " ") in "WF":
        return not unicodedata.name(character, "").startswith(("HANGUL", "HALFWIDTH HANGUL"))
    return bool(WITHOUT_BLANKS.match(character))

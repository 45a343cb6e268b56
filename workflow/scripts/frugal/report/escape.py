"""Text that comes from data, made harmless for each format: it prints as it is and means nothing."""

import html as html_library
import re
import unicodedata
from collections.abc import Callable, Iterator

MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$&~^])")
#: What would begin a list, a heading's rule or a thematic break where it stands first.
MARKDOWN_FIRST = re.compile(r"^(\d*)([-+=]|(?<=\d)[.)])(?=[\s=-]|$)")
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "-": "-{}",  # no ligature: two hyphens stay two hyphens
    "\u2014": "---",
    "\u2013": "--",
    "\u2212": "$-$",
    "\u200b": r"\allowbreak{}",
}
#: Latin letters that pdfLaTeX's standard fonts lack, and the soft hyphen, which prints nothing.
LATEX_LACKS = {0xAD, 0x126, 0x127, 0x138, 0x13F, 0x140, 0x149, 0x166, 0x167, 0x17F}
#: What they can print beside ASCII; anything else becomes an empty square.
LATEX_LETTERS = frozenset(
    chr(code)
    for code in (
        *(code for code in range(0xA1, 0x180) if code not in LATEX_LACKS),
        *(0x2013, 0x2014, 0x2018, 0x2019, 0x201C, 0x201D, 0x201E),  # dashes and quotation marks
        *(0x2022, 0x2026, 0x20AC, 0x2122, 0x2212),  # bullet, dots, euro, trade mark, minus
        0x200B,  # where a long word may break
    )
)
UNPRINTABLE = "\ufffd"
SQUARE = "□"
ZERO_WIDTH_SPACE = "\u200b"
#: A word longer than this may be broken anywhere in LaTeX, which otherwise lets it run over the margin.
LONGEST_WORD = 24
#: Where a path or a name may break: after its separators.
SEPARATED = re.compile(r"(?<=\w[/_=])(?=\w)|(?<=\w\w\.)(?=[A-Za-z])")
#: Letters alone, but for what stands around them.
WORD = re.compile(r"\W*[^\W\d_]+\W*")


def one_line(value: object) -> str:
    """A value as one line of printable text: white space becomes one space, control characters a mark.

    Invisible format characters count as control characters: they could turn the reading direction.
    """
    text = " ".join(str(value).split())
    return "".join(
        UNPRINTABLE if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn") else letter for letter in text
    )


def markdown(value: object) -> str:
    """Text for the inside of a Markdown line or table cell."""
    return markdown_line(one_line(value))


def markdown_line(line: str) -> str:
    """`markdown` for what `one_line` or `latex_letters` has made of a text."""
    return MARKDOWN_FIRST.sub(r"\1\\\2", MARKDOWN_SPECIAL.sub(r"\\\1", line))


def html(value: object) -> str:
    """Text for an HTML element or attribute."""
    return html_library.escape(one_line(value), quote=True)


def latex(value: object) -> str:
    """Text for the inside of a LaTeX line or table cell."""
    return "".join(LATEX_SPECIAL.get(letter, letter) for letter in latex_letters(value))


def breakable(value: object, quote: Callable[[str], str], mark: str, longest: int | None = None) -> str:
    """Text in which paths and names may break after their separators.

    Args:
        quote: `html` or `latex`.
        mark: what says in this format that a word may break.
        longest: how many letters fit on a line: what is longer, and no word that could be hyphenated, breaks anywhere.
    """

    def parts(word: str) -> Iterator[str]:
        for part in SEPARATED.split(word):
            if longest is None or len(part) <= longest or WORD.fullmatch(part):
                yield part
            else:
                yield from (part[start : start + longest] for start in range(0, len(part), longest))

    return " ".join(mark.join(quote(part) for part in parts(word)) for word in one_line(value).split())


def latex_letters(value: object) -> str:
    """Text in the letters that pdfLaTeX can print, with places to break words that are very long."""
    printable = "".join(letter if letter.isascii() or letter in LATEX_LETTERS else SQUARE for letter in one_line(value))
    return re.sub(rf"\S{{{LONGEST_WORD}}}(?=\S)", lambda match: match.group(0) + ZERO_WIDTH_SPACE, printable)

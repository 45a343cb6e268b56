"""Which characters are text: the encoding of a file, what is left out, and texts that no reader could decode."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
BEGINNING = 4096
LINE_END = re.compile(r"\r\n?|[\f\v\x85]")
CONTROL = re.compile(r"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
SURROGATE = re.compile("[\ud800-\udfff]")
# The last two code points of each plane, and 32 more, are no characters and never will be.
NONCHARACTER = re.compile(
    f"[\ufdd0-\ufdef{''.join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))}]"
)
# A file with more control characters than this share is no text.
MOST_CONTROLS = 0.1

# What readers of PDFs print for a glyph whose character they do not know.
GLYPH_NAMES = re.compile(r"\(cid:\d+\)|/([A-Za-z]{1,5})\d+(?:/\1\d+){2,}")
# Characters of these categories are no text: control, private use, unassigned.
NO_TEXT = ("Cc", "Co", "Cn")
MOST_UNKNOWN, FEWEST_UNKNOWN = 0.1, 10
# Numbers of a font's glyphs, taken for characters, are the characters' codes less 29 (TrueType) or 31 (CFF).
GLYPH_SHIFTS = (29, 31)
FEWEST_LETTERS = 30
VOWELS = frozenset("aeiouyAEIOUY")
# A page of mixed scripts has whole words of each; here pairs of neighbouring letters of two scripts are counted.
LETTERS = re.compile(r"[^\W\d_]{2,}")
MOST_MIXED, FEWEST_MIXED = 0.2, 10
# Japanese, Chinese and Korean mix these within a word.
EAST_ASIAN = frozenset(("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH"))


def encoding_of(path: Path) -> str:
    """The encoding of a text file: UTF-16 or UTF-32 by its byte-order mark or its zero bytes, UTF-8 otherwise.

    Without a mark, UTF-16 of mostly Latin letters has zeros at most even or at most odd places, and few elsewhere.
    """
    with open(path, "rb") as stream:
        head = stream.read(BEGINNING)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 > len(head) and min(even, odd) * 8 < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8-sig"


def plain_characters(text: str) -> str:
    """Text that any file can hold: every line end is ``\\n``, control characters and byte-order marks are left out.

    Halves of a surrogate pair become their character, and U+FFFD where the other half is missing; so do noncharacters.
    """
    if SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return NONCHARACTER.sub("\ufffd", CONTROL.sub("", LINE_END.sub("\n", text)))


def one_line(text: str) -> str:
    """The plain characters of a name or title, with single blanks between its words."""
    return " ".join(plain_characters(text).split())


def is_binary(text: str) -> bool:
    """Whether more than a tenth of the characters are control characters."""
    return len(CONTROL.findall(text)) > MOST_CONTROLS * len(text)


def is_undecoded(text: str) -> bool:
    """Whether a text layer holds numbers of glyphs where characters should be, as of a font without a ToUnicode map.

    It does by one of three rules, each by counts of characters and none by words, so that the language does not matter:

    - At least ten, and a tenth of all but blanks, are unknown: control, private use or unassigned characters, U+FFFD,
      or names of glyphs such as ``(cid:12)``.
    - The letters are mostly capitals with few vowels, and the same text moved by 29 or 31 codes, which is how fonts
      often number glyphs, is nearly all letters, mostly small, with the vowels that a language has.
    - At least ten, and a fifth, of the pairs of neighbouring letters are of two scripts.
    """
    without_names = GLYPH_NAMES.sub("", text)
    named = len(text) - len(without_names)
    characters = Counter("".join(without_names.split()))
    unknown = named + sum(
        count for c, count in characters.items() if c == "\ufffd" or unicodedata.category(c) in NO_TEXT
    )
    if unknown >= max(FEWEST_UNKNOWN, MOST_UNKNOWN * (characters.total() + named)):
        return True
    return _is_shifted(characters) or _is_mixed(text)


def _is_shifted(characters: Counter[str]) -> bool:
    letters = _only(characters, str.isalpha)
    if letters.total() < FEWEST_LETTERS or _only(letters, str.isupper).total() < 0.7 * letters.total():
        return False
    vowels = _share_of_vowels(letters)
    printed = _only(characters, str.isprintable)
    for shift in GLYPH_SHIFTS:
        moved = Counter({chr(ord(c) + shift): count for c, count in printed.items() if ord(c) + shift < 0x7F})
        moved_letters = _only(moved, str.isalpha)
        if (
            moved_letters.total() > 0.85 * printed.total()
            and _only(moved, str.islower).total() > 0.7 * printed.total()
            and _share_of_vowels(moved_letters) > max(0.3, vowels + 0.08)
        ):
            return True
    return False


def _is_mixed(text: str) -> bool:
    pairs = Counter(pair for word in LETTERS.findall(text) for pair in pairwise(word))
    mixed = sum(count for (a, b), count in pairs.items() if _script(a) != _script(b))
    return mixed >= max(FEWEST_MIXED, MOST_MIXED * pairs.total())


def _script(letter: str) -> str:
    """The first word of a letter's name: LATIN SMALL LETTER A."""
    word = unicodedata.name(letter, "").split(" ")[0]
    return "CJK" if word in EAST_ASIAN else word


def _only(characters: Counter[str], wanted: Callable[[str], bool]) -> Counter[str]:
    return Counter({c: count for c, count in characters.items() if wanted(c)})


def _share_of_vowels(letters: Counter[str]) -> float:
    return sum(count for c, count in letters.items() if unicodedata.normalize("NFD", c)[0] in VOWELS) / letters.total()

"""From printed lines to running text: each rule by an example worked out by hand, and what holds for any text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.data.documents.cleaning import before_line, clean_characters, clean_pages, drop_running_lines, join_lines

LIGATURES = "ﬀﬁﬂﬃﬄﬅﬆ"
PIECES = st.lists(
    st.sampled_from([*LIGATURES, "\n", "\r\n", " ", "\t", "-", "\u00ad", "\x00", "\ud800", "\ufeff", ".", "7", "A"])
    | st.text(max_size=5)
).map("".join)


def written(text: str) -> str:
    """The characters that are not blank, with ligatures taken apart by the standard's own table."""
    apart = "".join(unicodedata.normalize("NFKC", c) if c in LIGATURES else c for c in text)
    return "".join(apart.split())


def is_subsequence(part: str, whole: str) -> bool:
    letters = iter(whole)
    return all(letter in letters for letter in part)


def test_only_ligatures_are_taken_apart() -> None:
    assert clean_characters("eﬃcient ﬁelds, CO₂ in m² at 5 µm ½") == "efficient fields, CO₂ in m² at 5 µm ½"


def test_characters_that_are_no_text_go() -> None:
    assert clean_characters("a\x00b\x07 c\ud800d \ue001e\ufefff") == "ab cd ef"
    assert clean_characters("one\t two\xa0\u2009three\r\nfour\fﬁve") == "one two three\nfour\nfive"
    # A soft hyphen within a line goes; one at its end says that the word goes on.
    assert clean_characters("cli\u00admate cli\u00ad\nmate") == "climate cli\u00ad\nmate"
    assert clean_characters("\u00ad\u00adtwo \u00ad \u00ad\u00adwords\u00ad \u00ad\nmore") == "two words\u00ad\nmore"


@given(PIECES)
def test_cleaning_characters_twice_changes_nothing_more(text: str) -> None:
    once = clean_characters(text)
    assert clean_characters(once) == once
    assert not set(once) & set(LIGATURES)


@given(st.lists(PIECES, max_size=4))
def test_nothing_is_invented_and_everything_left_can_be_stored(pages: list[str]) -> None:
    text = clean_pages(pages)
    text.encode()
    assert not set(text) & {*LIGATURES, "\r", "\x00", "\ufeff"}
    assert is_subsequence(written(text), written("".join(pages)))


@given(st.lists(st.text("abcd,- 1", min_size=0, max_size=12)))
def test_joining_lines_loses_blanks_and_hyphens_only(lines: list[str]) -> None:
    lines = [" ".join(line.split()) for line in lines]
    joined = join_lines(lines)
    assert written(joined).replace("-", "") == written("".join(lines)).replace("-", "")


@pytest.mark.parametrize(
    ("text", "line", "words", "expected"),
    [
        ("the assess-", "ment of", set(), "the assess"),
        ("the assess\u2010", "ment of", set(), "the assess"),
        ("the assess\u00ad", "ment of", set(), "the assess"),
        # The document's own words decide: it writes "long-term" elsewhere, and never "longterm".
        ("a long-", "term aim", {"long-term"}, "a long-"),
        ("a long-", "term aim", {"long-term", "longterm"}, "a long"),
        ("A Long-", "term aim", {"long-term"}, "A Long-"),
        ("of non-", "European", set(), "of non-"),
        ("carbon-", "13 falls", set(), "carbon-"),
        ("in 2010-", "2019", set(), "in 2010- "),
        ("ocean–", "atmosphere", set(), "ocean–"),
        ("so –", "it seems", set(), "so – "),
        ("plain", "words", set(), "plain "),
        ("山脉的冰川已经失去了", "大部分冰。", set(), "山脉的冰川已经失去了"),
        ("氷河は減って", "いる。", set(), "氷河は減って"),
        ("他说：“", "你好", set(), "他说：“"),
        ("水量减少。", "河流", set(), "水量减少。"),
        ("データ", "ベース", set(), "データ"),
        ("산맥의 빙하는", "얼음의", set(), "산맥의 빙하는 "),
        ("ธารน้ำ", "แข็ง", set(), "ธารน้ำ"),
        ("使用", "Python", set(), "使用 "),
        ("the “", "quoted”", set(), "the “ "),
    ],
)
def test_a_word_that_was_cut_is_joined(text: str, line: str, words: set[str], expected: str) -> None:
    assert before_line(text, line, words) == expected


def test_running_titles_and_page_numbers_go() -> None:
    pages = [
        ["Chapter 3", "Oceans store heat.", "1"],
        ["Report 2 Chapter 3", "", "They also", "store carbon.", "", "– 2 –"],
        ["3 Report Chapter 3", "Chapter 3 is", "long and has", "more lines.", "Page 3 of 4"],
        ["Report 4 Chapter 3", "The end.", "iv"],
    ]
    # The first title stands on one page only; "report 0 chapter" (the masked form) on pages 2 and 4, and on the third
    # without the inner number. Two of four pages are a third or more. Inside a page the same words stay.
    assert drop_running_lines(pages) == [
        ["Chapter 3", "Oceans store heat."],
        ["They also", "store carbon."],
        ["3 Report Chapter 3", "Chapter 3 is", "long and has", "more lines."],
        ["The end."],
    ]


def test_a_running_title_needs_two_pages_and_five_are_enough_in_a_long_document() -> None:
    alone = ["A title", "text one", "text two", "text three"]
    assert drop_running_lines([alone]) == [alone]
    pages = [[f"body {chr(97 + i % 26)}{chr(97 + i // 26)}" for _ in range(8)] for i in range(60)]
    for page in pages[10:15]:
        page.insert(0, "Chapter Five")
    assert all("Chapter Five" not in page for page in drop_running_lines(pages)[10:15])


def test_a_page_of_running_lines_keeps_them_as_its_text() -> None:
    assert drop_running_lines([["Station 1 was dry.", "1"], ["Station 2 was dry.", "2"]]) == [
        ["Station 1 was dry."],
        ["Station 2 was dry."],
    ]


def test_left_and_right_pages_carry_their_number_on_other_sides() -> None:
    pages = [["Body of one."] * 4 + ["Journal of Ice 1"], ["Body of two."] * 4 + ["2 Journal of Ice"]]
    assert drop_running_lines(pages) == [["Body of one."] * 4, ["Body of two."] * 4]


def test_pages_become_paragraphs() -> None:
    pages = [
        "Notes on Ice 1\n1.1 Ice and light\nIce reﬂects a large share of the sunlight, and the as-\n"
        "sessment of its area is a long-term task.\nDark water takes up most of the light that it gets and",
        "Notes on Ice 2\nwarms, which melts more ice. The long-\nterm trend is clear in the records of all seasons.\n\n"
        "A new paragraph.",
    ]
    assert clean_pages(pages) == (
        "1.1 Ice and light\n\n"
        "Ice reflects a large share of the sunlight, and the assessment of its area is a long-term task.\n\n"
        "Dark water takes up most of the light that it gets and warms, which melts more ice. "
        "The long-term trend is clear in the records of all seasons.\n\n"
        "A new paragraph."
    )


def test_unnumbered_headings_stand_alone() -> None:
    lines = ["Chapter summary", "The air holds more water when", "it is warm, and rain is heavier", "as a result."]
    assert join_lines(lines) == (
        "Chapter summary\n\nThe air holds more water when it is warm, and rain is heavier as a result."
    )


def test_nothing_gives_nothing() -> None:
    assert clean_pages([]) == clean_pages(["", " \n\t"]) == ""

"""What is text and what is none: by examples in many scripts, since the rules must not depend on the language."""

import pytest

from frugal.data.documents.characters import is_undecoded, one_line, plain_characters

SENTENCE = "The glaciers of the range have lost much of their ice, and the rivers below them carry less water."


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\r\nb\rc\fd\x85e", "a\nb\nc\nd\ne"),
        ("\ufeffa\0b\x07c\x1b\x7f\x92\td", "abc\td"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("\ud83c\udf0d", "\U0001f30d"),  # both halves of a pair
        ("\ufffe\uffff\ufdd0\U0010ffff", "\ufffd" * 4),
        ("a\u2028b\xa0c \ue000", "a\u2028b\xa0c \ue000"),
    ],
)
def test_plain_characters(text: str, plain: str) -> None:
    assert plain_characters(text) == plain
    assert plain_characters(plain) == plain


def test_a_title_is_one_line() -> None:
    assert one_line(" A\0 title\r\nof  two\ud800 ") == "A title of two\ufffd"


def shifted(codes: int, blank: str) -> str:
    """The sentence as numbers of glyphs, with another character where a font has its blank."""
    return "".join(blank if c == " " else chr(ord(c) - codes) for c in SENTENCE)


@pytest.mark.parametrize("blank", ["\x03", " ", ""])
@pytest.mark.parametrize("codes", [29, 31])
def test_numbers_of_glyphs_are_no_text(codes: int, blank: str) -> None:
    text = shifted(codes, blank)
    assert text.startswith("7KH" if codes == 29 else "5IF")
    assert is_undecoded(text)


@pytest.mark.parametrize(
    "text",
    [
        "/g3/g12/g44 /g7/g8/g99" * 3,
        "(cid:12)(cid:3)(cid:44)" * 3,
        "\ufffd" * 10,
        "\ue001\ue002\ue003\ue004" * 5,
        # Glyphs of an Asian font, 37 apart: neighbours come from Cyrillic, Arabic, Thai, Ethiopic, Cherokee.
        "".join(chr(1200 + 997 * i % 5000) for i in range(60)),
    ],
)
def test_other_text_layers_that_nothing_decoded(text: str) -> None:
    assert is_undecoded(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ice.",
        "7KH",
        SENTENCE,
        SENTENCE.upper(),
        "DIE GLETSCHER HABEN VIEL EIS VERLOREN, UND DIE FLÜSSE FÜHREN WENIGER WASSER.",
        "Na vrh brda vrba mrda. Strč prst skrz krk, crn prst.",
        "Các sông băng của dãy núi đã mất phần lớn băng của chúng.",
        "Ледники потеряли большую часть льда. РЕКИ НЕСУТ МЕНЬШЕ ВОДЫ.",
        "Οι παγετώνες της οροσειράς έχουν χάσει μεγάλο μέρος του πάγου τους.",
        "فقدت الأنهار الجليدية في السلسلة الجبلية الكثير من جليدها",
        "הקרחונים של הרכס איבדו חלק גדול מהקרח שלהם",
        "पर्वत श्रृंखला के हिमनदों ने अपनी बहुत सी बर्फ खो दी है",
        "ธารน้ำแข็งของเทือกเขาได้สูญเสียน้ำแข็งไปมาก",
        "山脈の氷河は氷の大部分を失った。グラフもＣＯ２も減っている。",
        "산맥의 빙하는 얼음의 많은 부분을 잃었고 강물은 줄었다.",
        "የተራራው የበረዶ ግግር ብዙ በረዶ አጥቷል",
        "English Deutsch Ελληνικά Русский العربية עברית हिन्दी 日本語 한국어 ไทย ქართული",
        "Year CO2 CH4 N2O\n1990 354.2 1714 308.5\n" * 20,
        "HDL LDL TSH\n5.2 3.1 1.4\n" * 40,  # capitals that would be vowels, moved by 29
        "\uf0b7 ice is lost in summer\n" * 30,  # a bullet of the Symbol font
        "ACGTTGCAAGCT" * 30,
        "∑ xᵢ ≤ ∫ f(x) dx, α β γ ℝ ∞ " * 5,
        "1 Methods ............ 3\n" * 9,
    ],
)
def test_text_of_any_script_is_text(text: str) -> None:
    assert not is_undecoded(text)

"""Texts from files: WikiText as it is, and text files and JSON lines with all that can be wrong with them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.data.documents.texts import read_text, read_wikitext
from frugal.errors import FrugalError

# In the manner of the real files: a blank line first, headings in blank lines, tokens set apart.
WIKITEXT = (
    " \n = Harbour of Lindow = \n \n The harbour was built in the last century . \n = = History = = \n"
    " Its walls @-@ all of granite \u2013 stand today . \n The sum is \n = 7 = \n \n"
    " = Lighthouse = \n \n A tower . \n"
)


def articles(path: Path) -> list[tuple[str, str]]:
    return [(document.name, document.text) for document in read_wikitext(path, "test", path.name)]


def test_articles_of_wikitext(tmp_path: Path) -> None:
    path = tmp_path / "wiki.test.raw"
    path.write_text(WIKITEXT)
    first, second = read_wikitext(path, "test", "wiki.test.raw")
    assert (first.name, second.name) == ("Harbour of Lindow", "Lighthouse")
    # " = 7 = " follows a line of text, and so is none.
    assert second.text == " = Lighthouse = \n \n A tower . \n"
    assert (second.split, second.file, second.status) == ("test", "wiki.test.raw", "kept")


@given(st.lists(st.sampled_from([" = A = \n", " \n", " = = B = = \n", "text\r\n", "\u2028", "\n", "=", " = C =", "é"])))
def test_joined_articles_are_the_file_but_for_line_ends(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("wikitext") / "wiki.raw"
    path.write_bytes("".join(parts).encode())
    assert "".join(text for _, text in articles(path)).encode() == path.read_bytes().replace(b"\r\n", b"\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_wikitext_of_other_line_ends_and_encodings_gives_the_same_articles(
    tmp_path: Path, end: str, encoding: str
) -> None:
    path = tmp_path / "wiki.raw"
    # Without the blank line at the beginning the first title comes right after the byte-order mark.
    path.write_bytes(WIKITEXT[2:].replace("walls", "wa\0lls").replace("\n", end).encode(encoding))
    first, second = articles(path)
    assert (first[0], second[0]) == ("Harbour of Lindow", "Lighthouse")
    assert first[1] + second[1] == WIKITEXT[2:]


def test_wikitext_without_a_title_or_without_anything(tmp_path: Path) -> None:
    path = tmp_path / "wiki.valid.raw"
    path.write_text("no title \n")
    assert articles(path) == [("wiki.valid", "no title \n")]
    path.write_text("")
    assert articles(path) == []
    path.write_bytes(b" = A = \n\xff")
    with pytest.raises(FrugalError, match=r"wiki\.valid\.raw: is not UTF-8"):
        articles(path)


def read(tmp_path: Path, name: str, data: bytes, skip: bool = True, text_field: str = "text") -> list:
    (tmp_path / name).write_bytes(data)
    return list(read_text(tmp_path / name, f"in/{name}", "train", text_field, skip))


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "a.txt", "\ufeffOne\r\ntwo ﬁ\n".encode())
    assert (document.name, document.title, document.text) == ("in/a.txt", "a", "One\ntwo ﬁ\n")
    assert (document.split, document.file) == ("train", "in/a.txt")
    # One giant line is a text like any other.
    (document,) = read(tmp_path, "line.txt", b"word " * 400_000)
    assert len(document.text) == 2_000_000


@pytest.mark.parametrize("data", [b"", b" \n\t\n"])
def test_an_empty_file_is_skipped(tmp_path: Path, data: bytes) -> None:
    (document,) = read(tmp_path, "a.txt", data, skip=False)
    assert (document.status, document.reason, document.text) == ("skipped", "empty", "")


def test_a_file_in_another_encoding_is_skipped_or_an_error(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "a.txt", "Düne".encode("latin-1"))
    assert (document.status, document.reason) == ("skipped", "not UTF-8")
    with pytest.raises(FrugalError, match=r"a\.txt: not UTF-8; correct it, or set 'on_bad_rows: skip'"):
        read(tmp_path, "a.txt", b"\xff", skip=False)


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"body": "One", "id": 7, "title": "First"}, {"body": "Two"}, {"body": " ", "id": ""}]
    data = b"\n".join(json.dumps(row).encode() for row in rows) + b"\n\n"
    documents = read(tmp_path, "a.jsonl", data, skip=False, text_field="body")
    assert [(d.name, d.title, d.text, d.reason) for d in documents] == [
        ("7", "First", "One", ""),
        ("in/a.jsonl:2", "in/a.jsonl:2", "Two", ""),
        ("in/a.jsonl:3", "in/a.jsonl:3", "", "empty"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["text"]', "not a JSON object"),
        (b'{"txt": "x"}', "no text under the key 'text'"),
        (b'{"text": 3}', "no text under the key 'text'"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (rb'{"text": "\ud800"}', "not UTF-8"),
    ],
)
def test_bad_lines_are_skipped_or_an_error(tmp_path: Path, line: bytes, reason: str) -> None:
    good = b'{"text": "good"}'
    documents = read(tmp_path, "a.jsonl", b"\n".join([good, line, good]))
    assert [(d.name, d.status, d.reason) for d in documents] == [
        ("in/a.jsonl:1", "kept", ""),
        ("in/a.jsonl:2", "skipped", reason),
        ("in/a.jsonl:3", "kept", ""),
    ]
    with pytest.raises(FrugalError, match=r"a\.jsonl, line 2: "):
        read(tmp_path, "a.jsonl", b"\n".join([good, line]), skip=False)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_by_its_mark_or_its_zeros(tmp_path: Path, encoding: str) -> None:
    data = '{"text": "Düne\u2014one"}\r\n{"text": "two"}\r\n'
    (document,) = read(tmp_path, "a.txt", "Düne\r\u2014one".encode(encoding))
    assert (document.status, document.text) == ("kept", "Düne\n\u2014one")
    assert [d.text for d in read(tmp_path, "a.jsonl", data.encode(encoding), skip=False)] == ["Düne\u2014one", "two"]
    # Cut within a character: a reason, and no traceback.
    reasons = [d.reason for d in read(tmp_path, "b.jsonl", data.encode("utf-16")[:-1])]
    assert reasons[-1] == "not UTF-8"


def test_control_characters_go_and_a_binary_file_is_no_text(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "a.txt", b"A harbour\0 of gra\x07nite walls.")
    assert document.text == "A harbour of granite walls."
    (document,) = read(tmp_path, "a.txt", bytes(range(32)) * 4 + b"words")
    assert (document.status, document.reason) == ("skipped", "not text")
    (document,) = read(tmp_path, "a.jsonl", rb'{"text": "a\u0000b\r\nc"}')
    assert document.text == "ab\nc"
    (document,) = read(tmp_path, "a.jsonl", rb'{"text": "\u0000\ufeff "}')
    assert (document.status, document.reason) == ("skipped", "empty")


def test_an_array_of_json(tmp_path: Path) -> None:
    rows = [{"output": "One", "id": 7}, {"output": "Two"}, {"input": ""}, 5]
    data = json.dumps(rows, indent=1).encode()
    documents = read(tmp_path, "alpaca.json", data, text_field="output")
    assert [(d.name, d.text, d.reason) for d in documents] == [
        ("7", "One", ""),
        ("in/alpaca.json:2", "Two", ""),
        ("in/alpaca.json:3", "", "no text under the key 'output'"),
        ("in/alpaca.json:4", "", "not a JSON object"),
    ]
    with pytest.raises(FrugalError, match=r"record 1: no text under the key 'text' \(its keys: 'output', 'id'; see"):
        read(tmp_path, "alpaca.json", data, skip=False)
    # The same name is also given to JSON lines.
    assert [d.text for d in read(tmp_path, "a.json", b'{"text": "One"}\n{"text": "Two"}\n')] == ["One", "Two"]


@pytest.mark.parametrize("text", ['[{"text": "One"}]', '{"text": "One"}\n{"text": "Two"}\n', '{\n "a": 1\n}'])
def test_json_is_no_prose(tmp_path: Path, text: str) -> None:
    (document,) = read(tmp_path, "a.txt", text.encode())
    assert (document.status, document.reason) == (
        "skipped",
        "JSON in a file that is not named .json, .jsonl or .ndjson",
    )
    with pytest.raises(FrugalError, match=r"a\.txt: JSON in a file that is not named \.json, \.jsonl or \.ndjson"):
        read(tmp_path, "a.txt", text.encode(), skip=False)


@pytest.mark.parametrize("text", ["[1] Harbours of granite.", "[1]\nA note.", "{braces} in prose", "[", "{}"])
def test_prose_may_begin_with_a_bracket(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "a.txt", text.encode(), skip=False)[0].text == text

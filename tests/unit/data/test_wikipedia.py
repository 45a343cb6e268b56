"""Wiki markup to text, and exports that are whole, cut off, or none."""

import bz2
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from frugal.data.documents.wikipedia import plain_text, read_wikipedia
from frugal.errors import FrugalError


def export(*pages: tuple[str, int, str, str], version: str = "0.10") -> bytes:
    """An export with pages of title, namespace, redirect and markup."""
    body = "".join(
        f"<page><title>{escape(title)}</title><ns>{space}</ns><id>1</id>{redirect}"
        f"<revision><id>5</id><text>{escape(markup)}</text></revision></page>"
        for title, space, redirect, markup in pages
    )
    head = (
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-{version}/"><siteinfo><sitename>W</sitename></siteinfo>'
    )
    return f"{head}{body}</mediawiki>".encode()


PAGES = export(
    ("Dune", 0, "", "'''Dunes''' are hills of [[sand]] & stone."),
    ("Dunes", 0, '<redirect title="Dune" />', "#REDIRECT [[Dune]]"),
    ("Talk:Dune", 1, "", "Is this right?"),
    ("Sand", 0, "", "Sand is fine."),
)


@pytest.mark.parametrize(
    "data", [PAGES, bz2.compress(PAGES), b'<?xml version="1.0"?>\n' + PAGES.replace(b"0.10", b"0.11")]
)
def test_pages_of_an_export(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "dump").write_bytes(data)
    documents = list(read_wikipedia(tmp_path / "dump", "dump.xml"))
    assert [(d.name, d.text, d.status, d.reason) for d in documents] == [
        ("Dune", "Dunes are hills of sand & stone.", "kept", ""),
        ("Dunes", "", "skipped", "redirect"),
        ("Talk:Dune", "", "skipped", "not an article"),
        ("Sand", "Sand is fine.", "kept", ""),
    ]
    assert {d.file for d in documents} == {"dump.xml"}


BOMB = b'<!DOCTYPE mediawiki [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no MediaWiki export"),
        (b"<html></html>", "is no MediaWiki export"),
        (BOMB + PAGES, "is no MediaWiki export"),
        (b"<!-- <mediawiki> -->" + BOMB + PAGES, "is no MediaWiki export"),
        (b"<mediawiki>" + BOMB + b"</mediawiki>", "cut off or damaged"),
        (PAGES[:-20], "cut off or damaged"),
        (PAGES.replace(b"</title>", b"</titel>", 1), "cut off or damaged"),
        (bz2.compress(PAGES)[:-10], "cut off or damaged"),
        (bz2.compress(PAGES)[:40] + b"\0" * 40, "cut off or damaged"),
        (b'<?xml version="1.0" encoding="none-such"?>' + PAGES, "cut off or damaged"),
    ],
)
def test_a_damaged_export_is_an_error_that_names_the_file(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "dump.bz2").write_bytes(data)
    with pytest.raises(FrugalError, match=rf"dump\.bz2: .*{words}"):
        list(read_wikipedia(tmp_path / "dump.bz2"))


def test_pages_are_read_as_a_stream(tmp_path: Path) -> None:
    # The end is damaged, and the first page is there all the same before it is met.
    data = export(*[(f"Page {i}", 0, "", "Some words of text. " * 500) for i in range(50)])
    (tmp_path / "dump").write_bytes(data[:-5])
    assert next(read_wikipedia(tmp_path / "dump")).name == "Page 0"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''italic''.", "Bold and italic."),
        ("A [[link]], a [[page|name]], [[:de:Sand|Sand]], [[wikt:dune|dune]].", "A link, a name, Sand, dune."),
        ("[[File:Map.png|thumb|left|A [[map]] of it]]Text[[Category:Maps]][[de:Karte]]", "Text"),
        ("See [http://example.org the site] or [http://example.org].", "See the site or."),
        ("Fact.<ref name=x>Source {{cite|a}}</ref> More.<ref name=x /><!-- hidden -->", "Fact. More."),
        ("Before\n{| class=x\n! head\n|-\n| cell {{x}}\n|}\nafter", "Before\n\nafter"),
        ("It is {{convert|12|km|mi}} to {{lang|fr|Paris}}, {{nowrap|or so}}.", "It is 12 km to Paris, or so."),
        ("Dune ({{IPA|x}}; {{lang-de|y}}) is a hill ({{x}}, from Latin).", "Dune is a hill (from Latin)."),
        ("a&nbsp;b &ndash; c&amp;d CO<sub>2</sub><br/>next", "a b – c&d CO2\nnext"),
        ("* one\n* two\n# three\n: four", "one\ntwo\nthree\nfour"),
        ("Sum <math>x^2</math>\n\n\n\n<gallery>\nA.png|a\n</gallery>\nend __NOTOC__", "Sum\n\nend"),
        ("{| broken\n| cell\ntext", "text"),
        ("Intro.\n== A ==\n=== B ===\nText.\n== C ==\n== References ==\n=== Books ===\nX.\n== D ==\nLast.",
         "Intro.\n\nA\n\nB\n\nText.\n\nD\n\nLast."),
        ("", ""),
    ],
)  # fmt: skip
def test_markup_becomes_running_text(markup: str, text: str) -> None:
    assert plain_text(markup) == text


@pytest.mark.parametrize(
    ("reference", "text"),
    [("&#xD800;", "\ufffd"), ("&#0;", "\ufffd"), ("&#x110000;", "\ufffd"), ("&#146;", "’"), ("&#7;", "")],
)
def test_a_reference_to_no_character_costs_no_page(tmp_path: Path, reference: str, text: str) -> None:
    pages = [("One", 0, "", "First."), ("Two", 0, "", f"a{reference}b"), ("Three", 0, "", "Last.")]
    (tmp_path / "dump").write_bytes(export(*pages))
    assert [d.text for d in read_wikipedia(tmp_path / "dump")] == ["First.", f"a{text}b", "Last."]


@pytest.mark.parametrize("opening", ["{{", "[[", "<div>", "{|", "''", "<ref>", "("])
def test_markup_that_never_closes_is_no_error(opening: str) -> None:
    assert "word" in plain_text(opening * 2000 + "\n\nword")

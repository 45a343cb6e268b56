"""The project's own climate documents: complete, up to date with their sources, and as awkward as real ones."""

import hashlib
import re
from itertools import combinations
from pathlib import Path

import pytest
from pypdf import PdfReader

FOLDER = Path(__file__).parents[3] / "corpora" / "climate"
CHAPTERS = sorted(path.stem for path in FOLDER.glob("*.tex"))
DISCLAIMER = "Written for testing document pipelines; not a scientiﬁc source."


@pytest.fixture(scope="module")
def pages() -> dict[str, list[str]]:
    """The text of each page of each document, as pypdf reads it."""
    return {name: [page.extract_text() for page in PdfReader(FOLDER / f"{name}.pdf").pages] for name in CHAPTERS}


def sources(name: str) -> list[Path]:
    """What the Makefile hashes: the chapter, what it inputs and the style, in the order of their names."""
    inputs = re.findall(r"^\\input\{([\w-]+)\}", (FOLDER / f"{name}.tex").read_text(), re.MULTILINE)
    return sorted([FOLDER / "chapter.sty", *(FOLDER / f"{stem}.tex" for stem in [name, *inputs])])


def shingles(text: str) -> set[tuple[str, ...]]:
    """Runs of five words, with words hyphenated at a line end put together."""
    words = re.sub(r"-\n(?=[a-z])", "", text).split()
    return set(zip(*(words[start:] for start in range(5)), strict=False))


def test_every_chapter_has_its_pdf_and_the_other_way_round() -> None:
    assert len(CHAPTERS) == 13
    assert sorted(path.stem for path in FOLDER.glob("*.pdf")) == CHAPTERS
    assert sum(path.stat().st_size for path in FOLDER.glob("*.pdf")) < 2_000_000


@pytest.mark.parametrize("name", CHAPTERS)
def test_pdf_is_made_from_the_present_sources(name: str) -> None:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources(name))).hexdigest()
    keywords = PdfReader(FOLDER / f"{name}.pdf").metadata["/Keywords"]
    assert keywords == f"sources-sha256:{digest}", "run `make -C corpora/climate`"


def test_the_revised_chapter_depends_on_the_first_edition() -> None:
    names = [path.name for path in sources("13-sea-level-revised")]
    assert names == ["05-sea-level.tex", "13-sea-level-revised.tex", "chapter.sty"]


def test_sizes(pages: dict[str, list[str]]) -> None:
    assert min(len(document) for document in pages.values()) >= 2
    assert max(len(document) for document in pages.values()) >= 6
    first_editions = [" ".join(pages[name]) for name in CHAPTERS if not name.endswith("revised")]
    assert sum(len(text.split()) for text in first_editions) >= 15_000


def test_awkward_as_real_documents(pages: dict[str, list[str]]) -> None:
    two_columns = [name for name in CHAPTERS if "twocolumn" in (FOLDER / f"{name}.tex").read_text()]
    assert len(two_columns) >= 4
    text = "".join(page for document in pages.values() for page in document)
    assert set("ﬀﬁﬂﬃﬄ") <= set(text)
    assert "CO2" in text
    assert "°C" in text
    for name, document in pages.items():
        whole = "\n".join(document)
        assert re.search(r"[a-z]-\n[a-z]", whole), name
        assert re.search(r"^Figure \d+\.1: ", whole, re.MULTILINE), name
        assert re.search(r"^Table \d+\.1: ", whole, re.MULTILINE), name
        assert re.search(r"^References$", whole, re.MULTILINE), name
        for number, page in enumerate(document, start=1):
            lines = page.splitlines()
            assert DISCLAIMER in lines[-1], (name, number)
            assert re.search(rf"(Chapter \d+|Climate: A Collection of Chapters {number})", lines[0]), (name, number)


def test_only_the_revised_edition_is_a_near_duplicate(pages: dict[str, list[str]]) -> None:
    sets = {name: shingles("\n".join(document)) for name, document in pages.items()}
    jaccard = {(a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in combinations(CHAPTERS, 2)}
    revised = jaccard.pop(("05-sea-level", "13-sea-level-revised"))
    assert 0.85 < revised < 1
    assert max(jaccard.values()) < 0.1

"""Documents to tables: what is kept, what the manifest says of the rest, and the whole way by the scripts."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from frugal.data.documents import preparation as module
from frugal.data.documents.preparation import Document, write_documents
from frugal.errors import FrugalError

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
RAIN = "It rained for three days, the river rose over its banks, and the lower fields were flooded. " * 5
WIND = "A dry wind blew from the east for a week and took the soil of the ploughed fields with it. " * 5


@pytest.fixture
def write(tmp_path: Path):
    """A function that writes documents and gives the rows of both tables, and the summary."""

    def run(documents, **options):
        paths = [tmp_path / name for name in ("documents.parquet", "manifest.parquet", "summary.json")]
        facts = write_documents(iter(documents), *paths, folder=tmp_path / "raw", **options)
        assert json.loads(paths[2].read_text()) == facts
        return pq.read_table(paths[0]).to_pylist(), pq.read_table(paths[1]).to_pylist(), facts

    return run


def test_every_document_has_a_row_in_the_manifest_and_the_kept_ones_a_text(write) -> None:
    kept, manifest, facts = write(
        [
            Document("a.pdf", "A", RAIN, None, "a.pdf", pages=3, pages_skipped=1, note="a.pdf: page 2 was skipped"),
            Document("b.pdf", "b", "", None, "b.pdf", 2, 2, "skipped", "encrypted"),
            Document("c.pdf", "C", "Short.", None, "c.pdf", 1),
            Document("d.pdf", "D", RAIN + "The end.", None, "d.pdf", 3),
            Document("e.pdf", "E", WIND, "test", "e.pdf", 1),
            Document("f.pdf", "f", "", None, "f.pdf", 0, 0, "skipped", "broken: no such object"),
            Document("g.pdf", "g", "", None, "g.pdf", 0, 0, "skipped", "broken: ends too early"),
        ],
        source={"path": "reports"},
        min_characters=100,
        similarity=0.8,
    )
    # RAIN has 17 words five times over: 85 words and 460 characters.
    assert kept[0] == {
        "document": "a.pdf", "title": "A", "text": RAIN, "split": None, "characters": 460, "words": 85,
    }  # fmt: skip
    assert [(row["document"], row["split"]) for row in kept] == [("a.pdf", None), ("e.pdf", "test")]
    assert [(row["document"], row["status"], row["reason"]) for row in manifest] == [
        ("a.pdf", "kept", ""),
        ("b.pdf", "skipped", "encrypted"),
        ("c.pdf", "skipped", "too few characters"),
        ("d.pdf", "skipped", "near-duplicate of a.pdf"),
        ("e.pdf", "kept", ""),
        ("f.pdf", "skipped", "broken: no such object"),
        ("g.pdf", "skipped", "broken: ends too early"),
    ]
    assert manifest[0] | {"title": None} == {
        "document": "a.pdf", "title": None, "file": "a.pdf", "pages": 3, "pages_skipped": 1, "characters": 460,
        "status": "kept", "reason": "",
    }  # fmt: skip
    assert facts | {"outputs": None} == {
        "documents": 7,
        "kept": 2,
        "skipped": {"broken": 2, "encrypted": 1, "near-duplicate": 1, "too few characters": 1},
        "characters": len(RAIN) + len(WIND),
        "words": len(RAIN.split()) + len(WIND.split()),
        "near_duplicates": 1,
        "source": {"path": "reports"},
        "notes": ["a.pdf: page 2 was skipped"],
        "outputs": None,
    }


def test_everything_is_kept_where_nothing_is_asked_of_it(write) -> None:
    kept, _, facts = write([Document("a", "A", "x"), Document("b", "B", "x")])
    assert [row["text"] for row in kept] == ["x", "x"]
    assert facts["skipped"] == {}


def test_a_name_that_comes_again_gets_a_number(write) -> None:
    kept, manifest, _ = write([Document("a", "A", RAIN), Document("a", "A", WIND), Document("a", "A", RAIN)])
    names = ["a", "a (2)", "a (3)"]
    assert [row["document"] for row in kept] == [row["document"] for row in manifest] == names


def test_texts_are_written_as_they_pass(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_CHARACTERS", 1000)
    # A group is full at three texts of 400 characters: 20 texts make six groups and a rest of two.
    write(Document(str(i), "", "ab c" * 100) for i in range(20))
    file = pq.ParquetFile(tmp_path / "documents.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [3, 3, 3, 3, 3, 3, 2]


def test_the_same_documents_give_the_same_bytes(write, tmp_path: Path) -> None:
    documents = [Document("a", "A", RAIN), Document("b", "B", WIND, "train")]
    assert write(documents)[2]["outputs"] == write(documents)[2]["outputs"]


def test_no_usable_document_is_an_error_that_says_why_and_leaves_nothing(write, tmp_path: Path) -> None:
    documents = [Document(f"{i}.pdf", "", "", status="skipped", reason="encrypted") for i in range(11)]
    documents.append(Document("z.pdf", "", "", status="skipped", reason="broken: ends too early"))
    with pytest.raises(FrugalError, match=r"raw: holds no usable document; skipped: 1 broken, 11 encrypted: ") as error:
        write(documents)
    assert "0.pdf (encrypted), " in str(error.value)
    assert str(error.value).endswith("9.pdf (encrypted) ...")
    with pytest.raises(FrugalError, match="there is none at all"):
        write([])
    assert list(tmp_path.iterdir()) == []


def prepare(tmp_path: Path, source: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """Fetch and prepare a data set of one source, as a user does by hand."""
    table = tmp_path / "table.yaml"
    table.write_text(f"datasets:\n  mine:\n    title: Mine\n    sources: [{source}]\n{more}")
    named = ["--table", table, "--name", "mine"]
    fetched = run("fetch_source.py", *named, "--output", tmp_path / "raw", "--downloads", tmp_path / "dl")
    if fetched.returncode:
        return fetched
    outputs = [f"--documents={tmp_path}/d.parquet", f"--manifest={tmp_path}/m.parquet", f"--summary={tmp_path}/s.json"]
    return run("prepare_documents.py", *named, "--raw", tmp_path / "raw", *outputs)


def run(script: str, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_folder_of_texts_by_the_scripts(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    (folder / "rain.txt").write_text(RAIN)
    (tmp_path / "in" / "wind.jsonl").write_text(json.dumps({"text": WIND, "id": "wind"}) + "\n")
    (tmp_path / "in" / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "in" / "notes.md").write_text("not asked for")
    source = f"{{path: {tmp_path / 'in'}, format: text}}"
    failed = prepare(tmp_path, source)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "bad.txt: not UTF-8; correct it, or set 'on_bad_rows: skip'" in failed.stderr
    # RAIN has 85 words, and WIND 20 five times over.
    done = prepare(tmp_path, source, "    on_bad_rows: skip\n")
    assert done.stdout == "mine: 2 of 3 documents, 185 words; skipped: 1 not UTF-8\n"
    assert pq.read_table(tmp_path / "d.parquet")["document"].to_pylist() == ["deep/rain.txt", "wind"]
    # What lies in the folder must be what was fetched.
    (tmp_path / "raw" / "bad.txt").write_text(RAIN)
    outputs = [f"--documents={tmp_path}/d", f"--manifest={tmp_path}/m", f"--summary={tmp_path}/s"]
    changed = run(
        "prepare_documents.py", "--table", tmp_path / "table.yaml", "--name=mine", "--raw", tmp_path / "raw", *outputs
    )
    assert "bad.txt: has changed since it was fetched" in changed.stderr


def test_a_folder_of_pdfs_by_the_scripts(tmp_path: Path) -> None:
    from pypdf import PdfWriter

    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "A.PDF").write_text("no PDF at all")
    (folder / "source.tex").write_text("not asked for")
    writer = PdfWriter()
    writer.add_blank_page(72, 72)
    writer.write(folder / "blank.pdf")
    failed = prepare(tmp_path, f"{{path: {folder}, format: pdf}}")
    assert failed.returncode == 1
    assert failed.stderr.endswith(
        "raw: holds no usable document; skipped: 1 no text (scanned images?), 1 not a PDF: "
        "blank.pdf (no text (scanned images?)), sub/A.PDF (not a PDF)\n"
    )
    (folder / "blank.pdf").unlink()
    (folder / "sub" / "A.PDF").unlink()
    assert "holds no file like *.pdf" in prepare(tmp_path, f"{{path: {folder}, format: pdf}}").stderr


def test_interactions_are_no_documents(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("u,i\n1,2\n")
    source = f"{{path: {tmp_path / 'in.csv'}, format: csv, columns: {{user: u, item: i}}}}"
    assert "the format 'csv' holds no documents" in prepare(tmp_path, source).stderr

"""Broken texts, JSON lines, dumps and PDFs, from the file in the user's hand to the table of documents."""

import bz2
import io
import json
import zlib
from collections import Counter

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from .conftest import MARKER, Outcome, Sandbox, examples
from .mutations import broken_bytes

SENTENCE = "The glaciers of the range have lost much of their ice, and the rivers below them carry less water."


def prepare(sandbox: Sandbox, form: str, files: dict[str, bytes], members: dict[str, str], **policies) -> Outcome:
    """Fetch a folder of files, and prepare it: the second step where the first one succeeds."""
    folder, out = sandbox.inputs / "data", sandbox.outputs
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    source = {"path": str(folder), "format": form, "members": members}
    if form == "wikipedia-dump":
        source = {"path": str(folder / next(iter(files))), "format": form}
    fetched, named = sandbox.fetch(source, policies)
    if fetched.refused:
        return fetched
    files = [part for name in ("documents", "manifest", "summary") for part in (f"--{name}", out / f"{name}.out")]
    outcome = sandbox.run("prepare_documents.py", *named, *files)
    if not outcome.refused:
        documents, manifest = (pq.read_table(out / f"{name}.out") for name in ("documents", "manifest"))
        documents.validate(full=True)
        manifest.validate(full=True)
        assert 0 < documents.num_rows <= manifest.num_rows
    return outcome


LINES = b"".join(
    json.dumps({"id": str(i), "title": f"T{i}", "text": f"{i} {SENTENCE}"}).encode() + b"\n" for i in range(5)
)
WIKITEXT = (
    f" \n = One = \n \n {SENTENCE} \n \n = = Part = = \n \n {SENTENCE} \n \n = Two = \n \n {SENTENCE} \n".encode()
)
PAGE = (
    "<page><title>{0}</title><ns>0</ns><revision><text>'''{0}''' is [[a|b]] {{{{c|d}}}} of <ref>x</ref> {1}</text>"
    "</revision></page>"
)
DUMP = f"<mediawiki xmlns='x'>{''.join(PAGE.format(name, SENTENCE) for name in ('One', 'Two'))}</mediawiki>".encode()


@st.composite
def wrong_texts(draw):
    """A format, its files, one of them broken, and the members that the table names."""
    form = draw(st.sampled_from(["jsonl", "txt", "wikitext", "xml", "bz2"]))
    if form == "jsonl":
        return "text", {"a.jsonl": draw(broken_bytes(LINES)), "b.txt": SENTENCE.encode()}, {}
    if form == "txt":
        return "text", {"a.txt": draw(broken_bytes(SENTENCE.encode() * 3))}, {}
    if form == "wikitext":
        broken = draw(broken_bytes(WIKITEXT))
        return "wikitext", {"a": broken, "b": WIKITEXT, "c": WIKITEXT}, {"train": "a", "validation": "b", "test": "c"}
    packed = bz2.compress(DUMP)
    broken = draw(broken_bytes(DUMP))
    content = draw(st.sampled_from([bz2.compress(broken), packed[: len(packed) // 2], packed * 2, packed + b"x"]))
    return "wikipedia-dump", {"dump.xml": broken} if form == "xml" else {"dump.xml.bz2": content}, {}


def check_text(sandboxes, wrong, skip: bool, outcomes: Counter) -> None:
    with sandboxes() as sandbox:
        outcome = prepare(sandbox, *wrong, on_bad_rows="skip" if skip else "error", min_characters=20)
    outcomes["refused" if outcome.refused else "good"] += 1
    assert not outcome.refused or str(sandbox.root) in outcome.stderr, outcome.stderr


def test_broken_texts(sandboxes):
    outcomes = Counter()

    @examples(150)
    @given(wrong_texts(), st.booleans())
    def check(wrong, skip):
        check_text(sandboxes, wrong, skip, outcomes)

    check()
    assert outcomes["refused"] >= 40, outcomes


def test_a_dump_that_unpacks_to_gigabytes(sandboxes):
    bomb = bz2.compress(DUMP[: DUMP.index(b"'''")]) + bz2.compress(b" " * (50 << 20)) * 8
    with sandboxes() as sandbox:
        outcome = prepare(sandbox, "wikipedia-dump", {"dump.xml.bz2": bomb}, {})
    assert "times its size" in outcome.stderr


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
JSON_RECORDS = st.lists(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "title", "text"), JSON_VALUES)), min_size=1, max_size=4
)


def check_records(sandboxes, records, skip: bool, outcomes: Counter) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in [*records, {"text": SENTENCE}]).encode()
    with sandboxes() as sandbox:
        outcome = prepare(
            sandbox, "text", {"a.jsonl": lines}, {}, on_bad_rows="skip" if skip else "error", min_characters=0
        )
    outcomes["refused" if outcome.refused else "good"] += 1


def test_records_of_any_type(sandboxes):
    outcomes = Counter()

    @examples(60)
    @given(JSON_RECORDS, st.booleans())
    def check(records, skip):
        check_records(sandboxes, records, skip, outcomes)

    check()
    assert outcomes["refused"] >= 10, outcomes


def pdf(
    content: bytes, page: bytes = b"", font: bytes = b"", more: list[bytes] | None = None, catalogue: bytes = b""
) -> bytes:
    """A PDF of one page with this content stream (a whole object, its dictionary included)."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalogue,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 5 0 R >> >> "
        b"/Contents 4 0 R %s >>" % page,
        content,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding %s >>" % font,
        *(more or []),
    ]
    data, places = io.BytesIO(b"%PDF-1.4\n"), []
    data.seek(0, io.SEEK_END)
    for number, body in enumerate(objects, start=1):
        places.append(data.tell())
        data.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = data.tell()
    data.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1))
    data.writelines(b"%010d 00000 n \n" % place for place in places)
    data.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, start))
    return data.getvalue()


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


TEXT = f"BT /F1 10 Tf 72 770 Td ({SENTENCE}) Tj ET".encode()
SURROGATES = b"/CIDInit /ProcSet findresource begin begincmap 1 beginbfrange <00> <ff> <D800> endbfrange endcmap"


def hostile_pdfs() -> dict[str, bytes]:
    """PDFs that a reader should survive, and whose actions none should run."""
    command = b"/OpenAction << /S /Launch /F (/bin/touch) /Win << /F (touch) /P (%s) >> >>" % MARKER.encode()
    script = b"/OpenAction << /S /JavaScript /JS (app.launchURL\\('file://%s'\\)) >>" % MARKER.encode()
    bomb = zlib.compress(bytes(200 << 20), 1)
    return {
        "launch": pdf(stream(TEXT), catalogue=command),
        "script": pdf(stream(TEXT), catalogue=script),
        "bomb": pdf(stream(bomb, b"/Filter /FlateDecode")),
        "bomb twice": pdf(stream(zlib.compress(bomb), b"/Filter [/FlateDecode /FlateDecode]")),
        "other file": pdf(b"<< /Length 0 /F (/etc/passwd) /FFilter /FlateDecode >>\nstream\n\nendstream"),
        "surrogates": pdf(stream(TEXT), font=b"/ToUnicode 6 0 R", more=[stream(SURROGATES)]),
        "itself": pdf(b"4 0 R"),
        "many": pdf(stream(TEXT)).replace(b"/Count 1", b"/Count 99999999"),
        "negative": pdf(stream(TEXT)).replace(b"/Length 1", b"/Length -1"),
        "no end": pdf(stream(b"[" * 100_000)),
        "repeats": pdf(stream(b"q " * 1_000_000)),
    }


def check_pdfs(sandbox: Sandbox, files: dict[str, bytes]) -> Counter:
    """All files in one folder beside a good one; returns how many were skipped, and how many kept."""
    files = {f"{name}.pdf": content for name, content in files.items()}
    outcome = prepare(
        sandbox,
        "pdf",
        files | {"good.pdf": pdf(stream(TEXT * 3))},
        {},
        min_characters=20,
        page_seconds=4,
        near_duplicate_similarity=None,
    )
    assert not outcome.refused, outcome.stderr
    manifest = pq.read_table(sandbox.outputs / "manifest.out").to_pylist()
    assert {row["document"] for row in manifest} == {*files, "good.pdf"}
    assert all(row["reason"] for row in manifest if row["status"] == "skipped")
    return Counter(row["status"] for row in manifest)


broken_pdfs = st.lists(
    broken_bytes(pdf(stream(zlib.compress(TEXT), b"/Filter /FlateDecode"))), min_size=20, max_size=20
)


def test_hostile_pdfs(sandboxes):
    """A PDF that cannot be read is a row of the manifest, and never an error."""
    with sandboxes() as sandbox:
        statuses = check_pdfs(sandbox, hostile_pdfs())
    assert statuses["skipped"] >= 6, statuses


def test_broken_pdfs(sandboxes):
    statuses = Counter()

    @examples(4)
    @given(broken_pdfs)
    def check(broken):
        with sandboxes() as sandbox:
            statuses.update(check_pdfs(sandbox, {f"broken {number}": data for number, data in enumerate(broken)}))

    check()
    assert statuses["skipped"] >= 40, statuses

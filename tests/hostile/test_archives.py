"""Archives that lead outside, lie about themselves, fill the disk or the memory, or are simply damaged."""

import bz2
import gzip
import io
import lzma
import tarfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from .conftest import Outcome, Sandbox, examples
from .mutations import broken_bytes

RATINGS = b"1\t1\t5\t900000000\n1\t2\t4\t900000001\n2\t1\t3\t900000002\n"
PACKERS = {"": bytes, ".gz": lambda data: gzip.compress(data, mtime=0), ".bz2": bz2.compress, ".xz": lzma.compress}
# Names of members that no honest archive has; OUTSIDE stands for a path next to the outputs.
NAMES = [
    "u.data", "./u.data", "a/u.data", "/u.data", "//u.data", "../u.data", "../../u.data", "a/../../u.data", "OUTSIDE",
    "..", ".", "", "/", "C:\\u.data", "..\\..\\u.data", "\\\\host\\u.data", "u.data/", "u.data\0x", "source.json",
    "\udcff", "\u202eu.data", "a" * 300, "a/" * 500 + "u.data", "~/u.data", "-rf", ".u.data.lock", "con",
]  # fmt: skip
KINDS = ["file", "file", "file", "folder", "link", "hardlink", "device", "pipe", "sparse"]


def zipped(members: list[tuple[str, str, bytes]], outside: Path) -> bytes:
    """A zip with members of name, kind and content; of a link the content is where it leads."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as bundle:
        for name, kind, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = name.replace("OUTSIDE", str(outside)).encode("utf-8", "replace").decode()
            info.external_attr = {"link": 0o120777, "folder": 0o40755, "device": 0o20666}.get(kind, 0o100644) << 16
            bundle.writestr(info, str(outside).encode() if kind == "link" else content, zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def tarred(members: list[tuple[str, str, bytes]], outside: Path, form: int = tarfile.GNU_FORMAT) -> bytes:
    sink = io.BytesIO()
    kinds = {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}
    kinds |= {"device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE, "sparse": tarfile.GNUTYPE_SPARSE}
    with tarfile.open(fileobj=sink, mode="w", format=form) as bundle:
        for name, kind, content in members:
            info = tarfile.TarInfo(name.replace("OUTSIDE", str(outside)))
            info.type, info.linkname = kinds.get(kind, tarfile.REGTYPE), str(outside)
            info.size = len(content) if kind in ("file", "sparse") else 0
            bundle.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def fetch(sandbox: Sandbox, name: str, content: bytes, members: dict[str, str], **limits: int) -> Outcome:
    """Fetch an archive that lies on this machine."""
    (sandbox.inputs / name).write_bytes(content)
    source = {"path": str(sandbox.inputs / name), "format": "movielens-100k", "members": members, **limits}
    table = sandbox.inputs / "table.yaml"
    table.write_text(yaml.safe_dump({"datasets": {"mine": {"title": "t", "sources": [source]}}}))
    out = sandbox.outputs
    return sandbox.run(
        "fetch_source.py", "--table", table, "--name", "mine", "--output", out / "raw", "--downloads", out / "downloads"
    )


@st.composite
def hostile_archives(draw):
    """File name, format, members, and the path inside the archive that the table asks for."""
    members = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS), st.just(RATINGS)), min_size=1, max_size=4)
    )
    wanted = draw(st.sampled_from([members[0][0].replace("OUTSIDE", "u.data"), "u.data"]))
    kind = draw(st.sampled_from(["zip", *(f"tar{ending}" for ending in PACKERS)]))
    return kind, members, wanted, draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]))


def build(kind: str, members: list, outside: Path, form: int) -> bytes | None:
    """The archive's bytes; None where the format itself cannot hold such members."""
    try:
        if kind == "zip":
            with warnings.catch_warnings(action="ignore"):  # two members of one name
                return zipped(members, outside)
        return PACKERS[kind.removeprefix("tar")](tarred(members, outside, form))
    except (ValueError, UnicodeError, tarfile.TarError):
        return None


def check_hostile(sandboxes, archive, outcomes: Counter) -> None:
    kind, members, wanted, form = archive
    with sandboxes() as sandbox:
        content = build(kind, members, sandbox.root / "outside", form)
        if content is None:
            return
        outcome = fetch(sandbox, f"data.{kind}", content, {"ratings": wanted.replace("\0", "")})
    outcomes["refused" if outcome.refused else "good"] += 1


def test_members_that_lead_outside(sandboxes):
    outcomes = Counter()

    @examples(120)
    @given(hostile_archives())
    def check(archive):
        check_hostile(sandboxes, archive, outcomes)

    check()
    assert outcomes["refused"] >= 60, outcomes


INNOCENT = [("u.data", "file", RATINGS), ("README", "file", b"words\n" * 50)]
damaged = st.sampled_from(["zip", *(f"tar{ending}" for ending in PACKERS), "gz", "bz2"]).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        broken_bytes(
            PACKERS[f".{kind}"](RATINGS)
            if kind in ("gz", "bz2")
            else build(kind, INNOCENT, Path("x"), tarfile.GNU_FORMAT)
        ),
    )
)


def test_damaged_archives(sandboxes):
    outcomes = Counter()

    @examples(100)
    @given(damaged)
    def check(archive):
        kind, content = archive
        with sandboxes() as sandbox:
            outcome = fetch(sandbox, f"u.data.{kind}", content, {"ratings": "u.data"})
        outcomes["refused" if outcome.refused else "good"] += 1

    check()
    assert outcomes["refused"] >= 30, outcomes


ZEROS = 400 << 20


def zip_bomb() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as bundle, bundle.open("u.data", "w") as member:
        for _ in range(ZEROS >> 20):
            member.write(bytes(1 << 20))
    return sink.getvalue()


def pax_bomb() -> bytes:
    """A tar whose header of a member is 400 MB long."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, ZEROS
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT), 1) + gzip.compress(bytes(ZEROS), 1)


def sparse_bomb() -> bytes:
    """A tar with a member of four terabytes of which nothing is stored."""
    info = tarfile.TarInfo("u.data")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:482] = b"0" * 96  # the map of what is stored: nothing
    header[483:495] = b"777777777777"[:12]  # the whole size, octal
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


BOMBS = {
    "zip": zip_bomb,
    "gz": lambda: gzip.compress(b"7" * ZEROS, 1),
    "bz2": lambda: bz2.compress(b"7" * (ZEROS // 8)) * 8,
    "tar.gz": pax_bomb,
    "tar": sparse_bomb,
    "tar.xz": lambda: lzma.compress(tarred([("u.data", "file", bytes(100 << 20))], Path("x")), preset=0),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_fill_neither_disk_nor_memory(sandboxes, kind):
    with sandboxes() as sandbox:
        outcome = fetch(sandbox, f"u.data.{kind}", BOMBS[kind](), {"ratings": "u.data"})
        assert "times its size, like an archive made to fill the disk" in outcome.stderr

"""Broken NPZ shards and summaries: `read_split` gives a sound split, or names the file at fault."""

import io
import json
import pickle
import zipfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.recsys.histories import Histories, leave_one_out
from frugal.recsys.shards import MLPERF, PARTS, read_split, write_shards

from .conftest import MARKER, Planted, examples
from .mutations import ODD, broken_bytes

PAIRS = np.array([[user, (user + place) % 7] for user in range(6) for place in range(4)], np.int32)
SPLIT = leave_one_out(Histories.from_pairs(*PAIRS.T, 6), 7)
HEADER = "{'descr': '<i4', 'fortran_order': False, 'shape': (24, 2), }"
# Headers of arrays that numpy's reader, or whoever trusts it, may stumble over.
HEADERS = [
    *(HEADER.replace("(24, 2)", shape) for shape in ("(-24, -2)", "(4611686018427387904, 4)", "(0, 2)", "(24, 2L)")),
    *(HEADER.replace("(24, 2)", shape) for shape in ("((24, 2)", "(True, 2)", "(2, 24)", f"({'2' * 50}, 2)", "24")),
    *(HEADER.replace("'<i4'", kind) for kind in ("'|O'", "'<U0'", "'|V0'", "'junk'", "'>u8'", "'<f4'", "'<M8[s]'")),
    *(HEADER.replace("'<i4'", kind) for kind in ("[('a', '<i4')]", "('<i4', (2,))", "{}", "None", "[[]]")),
    *(
        HEADER.replace("False", order)
        for order in ("True", "None", "1/0", f"__import__('os').system('touch {MARKER}')")
    ),
    *[HEADER, HEADER * 2, HEADER[:-9], f"  {HEADER}", "", "{", "(" * 500, "[" * 5000, "{[]: 1}", "{'descr': '<i4'}"],
    *["\0" * 50, "é" * 9, "'" * 3, "\n  1\n 2", "1" * 9000],
]
ARRAYS = {
    "floats": PAIRS.astype(float),
    "nan": np.full((3, 2), np.nan),
    "bool": PAIRS > 2,
    "text": PAIRS.astype(str),
    "structured": PAIRS.view([("a", "<i4"), ("b", "<i4")]),
    "times": PAIRS.astype("datetime64[s]"),
    "complex": PAIRS.astype(complex),
    "three axes": PAIRS[None],
    "no axis": np.array(3),
    "one column": PAIRS[:, :1],
    "no rows": PAIRS[:0],
    "negative": -PAIRS,
    "large": PAIRS.astype(np.int64) + 2**31,
    "largest": np.array([[2**31 - 1, 2**31 - 1]]),
    "beyond": np.array([[2**64 - 1, 0]], np.uint64),
    "big endian": PAIRS.astype(">i8"),
    "by columns": np.asfortranarray(PAIRS),
    "bytes": PAIRS.astype(np.uint8),
    "swapped": PAIRS[:, ::-1],
    "code": np.array([Planted(), Planted()], object),
}
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def npz(array: np.ndarray, method: int = zipfile.ZIP_STORED, name: str = "arr_0.npy") -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, array, allow_pickle=True)
    return packed(data.getvalue(), method, name)


def packed(member: bytes, method: int = zipfile.ZIP_STORED, name: str = "arr_0.npy") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as bundle:
        bundle.writestr(zipfile.ZipInfo(name), member, method)
    return sink.getvalue()


def with_header(header: str, version: bytes, method: int) -> bytes:
    text = header.encode("latin-1")
    length = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return packed(b"\x93NUMPY" + version + length + text + PAIRS.tobytes(), method)


METHOD = st.sampled_from(METHODS)
shards = st.one_of(
    st.builds(with_header, st.sampled_from(HEADERS), st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\x09\0"]), METHOD),
    METHOD.flatmap(lambda method: broken_bytes(npz(PAIRS, method))),
    st.builds(lambda name, method: npz(ARRAYS[name], method), st.sampled_from(sorted(ARRAYS)), METHOD),
    broken_bytes(npz(PAIRS)[:200]).map(lambda header: header + npz(PAIRS)[200:]),
    st.sampled_from(
        [
            b"",
            b"PK\5\6" + bytes(18),
            pickle.dumps([Planted()]),
            npz(PAIRS, name="arr_1.npy"),
            npz(PAIRS, name="../arr_0.npy"),
        ]
    ),
)
summaries = st.one_of(
    st.builds(
        lambda key, value: {key: value},
        st.sampled_from(["users", "items", "shards", "ordered", "rows"]),
        st.sampled_from([value for value in ODD if isinstance(value, int | str | float | list | None)]) | st.integers(),
    ),
    broken_bytes(json.dumps({"users": 6, "items": 7, "shards": 2, "ordered": True}).encode()),
)
wrong_shards = st.one_of(
    st.tuples(st.just("ours"), st.sampled_from(PARTS), shards),
    st.tuples(st.just("ours"), st.sampled_from(PARTS), shards),
    st.tuples(st.just("mlperf"), st.sampled_from(PARTS), shards),
    st.tuples(st.just("summary"), st.none(), summaries),
)


def check_shards(sandboxes, wrong, outcomes: Counter) -> None:
    layout, part, content = wrong
    with sandboxes() as sandbox:
        folder = sandbox.inputs / "sequences"
        if layout == "mlperf":
            for prefix, numbers in MLPERF.values():
                for number in numbers:
                    (folder / f"{prefix}_{number}.npz").parent.mkdir(exist_ok=True)
                    (folder / f"{prefix}_{number}.npz").write_bytes(npz(PAIRS[number % 6 :: 6]))
            (folder / f"{MLPERF[part][0]}_{MLPERF[part][1][0]}.npz").write_bytes(content)
        else:
            summary = write_shards(SPLIT, folder, 2, {})
            if layout == "ours":
                (folder / part / "part_001.npz").write_bytes(content)
            else:
                (folder / "summary.json").write_bytes(
                    content if isinstance(content, bytes) else json.dumps(summary | content).encode()
                )
        message = sandbox.ask(read_split, folder)
    outcomes["refused" if message else "good"] += 1
    assert message is None or str(folder) in message, message


def test_broken_shards(sandboxes):
    outcomes = Counter()

    @examples(150)
    @given(wrong_shards)
    def check(wrong):
        check_shards(sandboxes, wrong, outcomes)

    check()
    assert outcomes["refused"] >= 70, outcomes


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_shard_that_unpacks_to_gigabytes(sandboxes, method):
    rows = 200 << 20
    header = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({rows // 8}, 2), }}".ljust(117) + "\n"
    with sandboxes() as sandbox:
        write_shards(SPLIT, sandbox.inputs / "sequences", 2, {})
        path = sandbox.inputs / "sequences/training/part_000.npz"
        with zipfile.ZipFile(path, "w", method) as bundle, bundle.open("arr_0.npy", "w") as member:
            member.write(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode())
            for _ in range(rows >> 20):
                member.write(bytes(1 << 20))
        message = sandbox.ask(read_split, sandbox.inputs / "sequences")
    assert str(path) in message
    assert "times its size" in message

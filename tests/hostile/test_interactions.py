"""Broken interactions in every format, from the file in the user's hand to Parquet."""

import gzip
import json
from collections import Counter
from decimal import Decimal
from encodings.aliases import aliases
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from frugal.config.sources import INTERACTION_FORMATS

from .conftest import Outcome, Sandbox, examples
from .mutations import broken_bytes

ROWS = [
    (user, (user * 7 + place * 3) % 11 + 1, place % 5 + 1, 900_000_000 + place)
    for user in (1, 2, 3, 9)
    for place in range(5)
]
COLUMNS = {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}
FILMS = range(1, 12)
FLAGS = "|".join(["0"] * 18 + ["1"])


def delimited(separator: str, header: str = "") -> bytes:
    lines = [separator.join(map(str, row)) for row in ROWS]
    return ("\n".join([header, *lines] if header else lines) + "\n").encode()


def parquet(**columns) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def review(user: int, item: int, rating: int, when: int) -> str:
    return json.dumps({"reviewerID": f"A{user}", "asin": f"B{item}", "overall": rating, "unixReviewTime": when})


def described(header: str, line: str, encoding: str = "utf-8") -> bytes:
    """An item file: a line for each film, with its number in the place of N."""
    return (header + "".join(f"{line.replace('N', str(film))}\n" for film in FILMS)).encode(encoding)


TABLE = dict(zip(COLUMNS.values(), map(list, zip(*ROWS, strict=True)), strict=True))
SEQUENCES = "".join(f"{user} {' '.join(str(user * place % 11) for place in range(1, 6))}\n" for user in (1, 2, 3))
# Of each format: the file of ratings, and that of the items where there is one.
VALID = {
    "movielens-100k": (delimited("\t"), described("", f"N|Film N (1990)|01-Jan-1990||http://x|{FLAGS}")),
    "movielens-dat": (delimited("::"), described("", "N::F\u00edlm N (1990)::Drama|War", "latin-1")),
    "movielens-csv": (
        delimited(",", "userId,movieId,rating,timestamp"),
        described("movieId,title,genres\n", 'N,"Film, N (1990)",Drama'),
    ),
    "recbole": (
        delimited("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
        described(
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n", "N\tFilm N\t1990\tDrama War"
        ),
    ),
    "amazon-json": ("\n".join(review(*row) for row in ROWS).encode(), None),
    "csv": (delimited(",", "who,what,stars,when"), described("item,name\n", 'N,"Film ""N"""')),
    "parquet": (
        parquet(**TABLE),
        parquet(item=list(FILMS), name=[f"Film {i}" for i in FILMS], tags=[["a", "b"] for _ in FILMS]),
    ),
    "sequences": (SEQUENCES.encode(), b"item,name\n1,x\n"),
}
assert set(VALID) == set(INTERACTION_FORMATS)


def prepare(
    sandbox: Sandbox, form: str, ratings: bytes, items: bytes | None, policies: dict, **dialect: str
) -> Outcome:
    """Fetch a folder with these files, and prepare it: the second step where the first one succeeds."""
    folder, out = sandbox.inputs / "data", sandbox.outputs
    ending = "parquet" if form == "parquet" else "csv"
    members = {"ratings": f"ratings.{ending}"} | ({} if items is None else {"items": f"items.{ending}"})
    folder.mkdir()
    for name, content in zip(members.values(), (ratings, items), strict=False):
        (folder / name).write_bytes(content)
    source = {"path": str(folder), "format": form, "members": members, **dialect}
    if form in ("csv", "parquet"):
        source["columns"] = COLUMNS
    if form in ("csv", "parquet", "sequences"):
        source["item_columns"] = {"item": "item", "title": "name"}
        source["item_columns"] |= {"attributes": "tags"} if form == "parquet" else {}
    fetched, named = sandbox.fetch(source, policies)
    if fetched.refused:
        return fetched
    files = [
        f"interactions={out / 'interactions.parquet'}",
        f"items={out / 'items.parquet'}",
        f"users={out / 'users.parquet'}",
        f"summary={out / 's.json'}",
    ]
    options = [part for file in files for part in (f"--{file.split('=')[0]}", Path(file.split("=")[1]))]
    outcome = sandbox.run("prepare_interactions.py", *named, *options)
    if not outcome.refused:
        is_sound(out / "interactions.parquet", out / "items.parquet")
    return outcome


def is_sound(interactions: Path, items: Path) -> None:
    """What was accepted is what later stages rely on."""
    table, catalogue = pq.read_table(interactions), pq.read_table(items)
    table.validate(full=True)
    catalogue.validate(full=True)
    users, films, ratings = (table[name].to_numpy() for name in ("user", "item", "rating"))
    assert len(users)
    assert np.isfinite(ratings).all()
    assert set(users.tolist()) == set(range(users.max() + 1))
    assert films.min() >= 0
    assert films.max() < catalogue.num_rows


POLICIES = st.fixed_dictionaries(
    {
        "on_bad_rows": st.sampled_from(["error", "skip"]),
        "on_duplicates": st.sampled_from(["error", "keep", "keep_last"]),
    },
    optional={"rating_range": st.just([1, 5]), "min_interactions": st.sampled_from([1, 2, 100])},
)


@st.composite
def wrong_files(draw, forms=tuple(VALID)):
    """A format, and its two files, one of them broken."""
    form = draw(st.sampled_from(forms))
    ratings, items = VALID[form]
    if items is not None and draw(st.sampled_from([False, False, False, True])):
        return form, ratings, draw(broken_bytes(items))
    broken = draw(broken_bytes(ratings))
    if form == "amazon-json" and draw(st.booleans()):
        packed = gzip.compress(ratings, mtime=0)
        broken = draw(
            st.sampled_from([gzip.compress(broken, mtime=0), packed[: len(packed) // 2], packed + b"x", packed * 2])
        )
    return form, broken, items


def test_broken_files(sandboxes):
    outcomes = Counter()

    @examples(240)
    @given(wrong_files(), POLICIES)
    def check(wrong, policies):
        with sandboxes() as sandbox:
            outcome = prepare(sandbox, *wrong, policies)
        outcomes["refused" if outcome.refused else "good"] += 1
        assert not outcome.refused or "mine" in outcome.stderr or str(sandbox.root) in outcome.stderr, outcome.stderr

    check()
    assert outcomes["refused"] >= 100, outcomes


ENCODINGS = sorted(
    {*aliases.values(), "utf-8", "utf-8-sig", "utf-7", "idna", "punycode", "raw_unicode_escape", "x", "a\0"}
)
SEPARATORS = [
    ",",
    ";",
    "\t",
    " ",
    "::",
    "\u20ac",
    "\u20ac\u20ac",
    "\x1f",
    "\ud800",
    "\0",
    "\n",
    '"',
    "1",
    ".",
    "-",
    "#" * 99,
    "",
]
dialects = st.fixed_dictionaries(
    {}, optional={"encoding": st.sampled_from(ENCODINGS), "separator": st.sampled_from(SEPARATORS)}
)
# Names with accents, escapes and shifts, for encodings to stumble over.
WORDS = ["\u00e9", "\\ud800", "+2AA-", "\u65e5\u672c", "~{", "\x1b$B", "\xff", "a,b", "xn--a", "\u0130", "1", ""]


@st.composite
def wrong_dialects(draw):
    """A format, a file that has one encoding and separator, and the table's word that it has others."""
    form, told, real = draw(st.sampled_from(["csv", "sequences"])), draw(dialects), draw(dialects)
    rows = [[draw(st.sampled_from(WORDS)) for _ in range(2)] + ["1", "2"] for _ in range(3)]
    separator = real.get("separator", ",")
    text = "\n".join(separator.join(row) for row in ([list(COLUMNS.values())] if form == "csv" else []) + rows)
    try:
        content = text.encode(real.get("encoding", "utf-8"), "surrogatepass" if "utf" in str(real) else "replace")
    except (LookupError, ValueError):
        content = text.encode("utf-8", "surrogatepass")
    return form, content if isinstance(content, bytes) else b"", told


def check_dialect(sandboxes, wrong, policies: dict, outcomes: Counter) -> None:
    form, content, dialect = wrong
    with sandboxes() as sandbox:
        outcome = prepare(sandbox, form, content, None, policies, **dialect)
    outcomes["refused" if outcome.refused else "good"] += 1


def test_wrong_encodings_and_separators(sandboxes):
    outcomes = Counter()

    @examples(100)
    @given(wrong_dialects(), POLICIES)
    def check(wrong, policies):
        check_dialect(sandboxes, wrong, policies, outcomes)

    check()
    assert outcomes["refused"] >= 40, outcomes


# Columns of a Parquet file that are not what their names say.
WRONG_COLUMNS = {
    "null": pa.array([None] * 20),
    "missing": pa.array([None] * 20, pa.int64()),
    "bool": pa.array([True, False] * 10),
    "list": pa.array([[1, 2]] * 20),
    "struct": pa.array([{"a": 1}] * 20),
    "negative": pa.array([-1] * 20),
    "uint64": pa.array([2**63 + 5] * 20, pa.uint64()),
    "extreme": pa.array([2**62, -(2**63)] * 10),
    "nan": pa.array([float("nan"), float("inf"), 1.5, -0.0] * 5),
    "large": pa.array([1e300] * 20),
    "text": pa.array(["1", "x", "", " "] * 5),
    "bytes": pa.array([b"\xff\xfe", b"1"] * 10),
    "no UTF-8": pa.Array.from_buffers(
        pa.string(), 20, [None, pa.array(np.arange(21, dtype=np.int32)).buffers()[1], pa.py_buffer(b"\xff" * 20)]
    ),
    "decimal": pa.array([Decimal("1.5")] * 20),
    "long decimal": pa.array([Decimal(10) ** 37] * 20),
    "late": pa.array([2**62] * 20, pa.timestamp("ms")),
    "early": pa.array([-(2**62)] * 20, pa.timestamp("ns")),
    "earliest": pa.array([-(2**63) + 1] * 20, pa.timestamp("us")),
    "zone": pa.array([0, 10**9] * 10, pa.timestamp("ms", "Europe/Paris")),
    "unknown zone": pa.array([10**9] * 20, pa.timestamp("ms", "No/Where")),
    "date": pa.array([2**31 - 1] * 20, pa.date32()),
    "duration": pa.array([2**62] * 20, pa.duration("s")),
    "time": pa.array([1] * 20, pa.time32("s")),
    "dictionary": pa.array(["a", "b"] * 10).dictionary_encode(),
    "dictionary with null": pa.array(["a", None] * 10).dictionary_encode(),
    "dictionary of times": pa.array([2**62] * 20, pa.timestamp("us")).dictionary_encode(),
    "large text": pa.array(["1", "2"] * 10, pa.large_string()),
    "fixed bytes": pa.array([b"12", b"34"] * 10, pa.binary(2)),
    "float16": pa.array([1.0, 2.0] * 10, pa.float16()),
}


def test_parquet_of_wrong_types(sandboxes):
    outcomes = Counter()

    @examples(60)
    @given(WRONG_TYPES, POLICIES)
    def check(wrong, policies):
        with sandboxes() as sandbox:
            outcome = prepare(sandbox, "parquet", *wrong_types(wrong), policies)
        outcomes["refused" if outcome.refused else "good"] += 1

    check()
    assert outcomes["refused"] >= 20, outcomes


WRONG_TYPES = st.dictionaries(
    st.sampled_from([*COLUMNS.values(), "item", "name", "tags"]),
    st.sampled_from(sorted(WRONG_COLUMNS)),
    min_size=1,
    max_size=2,
)


def wrong_types(wrong: dict[str, str]) -> tuple[bytes, bytes]:
    """The two files, with the wrong columns of these names."""
    ratings, items = dict(TABLE), {"item": list(range(20)), "name": ["x"] * 20, "tags": [["a", "b"]] * 20}
    for name, kind in wrong.items():
        (items if name in items else ratings)[name] = WRONG_COLUMNS[kind]
    return parquet(**ratings), parquet(**items)


def test_files_that_unpack_to_gigabytes(sandboxes):
    rows = parquet(**{name: np.zeros(20_000_000, np.int8) for name in COLUMNS.values()})
    with sandboxes() as sandbox:
        assert "states more rows than" in prepare(sandbox, "parquet", rows, None, {}).stderr
    line = gzip.compress(review(1, 1, 5, 1).encode()[:-1] + b" " * (400 << 20) + b"}", 1)
    with sandboxes() as sandbox:
        assert "line 1: line is too long" in prepare(sandbox, "amazon-json", line, None, {}).stderr

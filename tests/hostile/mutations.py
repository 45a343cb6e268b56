"""Strategies: valid settings and valid files, made wrong."""

import copy
import datetime
import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st

# Numbers and texts that no key expects, or that only some do.
ODD = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, -(2**63) - 1, 10**30, -0.0, 0.5, 1e-320, 1e308, math.nan,
    math.inf, -math.inf, "", " ", "1", "1e9", "nan", "x", "a" * 5000, "a\0b", "\ud800", "a\nb", "../../x",
    "/etc/passwd", "~", "$(touch x)", "; touch x", "{wildcards.x}", "{x}", "\u202e", b"\xff", b"tuned",
    datetime.date(1, 1, 1), datetime.datetime(9999, 12, 31), [], {},
    [[]], [None], [1], ["x"], {"x": 1}, {"": {}}, {1: 2}, {None: None},
    {"function-x": 1}, {b"tuned": {}}, {(1, 2): 3}, set(), {"x"}, (1,), [math.nan], ["x"] * 2, [10, 10], [10**9, 10],
    {"tuned": None}, {"tuned": {}}, {"tuned": {"tuned": {}}}, {"a" * 300: {}}, {"A/../b": {}}, {"..": {}},
]  # fmt: skip


def nested(depth: int) -> Any:
    """A list in a list, and so on."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circle(kind: type) -> Any:
    """A list or mapping that holds itself."""
    value = kind()
    if isinstance(value, list):
        value.append(value)
    else:
        value["x"] = value
    return value


def laughs() -> dict[str, Any]:
    """Lists of the same list of the same list: a handful of objects, and ten thousand million when written out."""
    value: Any = ["ha"] * 10
    for _ in range(9):
        value = [value] * 10
    return {"x": value}


def deep_list() -> Any:
    return nested(2000)


def deep_mapping() -> Any:
    return {"x": nested(50)}


def huge_number() -> int:
    return 10**5000


def list_circle() -> Any:
    return circle(list)


def mapping_circle() -> Any:
    return circle(dict)


MAKERS = [huge_number, deep_list, deep_mapping, list_circle, mapping_circle, laughs]
ODD_KEYS = ["x", "lr", "function-before", "__proto__", "a.b", "", 1, None, True, 1.5, b"x", (1,), "\ud800"]
RENAMES = [
    lambda key: f"{key}x",
    lambda key: str(key)[1:],
    lambda key: str(key).upper(),
    lambda key: f" {key}",
    lambda key: str(key).encode(),
    lambda key: "function-before",
]
WRAPS = [lambda value: [value], lambda value: [[value]], lambda value: {"x": value}]


@dataclass(frozen=True)
class Edit:
    """One fault: what is done to the value at ``path``."""

    kind: str
    path: tuple
    value: Any = None

    def apply(self, data: Any) -> None:
        """Change ``data`` in place; nothing, where an earlier edit has taken the place away."""
        *parents, key = self.path
        try:
            owner = data
            for parent in parents:
                owner = owner[parent]
            old = owner[key]
        except (KeyError, IndexError, TypeError):
            return
        if self.kind == "drop":
            del owner[key]
        elif self.kind == "rename" and isinstance(owner, dict):
            owner[self.value(key)] = owner.pop(key)
        elif self.kind == "add" and isinstance(owner, dict):
            owner[self.value] = 1
        elif self.kind == "wrap":
            owner[key] = self.value(old)
        elif self.kind == "scale" and isinstance(old, int | float) and abs(old) < 2**64:
            owner[key] = old * self.value
        elif self.kind == "set":
            owner[key] = self.value() if callable(self.value) else copy.deepcopy(self.value)


def places(data: Any, path: tuple = ()) -> list[tuple]:
    """The path of every value inside ``data``, its own (the empty one) left out."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in children for place in ((*path, key), *places(value, (*path, key)))]


def edits(valid: dict[str, Any]) -> st.SearchStrategy[list[Edit]]:
    """One to three faults, each at a place of its own choice in ``valid``."""
    path = st.sampled_from(places(valid))
    values = st.one_of(
        st.sampled_from(ODD),
        st.sampled_from(MAKERS),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.lists(st.one_of(st.integers(), st.text(max_size=4), st.none()), max_size=3),
    )
    edit = st.one_of(
        *[st.builds(Edit, st.just("set"), path, values)] * 3,
        st.builds(Edit, st.just("drop"), path),
        st.builds(Edit, st.just("rename"), path, st.sampled_from(RENAMES)),
        st.builds(Edit, st.just("add"), path, st.sampled_from(ODD_KEYS)),
        st.builds(Edit, st.just("wrap"), path, st.sampled_from(WRAPS)),
        st.builds(Edit, st.just("scale"), path, st.sampled_from([-1, 0, 1e6, 10**15, 1e300, math.nan])),
    )
    return st.lists(edit, min_size=1, max_size=3)


def as_json(value: Any) -> str:
    """JSON, or the beginning of one where it would be endless or JSON cannot hold the value."""
    try:
        return "".join(itertools.islice(json.JSONEncoder().iterencode(value), 100_000))
    except (TypeError, ValueError, RecursionError):
        return "{"


def as_yaml(value: Any) -> str:
    """YAML as a hostile hand would write it: with any tag, circles and all."""
    try:
        return yaml.dump(value, sort_keys=False)
    except (yaml.YAMLError, ValueError, RecursionError):
        return "{"


def changed(valid: dict[str, Any], faults: list[Edit]) -> dict[str, Any]:
    """A copy of ``valid`` with the faults."""
    data = copy.deepcopy(valid)
    for fault in faults:
        fault.apply(data)
    return data


# Bytes that readers of text stumble over: NUL, byte-order marks, line ends, bytes that are no UTF-8 (half of a
# surrogate pair among them), quotes and separators.
STUMBLING = [
    b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\r\n", b"\n", b"\x85", b"\xe2\x80\xa8", b"\xff", b"\xc3",
    b"\xed\xa0\x80", b'"', b"'", b",", b"\t", b";", b"|", b"::", b" ", b"\x1f", b"\x1a", b"\x0c", b"{", b"}", b"[",
    b"]", b":", b"#", b"*", b"&a ", b"<<: ", b"!!x ", b"- ", b"%", b"\\", b"\\ud800", b"A" * 200_000,
]  # fmt: skip
# What may stand where a number or a name should.
TOKENS = [
    b"", b"-1", b"-0", b"+5", b"01", b"0x10", b"1_000", b"1e3", b"1e400", b"-1e400", b"nan", b"NaN", b"inf",
    b"-Infinity", b"null", b"true", b"2147483648", b"9223372036854775808", b"-9223372036854775809", b"1" * 400,
    b"9" * 5000, b"1.5", b"1.0", b".", b"\xd9\xa1\xd9\xa2", b"\xff", b"\0", b"\xed\xa0\x80", b"a b", b'"a"', b'"a',
    b"[1]", b"{}", b"1,5",
]  # fmt: skip


@st.composite
def broken_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """``valid`` with one to three faults of the kind that transfers, editors and hostile hands make."""
    data = valid
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        place = draw(st.integers(0, len(data)))
        end = min(len(data), place + draw(st.sampled_from([1, 2, 7, 40])))
        kind = draw(st.sampled_from(["cut", "flip", "insert", "insert", "delete", "repeat", "token", "lines", "all"]))
        if kind == "cut":
            data = data[:place]
        elif kind == "flip" and place < len(data):
            data = data[:place] + bytes([data[place] ^ (1 << draw(st.integers(0, 7)))]) + data[place + 1 :]
        elif kind == "insert":
            data = data[:place] + draw(st.sampled_from(STUMBLING)) + data[place:]
        elif kind == "delete":
            data = data[:place] + data[end:]
        elif kind == "repeat":
            data = data[:place] + data[place:end] * draw(st.sampled_from([2, 50])) + data[end:]
        elif kind == "token":
            data = with_token(data, place, draw(st.sampled_from(TOKENS)))
        elif kind == "lines":
            lines = data.split(b"\n")
            data = b"\n".join(draw(st.permutations(lines)) if len(lines) < 60 else lines[::-1])
        elif kind == "all":
            data = draw(
                st.sampled_from(
                    [
                        b"",
                        b"\n" * 50,
                        b"\0" * 50,
                        data.replace(b"\n", b"\r\n"),
                        data.replace(b"\n", b"\r"),
                        data.replace(b"\n", b""),
                        b"\xef\xbb\xbf" + data,
                        b"\xff\xfe" + data.decode("latin-1").encode("utf-16-le"),
                        data * 2,
                        data.replace(b",", b";").replace(b"\t", b",").replace(b"::", b":"),
                        data[::-1],
                    ]
                )
            )
    return data


def with_token(data: bytes, place: int, token: bytes) -> bytes:
    """``data`` with the word of letters and digits at ``place`` replaced."""
    start = end = min(place, max(len(data) - 1, 0))
    while start > 0 and data[start - 1 : start].isalnum():
        start -= 1
    while end < len(data) and data[end : end + 1].isalnum():
        end += 1
    return data[:start] + token + data[end:]

"""Shards: what is written comes back, MLPerf's are understood, and a broken one is named."""

import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.recsys.histories import Histories, Split
from frugal.recsys.shards import MLPERF, PARTS, open_shard, read_split, write_shards


def histories(*users: list[int]) -> Histories:
    pairs = [(user, item) for user, items in enumerate(users) for item in items]
    return Histories.from_pairs(*np.array(pairs, np.int64).reshape(-1, 2).T, len(users))


# Three users; user 1 trains only.
SPLIT = Split(
    train=histories([4, 1, 4], [3, 0], [2]),
    validation=histories([0], [], [5]),
    test=histories([2], [], [1]),
    item_count=7,
)


def lists(split: Split) -> list[list[list[int]]]:
    return [[list(one[user]) for user in range(len(one))] for one in (split.train, split.validation, split.test)]


def save(path: Path, array: object, **named: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, *([] if array is None else [array]), **named)
    return path


def test_the_layout_by_hand(tmp_path):
    summary = write_shards(SPLIT, tmp_path / "s", shards=2, about={"dataset": "synthetic"})
    # Users 0 and 2 are even, user 1 is odd.
    even, odd = (np.load(tmp_path / "s/training" / f"part_00{n}.npz")["arr_0"] for n in range(2))
    assert even.tolist() == [[0, 4], [0, 1], [0, 4], [2, 2]]
    assert odd.tolist() == [[1, 3], [1, 0]]
    assert even.dtype == odd.dtype == np.int32
    assert np.load(tmp_path / "s/validation/part_001.npz")["arr_0"].shape == (0, 2)
    assert np.load(tmp_path / "s/evaluation/part_000.npz")["arr_0"].tolist() == [[0, 2], [2, 1]]
    assert summary == read_json(tmp_path / "s/summary.json")
    assert summary == {
        "dataset": "synthetic",
        "users": 3,
        "items": 7,
        "shards": 2,
        "ordered": True,
        "chosen": "all",
        "rows": {"training": 6, "validation": 2, "evaluation": 2},
        "repeats": 1,
        "targets": {
            "validation": {"targets": 2, "repeated": 0, "cold": 1},
            "evaluation": {"targets": 2, "repeated": 0, "cold": 0},
        },
        "ties": None,
    }


def test_the_same_split_gives_the_same_bytes_and_replaces_what_was_there(tmp_path):
    for name, shards in (("one", 3), ("one", 2), ("two", 2)):
        write_shards(SPLIT, tmp_path / name, shards, {})
    one, two = (sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("one", "two"))
    assert [p.relative_to(tmp_path / "one") for p in one] == [p.relative_to(tmp_path / "two") for p in two]
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    # The time of writing would tell two runs apart; numpy writes the earliest that zip can.
    with zipfile.ZipFile(tmp_path / "one/training/part_000.npz") as bundle:
        assert [info.date_time for info in bundle.infolist()] == [(1980, 1, 1, 0, 0, 0)]


@given(
    users=st.lists(st.tuples(*[st.lists(st.integers(0, 9), max_size=4)] * 3), max_size=9),
    shards=st.integers(1, 12),
    ordered=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_split_comes_back(tmp_path_factory, users, shards, ordered):
    split = Split(*(histories(*(user[part] for user in users)) for part in range(3)), item_count=10, ordered=ordered)
    folder = tmp_path_factory.mktemp("any") / "shards"
    write_shards(split, folder, shards, {})
    back = read_split(folder)
    assert lists(back) == lists(split)
    assert (back.item_count, back.ordered) == (10, ordered)
    assert back.train.items.dtype == np.int32


def test_times_come_back_and_are_checked(tmp_path):
    """Rows of one user are in one shard; times follow their items through every selection."""
    users, items, times = np.array([2, 0, 0, 2, 0]), np.array([4, 1, 2, 5, 0]), np.array([7, 2**40, -3, 8, 9])
    timed = Histories.from_pairs(users, items, 3, times)
    assert timed.times_of(0).tolist() == [2**40, -3, 9]
    assert timed.followed_by(timed.select(timed.items == 5)).times_of(2).tolist() == [7, 8, 8]
    nothing = timed.select(np.zeros(5, bool))
    summary = write_shards(Split(timed, timed, nothing, 7), tmp_path / "s", 2, {})
    assert summary["times"] is True
    back = read_split(tmp_path / "s")
    assert lists(back)[0] == [[1, 2, 0], [], [4, 5]]
    for part, written in ((back.train, timed), (back.validation, timed), (back.test, nothing)):
        assert part.times.tolist() == written.times.tolist()
    path, pairs = tmp_path / "s/training/part_000.npz", np.zeros((3, 2), np.int32)
    for arrays, message in (
        ((pairs,), r"part_000.npz: has no array 'arr_1'; save the pairs with np.savez\(path, pairs, times\)"),
        ((pairs, np.zeros(2, np.int64)), r"part_000.npz: arr_1 is int64 \(2,\); it has the time of each of the 3 rows"),
        ((pairs, np.zeros(3)), r"part_000.npz: arr_1 is float64 \(3,\); it has the time"),
    ):
        np.savez(path, *arrays)
        with pytest.raises(FrugalError, match=message):
            read_split(tmp_path / "s")


def test_a_fraction_reads_the_same_users_of_all_parts_and_keeps_the_user_axis(tmp_path):
    write_shards(SPLIT, tmp_path / "s", shards=3, about={})
    # ceil(0.4 * 3) = 2: users 0 and 1.
    assert lists(read_split(tmp_path / "s", 0.4)) == [[[4, 1, 4], [3, 0], []], [[0], [], []], [[2], [], []]]
    # A third of 3 is one shard, whatever floating point makes of it; so it is for the smallest fraction.
    for fraction in (1 / 3, 1e-9):
        assert lists(read_split(tmp_path / "s", fraction))[0] == [[4, 1, 4], [], []]
    write_shards(SPLIT, tmp_path / "hundred", shards=100, about={})
    (tmp_path / "hundred/training/part_007.npz").unlink()
    # 0.07 * 100 is 7.000000000000001 in floating point: 7 shards, of which the missing one is none.
    assert lists(read_split(tmp_path / "hundred", 0.07)) == lists(SPLIT)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_a_fraction_that_is_none(tmp_path, fraction):
    with pytest.raises(FrugalError, match="the fraction of the shards must be above 0 and at most 1"):
        read_split(tmp_path, fraction)


def test_shards_that_cannot_be(tmp_path):
    with pytest.raises(FrugalError, match="set shards to 1 or more"):
        write_shards(SPLIT, tmp_path / "s", 0, {})
    assert list(tmp_path.iterdir()) == []


def test_a_user_in_several_shards_keeps_the_order_of_the_files(tmp_path):
    # Not what write_shards makes, but what MLPerf's test shards may hold; rows of a user need not be together.
    write_json(tmp_path / "summary.json", {"users": 2, "items": 9, "shards": 2, "ordered": False})
    for part in PARTS:
        save(tmp_path / part / "part_000.npz", np.array([[1, 8], [0, 3], [1, 2]]))
        save(tmp_path / part / "part_001.npz", np.array([[0, 1], [1, 0]]))
    assert lists(read_split(tmp_path)) == [[[3, 1], [8, 2, 0]]] * 3


@pytest.mark.parametrize(("save_as", "mapped"), [(np.savez, True), (np.savez_compressed, False)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, ">i4"])
def test_an_uncompressed_array_is_mapped_and_a_compressed_one_loaded(tmp_path, save_as, mapped, order, dtype):
    pairs = np.array([[0, 1], [2, 3], [4, 5]], dtype, order=order)
    save_as(tmp_path / "a.npz", other=np.arange(3), arr_0=pairs)
    found = open_shard(tmp_path / "a.npz")
    assert isinstance(found, np.memmap) is mapped
    assert found.tolist() == pairs.tolist()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3), int), r"arr_0 is int64 \(2, 3\); a shard has integers \(rows, 2\)"),
        (np.zeros(4, int), r"arr_0 is int64 \(4,\)"),
        (np.zeros((2, 2)), r"arr_0 is float64 \(2, 2\)"),
        (np.zeros((2, 2), object), "arr_0 holds Python objects, which are never loaded"),
        (np.array([[0, 0], [1, -1]]), "row 1: item -1 is not in 0 to 2147483647"),
        (np.array([[0, 0], [2**31, 1]]), "row 1: user 2147483648 is not in"),
        (None, "has no array 'arr_0'; save the pairs with np.savez"),
    ],
)
def test_a_wrong_array_is_named(tmp_path, array, words):
    with pytest.raises(FrugalError, match=rf"a\.npz.*{words}"):
        open_shard(save(tmp_path / "a.npz", array, other=np.zeros(1)))


def test_a_damaged_file_is_named(tmp_path):
    whole = save(tmp_path / "whole.npz", np.zeros((50, 2), int)).read_bytes()
    npy = np.lib.format.header_data_from_array_1_0(np.zeros((50, 2), int)) | {"shape": (5000, 2)}
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as bundle, bundle.open("arr_0.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, npy)
        member.write(bytes(800))
    for name, data in {"cut": whole[:-30], "half": whole[:300], "empty": b"", "text": b"no zip at all"}.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "npy.npz", "w") as bundle:
        bundle.writestr("arr_0.npy", b"no npy")
    with zipfile.ZipFile(tmp_path / "version.npz", "w") as bundle:
        bundle.writestr("arr_0.npy", b"\x93NUMPY\x03\x00" + bytes(64))
    (tmp_path / "folder.npz").mkdir()
    for name in ("cut", "half", "empty", "text", "lies", "npy", "version", "folder"):
        with pytest.raises(FrugalError, match=rf"{name}\.npz: damaged, or no npz file .*; delete it and run the rule"):
            open_shard(tmp_path / f"{name}.npz")
    with pytest.raises(FrugalError, match=r"absent\.npz: the shard is missing; run the rule that makes it again"):
        open_shard(tmp_path / "absent.npz")


@given(data=st.binary(max_size=300), at=st.integers(0, 700))
@settings(deadline=None)
def test_no_bytes_bring_anything_but_a_readable_error(tmp_path_factory, data, at):
    folder = tmp_path_factory.mktemp("junk")
    whole = save(folder / "whole.npz", np.zeros((20, 2), np.int32)).read_bytes()
    (folder / "a.npz").write_bytes(whole[:at] + data + whole[at + len(data) :])
    with suppress(FrugalError):
        assert open_shard(folder / "a.npz").shape[1] == 2


def test_a_missing_shard_a_damaged_summary_and_ids_beyond_it_are_named(tmp_path):
    folder = tmp_path / "s"
    with pytest.raises(FrugalError, match=r"holds neither summary\.json nor trainx16x32_0\.npz"):
        read_split(folder)
    summary = write_shards(SPLIT, folder, shards=2, about={})
    save(folder / "validation/part_001.npz", np.array([[1, 6], [1, 7]]))
    with pytest.raises(FrugalError, match=r"validation/part_001\.npz, row 1: item 7 is not in 0 to 6"):
        read_split(folder)
    save(folder / "validation/part_001.npz", np.array([[3, 0]]))
    with pytest.raises(FrugalError, match=r"validation/part_001\.npz, row 0: user 3 is not in 0 to 2"):
        read_split(folder)
    (folder / "validation/part_001.npz").unlink()
    with pytest.raises(FrugalError, match=r"validation/part_001\.npz: the shard is missing; run the rule"):
        read_split(folder)
    for wrong in ({}, [], summary | {"shards": 0}, summary | {"users": "3"}, summary | {"items": -1}):
        write_json(folder / "summary.json", wrong)
        with pytest.raises(FrugalError, match=r"summary\.json: is damaged; run the rule"):
            read_split(folder)


def mlperf(folder: Path, organised: bool) -> None:
    """Training shard i has user i with items i and 3; test shard i has user i with item 20 + i."""
    for part, (prefix, numbers) in MLPERF.items():
        for number in numbers:
            rows = [[number, number], [number, 3]] if part == "training" else [[number, 20 + number]]
            save((folder / part if organised else folder) / f"{prefix}_{number}.npz", np.array(rows))


@pytest.mark.parametrize("organised", [False, True])
def test_mlperfs_shards(tmp_path, capsys, organised):
    mlperf(tmp_path, organised)
    split = read_split(tmp_path)
    assert "carry no order in time" in capsys.readouterr().err
    # The largest user is 15, the largest item 20 + 15 of the last evaluation shard.
    assert (split.user_count, split.item_count, split.ordered) == (16, 36, False)
    train, validation, test = lists(split)
    assert train == [[user, 3] for user in range(16)]
    assert validation == [[20 + user] for user in range(8)] + [[]] * 8
    assert test == [[]] * 8 + [[20 + user] for user in range(8, 16)]


def test_a_fraction_of_mlperfs_shards(tmp_path):
    mlperf(tmp_path, organised=True)
    # ceil(0.1 * 8) = 1 shard of validation (0) and of evaluation (8), and the training shards of the same users.
    train, validation, test = lists(read_split(tmp_path, 0.1))
    assert train == [[0, 3]] + [[]] * 7 + [[8, 3]]
    assert validation == [[20]] + [[]] * 8
    assert test == [[]] * 8 + [[28]]
    (tmp_path / "training/trainx16x32_8.npz").unlink()
    with pytest.raises(FrugalError, match=r"training/trainx16x32_8\.npz: the shard is missing"):
        read_split(tmp_path, 0.1)
    (tmp_path / "training/trainx16x32_0.npz").unlink()
    with pytest.raises(FrugalError, match=r"neither summary\.json nor training/trainx16x32_0\.npz"):
        read_split(tmp_path, 0.1)

"""Histories and their splits: by hand, and what always holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.errors import FrugalError
from frugal.recsys.histories import Histories, Split, global_time, in_time_order, leave_one_out


def of(*rows: list[int]) -> Histories:
    users = [user for user, row in enumerate(rows) for _ in row]
    items = [item for row in rows for item in row]
    return Histories.from_pairs(np.array(users, dtype=np.int64), np.array(items, dtype=np.int64), len(rows))


def rows(histories: Histories) -> list[list[int]]:
    return [histories[user].tolist() for user in range(len(histories))]


def test_rows_of_a_file_become_histories():
    # User 2 has no rows, user 1's rows are out of order, user 0 has items 8 and 7 at the same time: as in the file.
    users = np.array([1, 0, 1, 0, 3])
    items = np.array([5, 8, 6, 7, 5])
    histories = in_time_order(users, items, np.array([20, 10, 10, 10, 5]), user_count=5)
    assert rows(histories) == [[8, 7], [6, 5], [], [5], []]
    assert histories.items.dtype == np.int32
    assert histories.lengths.tolist() == [2, 2, 0, 1, 0]
    assert histories.users.tolist() == [0, 0, 1, 1, 3]


def test_select_and_followed_by():
    histories = of([1, 2], [], [3, 4])
    odd = histories.select(histories.items % 2 == 1)
    assert rows(odd) == [[1], [], [3]]
    assert rows(odd.followed_by(of([9], [8], []))) == [[1, 9], [8], [3]]


def test_leave_one_out_by_hand():
    split = leave_one_out(of([1, 2, 3, 4], [5, 6, 7], [8, 9], [1], []), item_count=20)
    assert rows(split.train) == [[1, 2], [5], [8, 9], [1], []]
    assert rows(split.validation) == [[3], [6], [], [], []]
    assert rows(split.test) == [[4], [7], [], [], []]
    assert (split.user_count, split.item_count, split.ordered) == (5, 20, True)
    assert rows(split.context("validation")) == rows(split.train)
    assert rows(split.context("test")) == [[1, 2, 3], [5, 6], [8, 9], [1], []]
    assert split.cases("validation").tolist() == split.cases("test").tolist() == [0, 1]


def test_global_time_by_hand():
    # Ten interactions at times 0 to 9; shares .2 and .3: validation from time 5, test from time 7.
    histories = of([1, 2, 1, 3], [4, 5, 4], [6, 7, 7])
    times = np.array([0, 5, 6, 9, 1, 2, 8, 3, 4, 7])
    split = global_time(histories, times, 10, validation_share=0.2, test_share=0.3)
    assert rows(split.train) == [[1], [4, 5], [6, 7]]
    assert rows(split.validation) == [[2, 1], [], []]
    assert rows(split.test) == [[3], [4], [7]]
    assert rows(split.context("test")) == [[1, 2, 1], [4, 5], [6, 7]]
    # Item 1 at 6, item 4 at 8 and item 7 at 7: their users have had them.
    assert split.repeats == 3
    assert rows(split.targets("validation", "exclude")) == [[2], [], []]
    assert rows(split.targets("test", "exclude")) == [[3], [], []]
    assert split.cases("validation", "exclude").tolist() == split.cases("test", "exclude").tolist() == [0]
    assert rows(split.targets("test")) == rows(split.targets("test", "keep")) == [[3], [4], [7]]
    # Item 3 is in nobody's training part.
    assert split.target_counts("test") == {"targets": 3, "repeated": 2, "cold": 1}


@pytest.mark.parametrize(
    ("chosen", "keep", "exclude"),
    [("all", [[2, 3], [5], []], [[2, 3], [], []]), ("first", [[2], [5], []], [[2], [], []]),
     ("last", [[2], [5], []], [[2], [], []])],
)  # fmt: skip
def test_targets_of_a_part_by_hand(chosen, keep, exclude):
    # User 0 has item 2, 3, 2 and then 1 again, which he had before.
    split = Split(of([1], [5], [4]), of([], [], []), of([2, 3, 2], [5, 5], []), 6, chosen=chosen)
    assert rows(split.targets("test", "keep")) == keep
    assert rows(split.targets("test", "exclude")) == exclude


def test_a_sample_of_users_takes_repeats_from_the_whole_data():
    assert Split(of([1]), of([2]), of([3]), 4).keeps_history("auto") is False
    assert Split(of([1]), of([2]), of([3]), 4, known_repeats=7).keeps_history("auto") is True
    assert Split(of([1]), of([2]), of([1]), 4).keeps_history("auto") is True
    assert Split(of([1]), of([2]), of([1]), 4).keeps_history("exclude") is False


def test_user_without_a_past_is_not_scored():
    # Validation from time 6, test from time 8; user 1 comes at time 6, and has a history at time 8.
    histories = of([1, 2, 3, 4, 5, 6, 7], [1, 2, 3])
    split = global_time(histories, np.array([0, 1, 2, 3, 4, 5, 7, 6, 8, 9]), 10, 0.2, 0.2)
    assert rows(split.train) == [[1, 2, 3, 4, 5, 6], []]
    assert rows(split.validation) == [[7], [1]]
    assert rows(split.test) == [[], [2, 3]]
    assert split.cases("validation").tolist() == [0]
    assert split.cases("test").tolist() == [1]


def test_times_that_cannot_be_split_are_an_error():
    with pytest.raises(FrugalError, match="leaves no training interactions"):
        global_time(of([1, 2, 3], [4]), np.full(4, 7), 10, 0.1, 0.1)


LENGTHS = st.lists(st.integers(0, 8), min_size=1, max_size=12).filter(any)


@given(LENGTHS)
def test_leave_one_out_is_disjoint_and_complete(lengths):
    ids = iter(range(1000))
    histories = of(*([next(ids) for _ in range(length)] for length in lengths))
    split = leave_one_out(histories, 1000)
    assert rows(split.context("test").followed_by(split.test)) == rows(histories)
    for part in (split.validation, split.test):
        assert part.lengths.tolist() == [int(length >= 3) for length in lengths]


@given(LENGTHS, st.integers(0, 10_000))
def test_global_time_is_disjoint_complete_and_blind_to_the_future(lengths, seed):
    count = sum(lengths)
    rng = np.random.default_rng(seed)
    users = rng.permutation(np.repeat(np.arange(len(lengths)), lengths))
    items, times = np.arange(count), np.sort(rng.integers(0, 3 * count, count))  # item i is row i, at times[i]
    histories = in_time_order(users, items, times, len(lengths))
    try:
        split = global_time(histories, times[histories.items], count, 0.2, 0.3)
    except FrugalError:
        return
    together = split.context("test").followed_by(split.test)
    assert rows(together) == rows(histories)
    train, validation, test = (times[part.items] for part in (split.train, split.validation, split.test))
    assert train.max() < validation.min()
    assert validation.max() < test.min()

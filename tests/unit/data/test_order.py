"""The order of interactions: by user and time, and where times are equal by a rule that leaks nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from frugal.data.interactions.order import describe_ties, in_order

from .test_interactions import OWN, THOROUGH, rows_of, whole, write

SOME_TIMES = st.integers(0, 3) | st.just(10**11 - 1)


@pytest.mark.parametrize("policy", ["keep", "keep_last"])
@given(rows=st.lists(st.tuples(whole, whole, st.just(1.0) | st.just(2.0), SOME_TIMES), min_size=1, max_size=20))
@THOROUGH
def test_the_order_of_the_file_changes_no_sequence(prepared, policy: str, rows: list) -> None:
    one, two = (prepared("csv", write("csv", order), on_duplicates=policy, **OWN) for order in (rows, rows[::-1]))
    # Which of two duplicates is the last is a matter of the file; their items and times are the same.
    places = slice(None) if policy == "keep" else [0, 1, 3]
    assert one.interactions.iloc[:, places].equals(two.interactions.iloc[:, places])
    assert one.facts["ties"] == two.facts["ties"]


@given(rows=rows_of(whole), seed=st.integers(0, 9))
@THOROUGH
def test_all_rows_are_kept_by_user_and_time(rows: list, seed: int) -> None:
    columns, ids = table([(int(user) % 3, int(item) % 5, time * 10**8) for user, item, _, time in rows])
    for tie_order in ("random", "file"):
        order = in_order(columns, ids, ids, tie_order, seed)
        assert sorted(order) == list(range(len(rows)))
        if tie_order == "file":
            assert order.tolist() == np.lexsort((columns["timestamp"], columns["user"])).tolist()
        assert all(np.diff(columns["user"][order]) >= 0)
        assert all(np.diff(columns["timestamp"][order].astype(object))[np.diff(columns["user"][order]) == 0] >= 0)


def table(rows: list[tuple[int, int, int]]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Columns of rows (user, item, time), and ids for users and items alike."""
    columns, kinds = zip(*rows, strict=True), (np.int32, np.int32, np.int64)
    user, item, time = (np.array(values, kind) for values, kind in zip(columns, kinds, strict=True))
    columns = {"user": user, "item": item, "rating": np.ones(len(rows), np.float32), "timestamp": time}
    return columns, [str(number) for number in range(int(max(user.max(), item.max())) + 1)]


def tied_data(sort_by: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """2,000 users, 300 items, ten of them at each of three moments; lower items are more popular.

    Returns:
        user, item and timestamp, rows in the order of the item (or of the user and then the item), and the items' ids.
    """
    rng, users, items = np.random.default_rng(0), 2000, 300
    chances = 1 / np.arange(1, items + 1) ** 0.7
    baskets = [rng.choice(items, 30, replace=False, p=chances / chances.sum()) for _ in range(users)]
    user, item = np.repeat(np.arange(users), 30).astype(np.int32), np.concatenate(baskets).astype(np.int32)
    time = np.tile(np.repeat([100, 200, 300], 10), users)
    order = np.lexsort((user, item) if sort_by == "item" else (item, user))
    return user[order], item[order], time[order], [f"B{number:05}" for number in range(items)]


@pytest.mark.parametrize("sort_by", ["item", "user"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_place_within_a_tie_says_nothing_of_the_item(sort_by: str, seed: int) -> None:
    user, item, time, item_ids = tied_data(sort_by)
    columns = {"user": user, "item": item, "rating": np.ones(len(user), np.float32), "timestamp": time}
    user_ids = [str(number) for number in range(2000)]

    def places_and_items(tie_order: str) -> tuple[np.ndarray, np.ndarray]:
        order = in_order(columns, user_ids, item_ids, tie_order, seed)
        # Ten rows a tie: the place is the row's last digit.
        return np.arange(len(order)) % 10, item[order]

    place, ordered = places_and_items("random")
    popularity = np.bincount(item)
    # 60,000 rows: the standard error of a correlation is .004.
    assert abs(spearmanr(place, ordered).statistic) < 0.016  # number and name
    assert abs(spearmanr(place, popularity[ordered]).statistic) < 0.016
    # No item has a place of its own, and no pair of items an order: means over ties of uniform places, 4.5 +- 2.87.
    means = np.bincount(ordered, place) / popularity
    assert np.abs((means - 4.5) / (2.87 / np.sqrt(popularity))).max() < 4.5
    both = first_before_second(place, ordered, 0, 1)
    assert abs(both.mean() - 0.5) < 4 * 0.5 / np.sqrt(both.size)
    assert both.size > 100
    # What the file gives away.
    place, ordered = places_and_items("file")
    assert spearmanr(place, ordered).statistic > 0.7
    assert first_before_second(place, ordered, 0, 1).all()


def first_before_second(place: np.ndarray, item: np.ndarray, first: int, second: int) -> np.ndarray:
    """bool, (ties with both items,)."""
    ties = np.stack([item, place]).reshape(2, -1, 10)
    at = [np.where(ties[0] == one, ties[1], -1).max(axis=1) for one in (first, second)]
    both = (at[0] >= 0) & (at[1] >= 0)
    return (at[0] < at[1])[both]


def test_the_same_basket_has_another_order_at_another_time_user_and_seed() -> None:
    rows = [(user, item, time) for user in range(2) for time in range(2) for item in range(8)]
    columns, ids = table(rows)
    orders = {}
    for seed in (0, 1):
        items = columns["item"][in_order(columns, ids, ids, "random", seed)].reshape(4, 8)
        orders |= {(seed, place): tuple(basket) for place, basket in enumerate(items)}
    assert len(set(orders.values())) == 8


def test_the_order_depends_on_ids_and_not_on_their_numbers(prepared) -> None:
    """A further item that sorts before all others gives every item another number, and changes no other's place."""
    rows = [("ann", f"x{number}", 1.0, 5) for number in range(9)]

    def names(rows: list) -> list[str]:
        result = prepared("csv", write("csv", rows), **OWN)
        return list(result.items.index[result.interactions["item"]])

    before = names(rows)
    after = names([*rows, ("ann", "a", 1.0, 5)])
    assert [name for name in after if name != "a"] == before
    assert before != sorted(before)


def test_ties_are_counted_by_hand() -> None:
    # User 0: 1 1 2 2 2, user 1: 5 6, user 2: 7, user 3: 8 8.
    user, time = np.array([0, 0, 0, 0, 0, 1, 1, 2, 3, 3]), np.array([1, 1, 2, 2, 2, 5, 6, 7, 8, 8])
    # Pairs that do not end at a user's last item are those of user 0: 1 1, 1 2 and 2 2.
    assert describe_ties(user, time, 4) == {"users_at_end": 2, "at_end": 0.5, "elsewhere": pytest.approx(2 / 3)}


def test_data_without_times_keep_the_order_of_the_file(prepared) -> None:
    text = b"who,what\nann,z\nbob,z\nann,a\nann,m\n"
    result = prepared("csv", text, columns={"user": "who", "item": "what"})
    assert list(result.items.index[result.interactions["item"]]) == ["z", "a", "m", "z"]
    ties = {"order": "file", "seed": None, "users_at_end": 0, "at_end": 0.0, "elsewhere": 0.0}
    assert result.facts["ties"] == ties


def test_the_order_of_the_file_where_the_data_set_says_so(prepared) -> None:
    text = b"who,what,when\nann,z,1\nann,a,1\nann,m,1\nann,b,0\n"
    result = prepared("csv", text, columns={"user": "who", "item": "what", "timestamp": "when"}, tie_order="file")
    assert list(result.items.index[result.interactions["item"]]) == ["b", "z", "a", "m"]
    assert (result.facts["ties"]["order"], result.facts["ties"]["seed"]) == ("file", None)

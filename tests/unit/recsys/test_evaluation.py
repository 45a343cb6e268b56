"""Full ranking: what is filtered, how ties fall, and what does not change the result."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from frugal.errors import FrugalError
from frugal.recsys.evaluation import PREDICTION_COLUMNS, evaluate
from frugal.recsys.histories import Histories, Split


def histories(*rows: list[int]) -> Histories:
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return Histories(np.array([item for row in rows for item in row], dtype=np.int32), offsets)


def split(train: list[list[int]], test: list[list[int]], item_count: int, validation=None) -> Split:
    nothing = [[] for _ in train]
    return Split(histories(*train), histories(*(validation or nothing)), histories(*test), item_count)


def fixed(*scores: list[float]):
    """A scorer that gives user u the scores of row u."""
    return lambda users, _: np.array(scores, dtype=np.float32)[users]


def constant(item_count: int):
    return lambda users, _: torch.zeros(len(users), item_count)


def test_history_is_left_out_and_other_items_are_counted():
    # User 0 had items 0 (train) and 1 (validation); of 2, 3 and 4 the target 4 is second.
    # User 1 had item 4; the targets 0 and 3 come first and third of 0, 2, 3 and 1.
    parts = split([[0], [4]], [[4], [3, 0]], 5, validation=[[1], []])
    result = evaluate(fixed([9, 8, 3, 1, 2], [5, 1, 4, 3, 9]), parts, "test", cutoffs=(1, 2))
    assert result.users.tolist() == [0, 1]
    assert result.targets.tolist() == [1, 2]
    assert result.rank.tolist() == [2, 1]
    assert result.per_user["recall@2"].tolist() == [1, 0.5]
    assert result.metrics["HR@1"] == 0.5
    assert result.metrics["MRR"] == 0.75
    # The first items are 2 and 0 of five, the first two 2, 4 and 0, 2.
    assert result.metrics["coverage@1"] == pytest.approx(2 / 5)
    assert result.metrics["coverage@2"] == pytest.approx(3 / 5)
    # With 10 places there is room for all candidates: 2, 3, 4 and 0, 1, 2, 3.
    assert result.metrics["coverage@10"] == 1


def test_validation_does_not_know_its_own_items():
    parts = split([[0]], [[2]], 4, validation=[[1]])
    seen = []

    def scorer(users, known):
        seen.append(known[0].tolist())
        return np.array([[9.0, 1, 3, 2]])

    # The target 1 is behind 2 and 3; the test item 2 is a candidate like any other.
    assert evaluate(scorer, parts, "validation").rank.tolist() == [3]
    evaluate(scorer, parts, "test")
    assert seen == [[0], [0, 1]]


def test_a_repeated_target_is_ranked_with_the_whole_history_or_not_at_all():
    parts = split([[0, 1], [0]], [[0], [2]], 3)
    scores = fixed([7, 9, 8], [9, 8, 7])
    for history in ("auto", "keep"):
        assert evaluate(scores, parts, "test", history=history).rank.tolist() == [3, 3]
    left = evaluate(scores, parts, "test", history="exclude")
    assert (left.users.tolist(), left.rank.tolist()) == ([1], [2])


def test_targets_that_are_all_repeated_are_no_test():
    with pytest.raises(FrugalError, match=r"all targets are repeated; set evaluation\.history to 'keep'"):
        evaluate(constant(3), split([[0]], [[0]], 3), "test", history="exclude")


def chance(repeats: bool, length: int = 60):
    """1,500 users and 100 items, drawn uniformly: nothing can be predicted."""
    rng = np.random.default_rng(3)
    drawn = [(rng.integers(100, size=length) if repeats else rng.permutation(100)[:length]).tolist()
             for _ in range(1500)]  # fmt: skip
    return split([row[:-1] for row in drawn], [row[-1:] for row in drawn], 100)


def copy_history(users, known):
    return np.array([np.isin(np.arange(100), row) for row in known], dtype=np.float32)


def most_recent(users, known):
    return np.array([np.arange(100) == row[-1] for row in known], dtype=np.float32)


# Not "keep" without repeats: there, items of the history are known to be wrong.
@pytest.mark.parametrize(
    ("repeats", "history"),
    [(False, "auto"), (False, "exclude"), (True, "auto"), (True, "exclude"), (True, "keep")],
)
@pytest.mark.parametrize("name", ["constant", "random", "copy", "recent", "popular"])
def test_scorers_that_know_nothing_get_chance_level(name, history, repeats):
    parts = chance(repeats)
    popularity = np.bincount(parts.context("test").items, minlength=100).astype(np.float32)
    rng = np.random.default_rng(5)
    scorer = {
        "constant": constant(100),
        "random": lambda users, known: rng.random((len(users), 100)),
        "copy": copy_history,
        "recent": most_recent,
        "popular": lambda users, known: np.tile(popularity, (len(users), 1)),
    }[name]
    result = evaluate(scorer, parts, "test", cutoffs=(10,), history=history)
    kept = parts.keeps_history(history)
    ranked = np.array([100 if kept else 100 - len(set(parts.train[user])) for user in result.users])
    expected, users = (10 / ranked).mean(), len(ranked)
    # The bound is five standard errors of a share over these users, because there are 25 tests.
    assert result.metrics["HR@10"] == pytest.approx(expected, abs=5 * (expected * (1 - expected) / users) ** 0.5)


def test_long_histories_of_few_items_do_not_make_every_scorer_perfect():
    # 200 users with 61 of 10 items: HR@5 is 1/2 by chance, its standard error over 200 users .035.
    rng = np.random.default_rng(0)
    drawn = rng.integers(10, size=(200, 61)).tolist()
    parts = split([row[:-1] for row in drawn], [row[-1:] for row in drawn], 10)
    copies = lambda users, known: np.array([np.isin(np.arange(10), row) for row in known], np.float32)  # noqa: E731
    for scorer in (constant(10), copies):
        assert evaluate(scorer, parts, "test", (5,)).metrics["HR@5"] == pytest.approx(0.5, abs=0.15)


def test_a_catalogue_of_one_item():
    result = evaluate(fixed([0.5]), split([[0, 0]], [[0]], 1), "test")
    assert result.rank.tolist() == [1]
    assert result.metrics["NDCG@10"] == result.metrics["coverage@10"] == 1


def test_a_scorer_that_knows_nothing_gets_what_chance_gives():
    # 41 candidates, as 9 of 50 items were had: HR@10 = 10 / 41 = 0.2439 on average,
    # its standard error over 4,000 users sqrt(0.2439 * 0.7561 / 4000) = 0.0068.
    rng = np.random.default_rng(1)
    drawn = [rng.permutation(50)[:10].tolist() for _ in range(4000)]
    parts = split([row[1:] for row in drawn], [row[:1] for row in drawn], 50)
    result = evaluate(constant(50), parts, "test", cutoffs=(1, 10))
    assert result.metrics["HR@10"] == pytest.approx(10 / 41, abs=4 * 0.0068)
    # Ids decide nothing: what comes first is spread over the catalogue, too.
    assert result.metrics["coverage@1"] == 1
    assert evaluate(constant(50), parts, "test", seed=1).rank.tolist() != result.rank.tolist()


def test_a_tie_across_the_last_place_is_broken_for_each_user():
    # Item 0 was had, the items 1 to 9 are first for everyone, and one of eleven equal ones takes place 10.
    scores = np.r_[0, np.arange(20, 11, -1), np.ones(11)]
    parts = split([[0]] * 300, [[1]] * 300, 21)
    result = evaluate(lambda users, _: np.tile(scores, (len(users), 1)), parts, "test", cutoffs=(10,))
    assert result.metrics["coverage@10"] == 20 / 21


def test_tied_targets_of_one_user_have_ranks_of_their_own():
    # All four candidates are targets and equal: they take the ranks 1 to 4, so every measure is 1.
    result = evaluate(constant(5), split([[0]], [[1, 2, 3, 4]], 5), "test", cutoffs=(4,))
    assert result.per_user["NDCG@4"].tolist() == [pytest.approx(1)]
    assert result.per_user["recall@4"].tolist() == [1]


def test_infinite_scores_do_not_let_filtered_items_in():
    low, high = -np.inf, np.inf
    result = evaluate(fixed([high, low, low, 0]), split([[0]], [[1]], 4), "test")
    assert result.rank[0] in (2, 3)
    assert result.metrics["coverage@10"] == 3 / 4


@st.composite
def worlds(draw):
    item_count = draw(st.integers(2, 12))
    row = st.lists(st.integers(0, item_count - 1), min_size=1, max_size=8)
    users = draw(st.integers(1, 7))
    train = draw(st.lists(row, min_size=users, max_size=users))
    test = draw(st.lists(row.map(lambda items: sorted(set(items))), min_size=users, max_size=users))
    # Few different values, so that most rows have ties.
    line = st.lists(st.integers(0, 3), min_size=item_count, max_size=item_count)
    scores = np.array(draw(st.lists(line, min_size=users, max_size=users)), dtype=np.float32)
    return split(train, test, item_count), scores


@settings(deadline=None)
@given(worlds(), st.integers(0, 3), st.sampled_from(["auto", "keep", "exclude"]))
def test_ranks_and_coverage_come_from_one_sorted_list_whatever_the_batch_size(world, seed, history):
    parts, scores = world
    assume(len(parts.cases("test", history)))
    kept, targets = parts.keeps_history(history), parts.targets("test", history)
    results = [
        evaluate(fixed(*scores), parts, "test", (1, 3), batch_size, seed, sampled_negatives=2, history=history)
        for batch_size in (1, 3, 64)
    ]
    covered = set()
    for user, rank in zip(results[0].users, results[0].rank, strict=True):
        candidates = [i for i in range(parts.item_count) if kept or i not in parts.train[user]]
        priority = np.random.default_rng([seed, user]).random(parts.item_count)
        order = sorted(candidates, key=lambda i: (-scores[user, i], priority[i]))
        assert rank == 1 + min(order.index(item) for item in targets[user])
        covered |= set(order[:3])
    assert results[0].metrics["coverage@3"] == pytest.approx(len(covered) / parts.item_count)
    for other in results[1:]:
        assert other.rank.tolist() == results[0].rank.tolist()
        assert other.metrics == results[0].metrics
        assert other.sampled == results[0].sampled


def test_users_are_scored_by_length_of_history_and_returned_in_their_order():
    batches = []

    def scorer(users, known):
        batches.append([len(history) for history in known])
        return np.tile(np.arange(9.0), (len(users), 1))

    parts = split([[0, 1, 2], [0], [], [4, 3], [5]], [[8], [7], [6], [8], []], 9)
    result = evaluate(scorer, parts, "test", batch_size=2)
    assert batches == [[1, 2], [3]]
    # User 2 has no history, user 4 no target.
    assert result.users.tolist() == [0, 1, 3]
    assert result.rank.tolist() == [1, 2, 1]
    assert evaluate(scorer, parts, "test", users=np.array([3, 2, 1])).users.tolist() == [1, 3]


def test_sampled_negatives_are_neither_history_nor_targets():
    # The items 0 to 4 were had and would beat every target; 50 and 51 are the targets, the best of the rest.
    scores = np.arange(52.0)
    scores[:5] = 99
    parts = split([[0, 1, 2, 3, 4]], [[50, 51]], 52)
    result = evaluate(fixed(scores), parts, "test", cutoffs=(2,), sampled_negatives=20)
    assert result.sampled["recall@2"] == result.sampled["NDCG@2"] == 1
    # The worst scores instead: behind all 20 negatives, on the ranks 21 and 22, and on 46 and 47 of all.
    worst = evaluate(fixed(-scores), parts, "test", cutoffs=(20, 22), sampled_negatives=20)
    assert worst.sampled["MRR"] == pytest.approx(1 / 21)
    assert (worst.sampled["HR@20"], worst.sampled["recall@22"]) == (0, 1)
    assert worst.rank.tolist() == [46]
    # More than there are: all 45.
    everything = evaluate(fixed(-scores), parts, "test", sampled_negatives=1000)
    assert everything.sampled["MRR"] == pytest.approx(1 / 46)


def test_sampled_negatives_are_drawn_uniformly():
    # One target and 9 negatives, all equal: HR@5 is 1/2, its standard error over 2,000 users 0.011.
    parts = split([[0]] * 2000, [[1]] * 2000, 30)
    assert evaluate(constant(30), parts, "test", (5,), sampled_negatives=9).sampled["HR@5"] == pytest.approx(
        0.5, abs=0.045
    )
    # The target beats the items 2 to 15, not 16 to 29: one negative is as likely before it as behind it.
    scores = np.r_[0, 15.5, np.arange(2, 30)]
    behind_one = evaluate(lambda users, _: np.tile(scores, (len(users), 1)), parts, "test", (1,), sampled_negatives=1)
    assert behind_one.sampled["HR@1"] == pytest.approx(0.5, abs=0.045)


@pytest.mark.parametrize(
    ("scores", "parts", "message"),
    [
        ([[0, np.nan, 0]], split([[0]], [[1]], 3), "NaN"),
        ([[0, 0]], split([[0]], [[1]], 3), "shape"),
        ([[0, 0, 0]], split([[3]], [[1]], 3), "item 3 is beyond the catalogue of 3"),
        ([[0, 0, 0]], split([[0]], [[3]], 3), "item 3 is beyond the catalogue of 3"),
        ([[0, 0, 0]], split([[]], [[1]], 3), "no user has both a history and a test item"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores, parts, message):
    with pytest.raises(FrugalError, match=message):
        evaluate(fixed(*scores), parts, "test")


def test_a_scorers_own_array_is_left_alone():
    scores = torch.ones(1, 3)
    evaluate(lambda users, _: scores, split([[0]], [[1]], 3), "test")
    assert scores.tolist() == [[1, 1, 1]]


def test_half_precision_is_ranked():
    scores = torch.tensor([[0, 3, 2, 1]], dtype=torch.bfloat16)
    assert evaluate(lambda users, _: scores, split([[0]], [[2]], 4), "test").rank.tolist() == [2]


def test_predictions_have_one_row_a_user():
    frame = evaluate(fixed([0, 3, 2, 1]), split([[0]], [[2]], 4), "test").to_frame(seed=7)
    assert dict(frame.dtypes.astype(str)) == PREDICTION_COLUMNS
    # One hit on rank 2: NDCG 1 / log2(3) = 0.63093.
    assert frame.iloc[0].tolist() == pytest.approx([7, 0, 1, 2, 1, 0.63093, 1, 0.5], abs=1e-5)


def test_scores_stay_where_they_are_computed(monkeypatch):
    """To the CPU go ranks and the top of each row, and a row of scores where some of it are equal."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.permutation(2 * 500).reshape(2, 500).astype(np.float32))
    parts = split([[0], [4]], [[4], [3, 7]], 500)
    moved, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: moved.append(tensor.numel()) or cpu(tensor))
    evaluate(lambda users, _: scores[users], parts, "test", cutoffs=(5,), sampled_negatives=20)
    assert max(moved) == 2 * 11  # two users, the first ten and one more

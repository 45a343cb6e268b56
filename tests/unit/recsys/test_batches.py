"""Training batches: every item once an epoch, and the same batches whoever asks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.recsys.batches import Batches, EpochLoader, target_counts
from frugal.recsys.histories import Histories

MASK = 10_000  # no item has this id
LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=12)


def of(lengths: list[int]) -> Histories:
    """Item i is the i-th interaction, so that each is known by its id."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Histories(np.arange(offsets[-1], dtype=np.int32), offsets)


def batches_of(lengths: list[int], length=4, batch_size=3, seed=1, causal=True, **options) -> Batches:
    return Batches(of(lengths), length, batch_size, seed, causal, None if causal else MASK, **options)


def epoch_of(batches: Batches, epoch: int) -> list[dict[str, torch.Tensor]]:
    return [batches[epoch, number] for number in range(len(batches))]


def windows(batches: list[dict[str, torch.Tensor]]) -> list[tuple[int, list[int], list[int]]]:
    """User, inputs and labels of each row, without padding, in order."""
    found = []
    for batch in batches:
        for user, ids, labels, length in zip(
            *(batch[name].tolist() for name in ("user_ids", "input_ids", "labels", "lengths")), strict=True
        ):
            assert set(labels[length:]) <= {-100}
            found.append((user, ids[:length], labels[:length]))
    return sorted(found)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@settings(deadline=None)
@given(lengths=LENGTHS, length=st.integers(1, 9), batch_size=st.integers(1, 7), epoch=st.integers(0, 5))
def test_each_item_is_a_target_once_an_epoch(lengths, length, batch_size, epoch):
    histories = of(lengths)
    batches = batches_of(lengths, length, batch_size)
    found = windows(epoch_of(batches, epoch))
    targets = sorted(item for _, _, labels in found for item in labels)
    first = {int(start) for start, count in zip(histories.offsets, lengths, strict=False) if count}
    assert targets == sorted(set(range(sum(lengths))) - first)
    for user, ids, labels in found:
        assert 1 <= len(ids) <= length
        assert labels == [item + 1 for item in ids]
        assert set(ids + labels) <= set(histories[user].tolist())
    assert sum(len(ids) for _, ids, _ in found) == batches.positions


@settings(deadline=None)
@given(lengths=LENGTHS, length=st.integers(1, 9), probability=st.floats(0.01, 0.99))
def test_masked_windows(lengths, length, probability):
    batches = batches_of(lengths, length, causal=False, mask_probability=probability)
    read = []
    for user, ids, labels in windows(epoch_of(batches, 2)):
        items = [label if label != -100 else item for item, label in zip(ids, labels, strict=True)]
        assert [item == MASK for item in ids] == [label != -100 for label in labels]
        assert MASK in ids
        assert 1 <= len(items) <= length
        assert items == list(range(items[0], items[0] + len(items)))
        assert set(items) <= set(of(lengths)[user].tolist())
        read += items
    assert sorted(read) == list(range(sum(lengths)))


def test_share_of_hidden_items():
    batches = batches_of([40] * 200, 40, 50, causal=False, mask_probability=0.3)
    hidden = sum(ids.count(MASK) for _, ids, _ in windows(epoch_of(batches, 0)))
    # 8000 items: .3, give or take sqrt(.3 x .7 / 8000) = .005.
    assert hidden / 8000 == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("count", "causal", "expected"),
    [
        # Up to 4 targets a window; a causal history has one target less than items.
        (0, True, []),
        (1, True, []),
        (2, True, [1]),
        (5, True, [4]),
        (6, True, {(4, 1), (3, 2), (2, 3), (1, 4)}),
        (9, True, {(4, 4), (3, 4, 1), (2, 4, 2), (1, 4, 3)}),
        (0, False, []),
        (1, False, [1]),
        (4, False, [4]),
        (8, False, {(4, 4), (3, 4, 1), (2, 4, 2), (1, 4, 3)}),
    ],
)
def test_windows_of_one_history(count, causal, expected):
    found = windows(epoch_of(batches_of([count], causal=causal), 0))
    if isinstance(expected, set):  # cut anywhere
        assert tuple(len(ids) for _, ids, _ in found) in expected
    else:
        assert [len(ids) for _, ids, _ in found] == expected


def test_windows_change_from_epoch_to_epoch_and_the_number_of_batches_does_not():
    batches = batches_of([11, 3, 18])
    # 10, 2 and 17 targets, up to 4 in a window: at most 4 (3.25 on average), 1 and 5 windows; 3 in a batch.
    assert len(batches) == 4
    assert batches.rows == 3.25 + 1 + 5
    epochs = [windows(epoch_of(batches, epoch)) for epoch in range(400)]
    assert {len(found) for found in epochs} == {9, 10}
    assert np.mean([len(found) for found in epochs]) == pytest.approx(batches.rows, abs=0.1)
    assert len({str([ids for user, ids, _ in found if user == 0]) for found in epochs}) == 4


def test_no_batch_is_empty():
    # 5 targets are 2 or 3 windows; one in a batch at most would leave a third batch empty.
    batches = batches_of([6], batch_size=1)
    assert all(len(batch["lengths"]) for epoch in range(20) for batch in epoch_of(batches, epoch))


def test_any_order_gives_the_same_batches():
    lengths = [11, 3, 18, 0, 7, 7, 30]
    for causal in (True, False):
        straight = [epoch_of(batches_of(lengths, causal=causal), epoch) for epoch in (0, 1)]
        batches = batches_of(lengths, causal=causal)
        for epoch, number in [(1, 2), (0, 1), (1, 0), (1, 2), (0, 0)]:
            assert same(batches[epoch, number], straight[epoch][number])
        assert not same(straight[0][0], straight[1][0])
        assert not same(batches_of(lengths, causal=causal, seed=2)[0, 0], straight[0][0])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_a_batch(causal, world_size):
    lengths = [11, 3, 18, 0, 7, 7, 30]
    whole = batches_of(lengths, batch_size=6, causal=causal)
    parts = [
        batches_of(lengths, batch_size=6, causal=causal, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for number in range(len(whole)):
        shares = [part[3, number] for part in parts]
        assert max(len(share["lengths"]) for share in shares) - min(len(share["lengths"]) for share in shares) <= 1
        for name, tensor in whole[3, number].items():
            for rank, share in enumerate(shares):
                assert torch.equal(share[name], tensor[rank::world_size])


def test_batches_have_windows_of_similar_length():
    # 64 windows, of 2 to 33 items, sorted in groups of 8 batches of 4: two groups, in each the lengths of a
    # batch are neighbours. Without sorting, the longest of four would be 27 on average, and the sum 64 x 27.
    batches = batches_of(list(range(3, 35)) * 2, length=40, batch_size=4)
    padded = sum(batch["input_ids"].numel() for batch in epoch_of(batches, 0))
    real = sum(int(batch["lengths"].sum()) for batch in epoch_of(batches, 0))
    assert padded < 1.15 * real


def test_loader_goes_through_an_epoch():
    batches = batches_of([11, 3, 18])
    loader = EpochLoader(batches)
    assert len(loader) == len(batches)
    for epoch in (1, 0):
        loader.set_epoch(epoch)
        got = list(loader)
        assert len(got) == len(batches)
        assert all(same(one, other) for one, other in zip(got, epoch_of(batches, epoch), strict=True))


def test_targets_of_an_epoch_by_hand():
    # Users with the items 0 1 1, none, and 2: what comes first is no target of a causal model.
    histories = Histories(np.array([0, 1, 1, 2], np.int32), np.array([0, 3, 3, 4]))
    assert target_counts(histories, 4, causal=True).tolist() == [0, 2, 0, 0]
    assert target_counts(histories, 4, causal=False).tolist() == [1, 2, 1, 0]


@pytest.mark.parametrize("causal", [True, False])
def test_times_stand_beside_their_items(causal):
    # The time of the i-th interaction, which is item i, is 100 + i.
    histories = Histories(np.arange(9, dtype=np.int32), np.array([0, 7, 9]), 100 + np.arange(9))
    mask = None if causal else MASK
    batches = Batches(histories, 4, 3, 1, causal, mask)
    for batch in epoch_of(batches, 0):
        assert batch["times"].shape == batch["input_ids"].shape
        for ids, times, length in zip(batch["input_ids"], batch["times"], batch["lengths"], strict=True):
            seen = ids[:length] != MASK
            assert torch.equal(times[:length][seen], 100 + ids[:length][seen])
            assert not times[length:].any()
    assert "times" not in batches_of([7, 2], causal=causal)[0, 0]


def test_worker_processes_make_the_same_batches_in_the_same_order():
    batches = batches_of([5, 9, 2, 7, 30], causal=False)
    alone, helped = EpochLoader(batches), EpochLoader(batches, num_workers=2, persistent_workers=True)
    for epoch in range(2):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        assert all(same(one, other) for one, other in zip(alone, helped, strict=True))


@pytest.mark.parametrize("causal", [True, False])
def test_more_batches_sorted_together_are_padded_less(causal):
    """Histories as long-tailed as those of a shop, each of them in one window."""
    lengths = (2 + 40 * np.random.default_rng(0).pareto(1.5, 4000)).clip(max=200).astype(int).tolist()

    def padded(sorted_together):
        batches = batches_of(lengths, 200, 8, causal=causal, sorted_together=sorted_together)
        return sum(batch["input_ids"].numel() for batch in epoch_of(batches, 0)) / batches.positions

    assert padded(8) > 1.05 > padded(64) >= 1
    one, other = (epoch_of(batches_of(lengths[:100], 200, 8, causal=causal, sorted_together=n), 0) for n in (8, 64))
    assert [user for user, *_ in windows(one)] == [user for user, *_ in windows(other)]

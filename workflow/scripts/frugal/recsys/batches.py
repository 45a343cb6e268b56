"""Training batches: windows over histories, of similar length, padded to the longest of the batch only."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from frugal.recsys.histories import Histories
from frugal.recsys.modeling import IGNORED


@dataclass(frozen=True)
class Windows:
    """Pieces of histories: rows of the training batches.

    Attributes:
        users: int64, (rows,).
        starts, stops: int64, (rows,), into ``Histories.items``.
    """

    users: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def draw_windows(offsets: np.ndarray, length: int, causal: bool, rng: np.random.Generator) -> Windows:
    """Cut every history into windows, at places that change from draw to draw.

    A causal window has up to ``length`` targets and the item before them, a masked one up to ``length``
    items. Each item is a target (causal: but the first of a user) in exactly one window. What fits into
    one window is not cut.

    Args:
        offsets: int64, (users + 1,), of the histories.
    """
    targets = window_targets(offsets, causal)
    shift = np.where(targets > length, rng.integers(0, length, len(targets)), 0)
    counts = -(-(targets + shift) // length)
    users = np.repeat(np.arange(len(targets)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first = number * length - shift[users]
    begin, end = np.maximum(first, 0), np.minimum(first + length, targets[users])
    return Windows(users, offsets[users] + begin, offsets[users] + end + causal)


def window_targets(offsets: np.ndarray, causal: bool) -> np.ndarray:
    """int64, (users,): how many items of each user can be targets."""
    lengths = np.diff(offsets)
    return np.maximum(lengths - 1, 0) if causal else lengths


def target_counts(histories: Histories, item_count: int, causal: bool) -> np.ndarray:
    """int64, (item_count,): how often each item can be a target in an epoch."""
    counts = np.bincount(histories.items, minlength=item_count)
    if not causal:
        return counts
    first = histories.items[histories.offsets[:-1][histories.lengths > 0]]
    return counts - np.bincount(first, minlength=item_count)


class Batches(Dataset):
    """The batches of any epoch, each a function of the seed, the epoch and its number alone.

    A run that was interrupted, one with other worker processes, and several processes together see the
    same batches.

    Args:
        histories: the training part.
        length: longest window, see `draw_windows`.
        batch_size: windows a batch at most, over all processes together.
        causal: predict each next item; or else the items that are masked.
        mask_token_id: the id that hides an item (masked models).
        mask_probability: of each item to be hidden; at least one of a window is.
        sorted_together: batches whose windows are sorted by length together: more waste less on padding, and mix less.
        rank, world_size: this process takes every ``world_size``-th row of each batch.
    """

    def __init__(
        self,
        histories: Histories,
        length: int,
        batch_size: int,
        seed: int,
        causal: bool = True,
        mask_token_id: int | None = None,
        mask_probability: float = 0.2,
        sorted_together: int = 8,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.histories, self.length, self.batch_size, self.seed = histories, length, batch_size, seed
        self.causal, self.mask_token_id = causal, mask_token_id
        self.mask_probability, self.sorted_together = mask_probability, sorted_together
        self.rank, self.world_size = rank, world_size
        self.epoch: int | None = None
        targets = window_targets(histories.offsets, causal)
        cut = np.where(targets > length, (targets + length - 1) / length, targets > 0)
        #: Batches an epoch: enough for the most windows that can be drawn, none without a window.
        self.count = min(-(-int(np.ceil(cut).sum()) // batch_size), int((-(-targets // length)).sum()))
        #: Items that the model reads in an epoch; windows, and their mean length, in the mean epoch.
        self.positions, self.rows = int(targets.sum()), float(cut.sum())
        self.mean_length = self.positions / max(self.rows, 1.0)

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Batch ``key[1]`` of epoch ``key[0]``: input_ids, labels, lengths, user_ids, and times where they are kept.

        See `Recommender.forward`.
        """
        epoch, number = key
        if epoch != self.epoch:
            self._plan(epoch)
        rows = self.plan[number]
        starts, stops = self.windows.starts[rows], self.windows.stops[rows]
        lengths = stops - starts
        places = np.arange(lengths.max())
        inside = places < lengths[:, None]
        at = np.minimum(starts[:, None] + places, len(self.histories.items) - 1)
        items = np.where(inside, self.histories.items[at], 0).astype(np.int64)
        if self.causal:
            input_ids, lengths = items[:, :-1], lengths - 1
            labels = np.where(inside[:, 1:], items[:, 1:], IGNORED)
        else:
            hidden = self._masked(inside, lengths, np.random.default_rng([self.seed, epoch, number]))
            labels = np.where(hidden, items, IGNORED)
            input_ids = np.where(hidden, self.mask_token_id, items)
        mine = slice(self.rank, None, self.world_size)
        batch = {"input_ids": input_ids, "labels": labels, "lengths": lengths, "user_ids": self.windows.users[rows]}
        if self.histories.times is not None:
            read = np.arange(input_ids.shape[1])
            batch["times"] = np.where(read < lengths[:, None], self.histories.times[at[:, read]], 0)
        return {name: torch.from_numpy(np.ascontiguousarray(value[mine])) for name, value in batch.items()}

    def _masked(self, inside: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """bool, as ``inside``, (rows, length): the items to be hidden."""
        hidden = (rng.random(inside.shape) < self.mask_probability) & inside
        one = rng.integers(lengths)
        hidden[np.arange(len(lengths)), one] |= ~hidden.any(axis=1)
        return hidden

    def _plan(self, epoch: int) -> None:
        """Draw an epoch's windows, and put them into batches of similar length in random order."""
        rng = np.random.default_rng([self.seed, epoch])
        self.windows = draw_windows(self.histories.offsets, self.length, self.causal, rng)
        lengths = self.windows.stops - self.windows.starts
        order = rng.permutation(len(lengths))
        group = np.arange(len(lengths)) // (self.batch_size * self.sorted_together)
        order = order[np.lexsort((lengths[order], group))]
        # An epoch has more or fewer windows, and always as many batches: they differ in size by one.
        self.plan = np.array_split(order, self.count)
        rng.shuffle(self.plan)
        self.epoch = epoch


class EpochSampler(Sampler):
    """Asks `Batches` for each batch of the epoch in turn."""

    def __init__(self, batches: Batches):
        self.batches, self.epoch = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer, also when a run goes on in the middle of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for number in range(len(self.batches)):
            yield [(self.epoch, number)]


class EpochLoader(DataLoader):
    """A loader of ready batches that knows the epoch."""

    def __init__(self, batches: Batches, **options):
        super().__init__(batches, batch_sampler=EpochSampler(batches), collate_fn=_only, **options)

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


def _only(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return batches[0]

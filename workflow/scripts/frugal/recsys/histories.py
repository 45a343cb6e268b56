"""Who has had what, in which order: the one form of data that every recommender here reads."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from frugal.errors import FrugalError

#: Shorter histories cannot give a training item, a validation target and a test target.
MIN_LENGTH = 3

Part = Literal["validation", "test"]
Chosen = Literal["all", "first", "last"]
#: Whether a user's history is ranked with the rest of the catalogue, see `Split.keeps_history`.
History = Literal["exclude", "keep", "auto"]


@dataclass(frozen=True)
class Histories:
    """The items of every user, each user's in the order of time; a user may have none.

    Attributes:
        items: int32, (interactions,): item ids from 0, user after user.
        offsets: int64, (users + 1,): user u has ``items[offsets[u]:offsets[u + 1]]``.
        times: int64, (interactions,), of ``items``, in seconds; None where they are not kept.
    """

    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None = None

    def __len__(self) -> int:
        """The number of users."""
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        """One user's items, a view."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def times_of(self, user: int) -> np.ndarray:
        """The times of one user's items, a view."""
        return self.times[self.offsets[user] : self.offsets[user + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64, (users,): how many items each user has."""
        return np.diff(self.offsets)

    @property
    def users(self) -> np.ndarray:
        """int64, (interactions,): the user of each of ``items``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @classmethod
    def from_pairs(
        cls, users: np.ndarray, items: np.ndarray, user_count: int, times: np.ndarray | None = None
    ) -> "Histories":
        """From (interactions,) users, items and times; a user's items keep the order in which they stand."""
        order = np.argsort(users, kind="stable")
        offsets = np.concatenate(([0], np.cumsum(np.bincount(users, minlength=user_count))))
        times = None if times is None else np.asarray(times, np.int64)[order]
        return cls(np.asarray(items, np.int32)[order], offsets.astype(np.int64), times)

    def select(self, keep: np.ndarray) -> "Histories":
        """The interactions where ``keep``, bool (interactions,), is true; users stay, even without items."""
        times = None if self.times is None else self.times[keep]
        return Histories.from_pairs(self.users[keep], self.items[keep], len(self), times)

    def followed_by(self, other: "Histories") -> "Histories":
        """Each user's items, and then the same user's items in ``other``."""
        users = np.concatenate((self.users, other.users))
        times = None if self.times is None else np.concatenate((self.times, other.times))
        return Histories.from_pairs(users, np.concatenate((self.items, other.items)), len(self), times)


@dataclass(frozen=True)
class Split:
    """Interactions in three parts; all parts have the same users, and the same catalogue.

    Attributes:
        train: what models learn from.
        validation: what comes after ``train``; chooses when training stops.
        test: what comes after ``train`` and ``validation``; measured once.
        item_count: size of the catalogue; ids run from 0 to item_count - 1, with gaps or without.
        ordered: False where the source has no order in time (the shards of MLPerf): positions mean nothing.
        chosen: which of a user's items in a part are its targets.
        known_repeats: `repeats` of the whole data, where these are a sample of its users; None: counted here.
        ties: see `tie_shares`; None where the times are not known.
    """

    train: Histories
    validation: Histories
    test: Histories
    item_count: int
    ordered: bool = True
    chosen: Chosen = "all"
    known_repeats: int | None = None
    ties: dict[str, float | None] | None = None

    @property
    def user_count(self) -> int:
        return len(self.train)

    @cached_property
    def repeats(self) -> int:
        """The number of interactions with an item that the same user has in an earlier one, in all parts."""
        if self.known_repeats is not None:
            return self.known_repeats
        keys = np.concatenate([self._keys(part) for part in (self.train, self.validation, self.test)])
        keys.sort()
        return int(np.count_nonzero(keys[1:] == keys[:-1]))

    def keeps_history(self, history: History) -> bool:
        """Whether the items of a user's history are ranked too.

        Where items repeat ("auto"), they have to be: without them a target that is one of them would stand out
        among the items that remain.
        """
        return history == "keep" or (history == "auto" and self.repeats > 0)

    def targets(self, part: Part, history: History = "auto") -> Histories:
        """The distinct items to be predicted of each user; none of his history, unless that is ranked."""
        found = self.validation if part == "validation" else self.test
        if not self.keeps_history(history):
            found = found.select(~self._in_context(found, part))
        if self.chosen != "all":
            return _choose(found, self.chosen)
        return found.select(_first(self._keys(found))) if self.repeats else found

    def target_counts(self, part: Part) -> dict[str, int]:
        """Of the targets of users with a history, the whole of it ranked.

        Returns:
            targets: their number; repeated: those in the user's own history; cold: those in nobody's ``train``.
        """
        found = self.targets(part, "keep")
        found = found.select((self.context(part).lengths > 0)[found.users])
        learnt = np.bincount(self.train.items, minlength=self.item_count) > 0
        return {
            "targets": len(found.items),
            "repeated": int(self._in_context(found, part).sum()),
            "cold": int((~learnt[found.items]).sum()),
        }

    def _keys(self, histories: Histories) -> np.ndarray:
        """int64, (interactions,): one number for each user and item."""
        keys = histories.users
        keys *= self.item_count
        keys += histories.items
        return keys

    def _in_context(self, found: Histories, part: Part) -> np.ndarray:
        """bool, (interactions,): the user has had the item before ``part``."""
        if not self.repeats:
            return np.zeros(len(found.items), dtype=bool)
        return np.isin(self._keys(found), self._keys(self.context(part)))

    def context(self, part: Part) -> Histories:
        """What is known of each user when ``part`` is to be predicted."""
        return self.train if part == "validation" else self.train.followed_by(self.validation)

    def cases(self, part: Part, history: History = "auto") -> np.ndarray:
        """int64, (n,): the users that have something to be predicted, and a history to predict it from."""
        return np.flatnonzero((self.targets(part, history).lengths > 0) & (self.context(part).lengths > 0))


def _first(keys: np.ndarray) -> np.ndarray:
    """bool, (n,): no earlier key is the same."""
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def _choose(histories: Histories, chosen: Chosen) -> Histories:
    """Of each user all items, the first or the last."""
    if chosen == "all":
        return histories
    at = histories.offsets[:-1] if chosen == "first" else histories.offsets[1:] - 1
    return histories.select(np.isin(np.arange(len(histories.items)), at[histories.lengths > 0]))


def in_time_order(users: np.ndarray, items: np.ndarray, timestamps: np.ndarray, user_count: int) -> Histories:
    """Histories from prepared interactions, which stand in the right order where a user's times are equal."""
    order = np.argsort(timestamps, kind="stable")
    return Histories.from_pairs(users[order], items[order], user_count)


def leave_one_out(histories: Histories, item_count: int, timestamps: np.ndarray | None = None) -> Split:
    """Each user's last item is the test target, the one before it the validation target.

    Users with fewer than three items train only: nothing of theirs is predicted.

    Args:
        timestamps: int64, (interactions,), of ``histories.items``, for the shares of ties alone.
    """
    lengths = histories.lengths
    position = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], lengths)
    from_end = np.repeat(np.where(lengths >= MIN_LENGTH, lengths, np.iinfo(np.int64).max), lengths) - position
    return _split(histories, timestamps, from_end == 2, from_end == 1, item_count)


def global_time(
    histories: Histories,
    timestamps: np.ndarray,
    item_count: int,
    validation_share: float,
    test_share: float,
    chosen: Chosen = "all",
) -> Split:
    """Two moments, the same for all users, cut the interactions: no model sees the future of anyone.

    A user's items between the moments are the validation part, those after the second the test part. Users without
    anything before a moment are not scored there.

    Args:
        timestamps: int64, (interactions,), of ``histories.items``.
        chosen: which of a user's items in a part are targets.
        validation_share, test_share: shares of the interactions; equal times stay on one side.

    Raises:
        FrugalError: a part would be empty because too many timestamps are equal.
    """
    ordered = np.sort(timestamps)
    cuts = [ordered[int(len(ordered) * share)] for share in (1 - validation_share - test_share, 1 - test_share)]
    validation = (timestamps >= cuts[0]) & (timestamps < cuts[1])
    test = timestamps >= cuts[1]
    for name, part in (("training", ~validation & ~test), ("validation", validation), ("test", test)):
        if not part.any():
            raise FrugalError(f"a split at the times {cuts[0]} and {cuts[1]} leaves no {name} interactions")
    return _split(histories, timestamps, validation, test, item_count, chosen)


def tie_shares(
    histories: Histories, timestamps: np.ndarray, validation: np.ndarray, test: np.ndarray, chosen: Chosen
) -> dict[str, float | None]:
    """How often the order within a tie, and not time, decides what follows what.

    Args:
        timestamps: int64, (interactions,), of ``histories.items``.
        validation, test: bool, (interactions,), the parts; the rest is the training part.

    Returns:
        validation, evaluation: the share of the part's targets that have the time of another interaction of the user.
        elsewhere: the share of equal times among pairs of a user's consecutive interactions in the training part.
        None: there are none.
    """
    users, train = histories.users, ~validation & ~test
    pairs = users[1:] == users[:-1]
    same = pairs & (timestamps[1:] == timestamps[:-1])
    # As items, so that targets are chosen as of items.
    tied = Histories((np.append(same, False) | np.insert(same, 0, False)).astype(np.int32), histories.offsets)
    inside = pairs & train[1:] & train[:-1]
    return {
        "validation": _mean(_choose(tied.select(validation), chosen).items),
        "evaluation": _mean(_choose(tied.select(test), chosen).items),
        "elsewhere": _mean(same[inside]),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _split(
    histories: Histories,
    timestamps: np.ndarray | None,
    validation: np.ndarray,
    test: np.ndarray,
    item_count: int,
    chosen: Chosen = "all",
) -> Split:
    parts = (histories.select(keep) for keep in (~validation & ~test, validation, test))
    ties = None if timestamps is None else tie_shares(histories, timestamps, validation, test, chosen)
    return Split(*parts, item_count=item_count, chosen=chosen, ties=ties)

"""The order of a user's interactions: by time, and where times are equal by a rule that favours no item.

Files are often sorted by item, as Amazon's reviews are: their order, kept where times are equal, would give away which
of several items comes last. So the order within a tie is that of a hash of seed, user, time and item, of the ids in the
file and not of their numbers: the same interactions in any order of rows give the same sequences.
"""

import hashlib
from typing import Any

import numpy as np

from frugal.config.registry import TieOrder

LARGEST = 2**63 - 1


def in_order(
    columns: dict[str, np.ndarray], user_ids: list[str], item_ids: list[str], tie_order: TieOrder, seed: int
) -> np.ndarray:
    """The order by user, then time, then ``tie_order``.

    Args:
        columns: user and item (int32, numbers into the ids), rating and timestamp (int64), each (rows,).
        tie_order: "random", by the hash; rows that are alike in all but their rating by the rating. "file": as the
            rows stand.
        seed: of the hash.

    Returns:
        int64, (rows,), indices of rows.
    """
    user, timestamp = columns["user"], columns["timestamp"]
    key = _by_user_and_time(user, timestamp)
    order = np.argsort(key)
    ordered = key[order]
    same = ordered[1:] == ordered[:-1]
    del ordered
    places = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    rows = order[places]
    ranks = [rows]  # the last one first, as lexsort has them; argsort need not be stable
    if tie_order == "random":
        ids = _hashes(user[rows], user_ids, f"{seed} user"), _hashes(columns["item"][rows], item_ids, f"{seed} item")
        ranks += [columns["rating"][rows], _mix(_mix(ids[0] ^ timestamp[rows].view(np.uint64)) ^ ids[1])]
    order[places] = rows[np.lexsort((*ranks, key[rows]))]
    return order


def describe_ties(user: np.ndarray, timestamp: np.ndarray, users: int) -> dict[str, Any]:
    """How often the rule decides, for summary.json.

    Args:
        user, timestamp: (rows,), in the order of `in_order`.

    Returns:
        users_at_end: users whose last two interactions have the same time; at_end: their share of the users.
        elsewhere: the share of equal times among all other pairs of consecutive interactions of a user; None: no pairs.
    """
    pairs = user[1:] == user[:-1]
    same = pairs & (timestamp[1:] == timestamp[:-1])
    last = np.append(user[1:] != user[:-1], True)[1:]
    at_end, others = int((same & last).sum()), pairs & ~last
    return {
        "users_at_end": at_end,
        "at_end": at_end / users,
        "elsewhere": float(same[others].mean()) if others.any() else None,
    }


def _by_user_and_time(user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """int64, (rows,): sorts as user and time do; one key sorts several times as fast as two."""
    first = timestamp.min()
    span = int(timestamp.max()) - int(first) + 1
    if span * (int(user.max()) + 1) > LARGEST:
        times, timestamp = np.unique(timestamp, return_inverse=True)
        first, span = 0, len(times)
    key = user.astype(np.int64)
    key *= span
    key += timestamp
    key -= first
    return key


def _hashes(codes: np.ndarray, ids: list[str], salt: str) -> np.ndarray:
    """uint64, (rows,): a hash of each id."""
    distinct, places = np.unique(codes, return_inverse=True)
    digests = (hashlib.blake2b(f"{salt} {ids[code]}".encode(), digest_size=8).digest() for code in distinct)
    return np.frombuffer(b"".join(digests), "<u8")[places]


def _mix(value: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that changes half of the bits, on average, when one bit changes.

    It is the output function of SplitMix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number
    generators, OOPSLA).
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))

"""Which of a data set's interactions a run uses."""

import numpy as np
import pyarrow as pa

from frugal.config.recommendation import DataSettings
from frugal.data.interactions.preparation import k_core
from frugal.recsys.histories import Histories


def used_histories(
    interactions: pa.Table, settings: DataSettings, core: int | None = None, ticks: int = 1
) -> tuple[Histories, np.ndarray]:
    """The histories that the settings leave of prepared interactions, and their times, int64, (interactions,).

    Args:
        core: the data set's `min_interactions`. It holds for the ratings that are used: the k-core of the k-core's
            interactions above a rating is that of all interactions above it.
        ticks: units of the times in a second. The histories keep their times in seconds where `data.times` is set.
    """
    order, user_count = used_rows(interactions, settings, core)
    users, items, times = (interactions[name].to_numpy()[order] for name in ("user", "item", "timestamp"))
    seconds = times // ticks if settings.times else None
    return Histories.from_pairs(users, items, user_count, seconds), times


def used_rows(interactions: pa.Table, settings: DataSettings, core: int | None = None) -> tuple[np.ndarray, int]:
    """The rows that the settings leave, int64 (n,), by user and time; and the number of users. As `used_histories`."""
    users, items, ratings, times = (interactions[name].to_numpy() for name in ("user", "item", "rating", "timestamp"))
    user_count = int(users.max()) + 1
    keep = np.ones(len(users), dtype=bool)
    if settings.min_rating is not None:
        keep &= ratings >= settings.min_rating
        if core is not None:
            keep[keep] = k_core(users[keep], items[keep], core)[0]
    if settings.max_users is not None:
        keep &= users < settings.max_users
        user_count = min(user_count, settings.max_users)
    order = np.flatnonzero(keep)
    order = order[np.argsort(times[order], kind="stable")]
    return order[np.argsort(users[order], kind="stable")], user_count

"""Beyond accuracy: how many and how popular items the lists of a recommender hold, and where its rankings are good.

All of it follows from the first ten items of each test user's list, `Evaluation.top`. Separate from
`frugal.recsys.evaluation`, which training imports, so that a change here does not retrain a model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frugal.files import atomic_path, write_json
from frugal.recsys.evaluation import MAIN_CUTOFF, Evaluation
from frugal.recsys.histories import Histories, History, Split
from frugal.recsys.ranking_metrics import ranking_metrics
from frugal.stats import FEW, bootstrap, mean_intervals, percentile_interval

#: Groups of items by popularity, most popular first.
ITEM_GROUPS = ("head", "mid", "tail", "cold")
#: The share of all interactions that the head has, and that the tail has.
OUTER_SHARE = 0.2
#: The metrics of a group of users or targets.
GROUP_METRICS = (f"HR@{MAIN_CUTOFF}", f"NDCG@{MAIN_CUTOFF}")
#: The columns of groups.parquet.
GROUP_COLUMNS = ["user", "by", "group", *GROUP_METRICS]
#: The rank of a target that is not in a list.
NOT_LISTED = np.iinfo(np.int32).max


def popularity(split: Split) -> np.ndarray:
    """int64, (items,): the number of users who have each item in the training part."""
    pairs = split.train.users * split.item_count + split.train.items
    distinct = np.unique(pairs) if split.repeats else pairs
    return np.bincount(distinct % split.item_count, minlength=split.item_count)


def item_groups(popular: np.ndarray) -> np.ndarray:
    """int64, (items,): the place of each item's group in `ITEM_GROUPS`.

    The most popular items that have 20 % of all interactions are the head, the least popular ones that have 20 % the
    tail, and the others the middle (Abdollahpouri et al., 2021, "User-centered Evaluation of Popularity Bias in
    Recommender Systems"). Items of equal popularity are in one group: an item is in the head if the more popular ones
    have less than 20 %, and in the tail if it has together with all that are not more popular at most 20 %. Cold
    items are in nobody's training part.

    Args:
        popular: int64, (items,), see `popularity`.
    """
    values, inverse, counts = np.unique(popular, return_inverse=True, return_counts=True)
    up_to = np.cumsum(values * counts)
    head, tail = up_to[-1] - up_to < OUTER_SHARE * up_to[-1], up_to <= OUTER_SHARE * up_to[-1]
    return np.select([values == 0, head, tail], [3, 0, 2], default=1)[inverse]


def history_groups(lengths: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Quarters of users by the length of their histories; users of equal length are in one group.

    Args:
        lengths: int64, (n,), n > 0.

    Returns:
        int64, (n,): the group of each user; and the groups' names, shortest first, such as "20 to 34". There are fewer
        than four where many lengths are equal.
    """
    longest = np.unique(np.quantile(lengths, (0.25, 0.5, 0.75, 1), method="inverted_cdf"))
    groups = np.searchsorted(longest, lengths)
    shortest = [lengths[groups == group].min() for group in range(len(longest))]
    pairs = zip(shortest, longest, strict=True)
    return groups, [f"{low:,d}" if low == high else f"{low:,d} to {high:,d}" for low, high in pairs]


def gini(counts: np.ndarray) -> float:
    """Gini index of how often each item is listed: 0 if all are equally often, 1 if one item has every place.

    sum_j (2j - n - 1) p_j / (n - 1), with the shares p_j of n items in ascending order (Shani and Gunawardana, 2011,
    "Evaluating Recommendation Systems").

    Args:
        counts: int64, (n,), of all items, also of those that are never listed.
    """
    n = len(counts)
    if n < 2:
        return 0.0
    shares = np.sort(counts) / counts.sum()
    return float(((2 * np.arange(1, n + 1) - n - 1) * shares).sum() / (n - 1))


def list_metrics(
    lists: Evaluation, split: Split, popular: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What one seed's lists hold.

    With U users in the training part, p(i) = popularity(i) / U is the share of users who have item i.

    Returns:
        Metrics of all lists together, and values of each user, float64, (n,), whose means are metrics too.
        coverage@10: the share of the catalogue that is in at least one list.
        gini@10: see `gini`.
        popularity@10: the mean p(i) over a list, the average recommendation popularity (Yin et al., 2012,
            "Challenging the Long Tail Recommendation"), as a share of the users.
        novelty@10: the mean self-information -log2 p(i) over a list, in bits (Zhou et al., 2010, "Solving the apparent
            diversity-accuracy dilemma of recommender systems"; Castells et al., 2015, "Novelty and Diversity in
            Recommender Systems"). A cold item counts as one that a single user has.
    """
    users, listed = np.count_nonzero(split.train.lengths), lists.top >= 0
    shares = popular / users
    information = -np.log2(np.maximum(popular, 1) / users)
    counts = np.bincount(lists.top[listed], minlength=split.item_count)
    together = {f"coverage@{MAIN_CUTOFF}": float(np.mean(counts > 0)), f"gini@{MAIN_CUTOFF}": gini(counts)}
    per_user = {"popularity": shares, "novelty": information}
    return together, {
        f"{name}@{MAIN_CUTOFF}": np.where(listed, values[lists.top], 0).sum(1) / listed.sum(1)
        for name, values in per_user.items()
    }


def target_ranks(lists: Evaluation, targets: Histories) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The place of each target in its user's list.

    Returns:
        (targets,) each: the place of the user in ``lists``; the item; and the rank, 1 for the first place, or
        `NOT_LISTED`.
    """
    found = targets.select(np.isin(targets.users, lists.users))
    rows = np.searchsorted(lists.users, found.users)
    hit = lists.top[rows] == found.items[:, None]
    return rows, found.items, np.where(hit.any(1), hit.argmax(1) + 1, NOT_LISTED)


def group_values(
    lists: Evaluation, targets: Histories, of_users: np.ndarray, user_names: list[str], of_items: np.ndarray
) -> pd.DataFrame:
    """HR@10 and NDCG@10 of each user in each of the groups that he or a target of his belongs to.

    Where a user has targets in several groups of items, each group's values count its own targets alone.

    Args:
        of_users: int64, (n,): the group of each user of ``lists``, as `history_groups` gives it with ``user_names``.
        of_items: int64, (items,), see `item_groups`.

    Returns:
        The columns of groups.parquet, sorted by ``by``, ``group`` and ``user``.
    """
    rows, items, ranks = target_ranks(lists, targets)
    frames = []
    for by, groups, names in (
        ("history", of_users[rows], user_names),
        ("popularity", of_items[items], ITEM_GROUPS),
    ):
        for number, name in enumerate(names):
            inside = groups == number
            users, starts = np.unique(rows[inside], return_index=True)
            if len(users):
                offsets = np.append(starts, inside.sum())
                values = ranking_metrics(ranks[inside].astype(np.int64), offsets, [MAIN_CUTOFF])
                frame = pd.DataFrame({"user": lists.users[users], "by": by, "group": name})
                frames.append(frame.assign(**{metric: values[metric] for metric in GROUP_METRICS}))
    return pd.concat(frames, ignore_index=True)[GROUP_COLUMNS]


def summarise_lists(
    by_seed: Mapping[int, Evaluation], split: Split, history: History, samples: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What beyond.json and groups.parquet hold of a run, whose seeds listed items for the same users.

    Args:
        samples: of the bootstrap over users.

    Returns:
        The record, and the values of users in groups, each the mean over seeds. The record:
        metrics, std, by_seed: as in metrics.json, of `list_metrics` and popularity_lift@10, by what the mean
            popularity of the lists is above that of the histories (Abdollahpouri et al., 2019, "The Unfairness of
            Popularity Bias in Recommendation"); absent where no history has an item of the training part.
        intervals: of what is a mean over users, or a ratio of such means. Coverage and the Gini index have none: a
            resample of users holds fewer different lists, and so covers less of the catalogue than all users do.
        groups: by, group, users, metrics and intervals of each group of users or targets; no intervals for fewer
            than `FEW` users.
        items: the number of items in each group of items. history_popularity@10: the mean over the histories.
    """
    popular, context, seed = popularity(split), split.context("test"), next(iter(by_seed))
    users = by_seed[seed].users
    of_items, (of_users, names) = item_groups(popular), history_groups(context.lengths[users])
    shares = popular / np.count_nonzero(split.train.lengths)
    before = np.bincount(context.users, shares[context.items])[users] / context.lengths[users]
    found = {number: list_metrics(lists, split, popular) for number, lists in by_seed.items()}
    lift = f"popularity_lift@{MAIN_CUTOFF}"
    metrics = pd.DataFrame(
        [
            together
            | {name: values.mean() for name, values in per_user.items()}
            | ({lift: _lift(per_user[f"popularity@{MAIN_CUTOFF}"].mean(), before.mean())} if before.any() else {})
            for together, per_user in found.values()
        ],
        index=[str(number) for number in found],
    )
    means = {name: np.mean([per_user[name] for _, per_user in found.values()], axis=0) for name in found[seed][1]}
    pairs = np.column_stack([means[f"popularity@{MAIN_CUTOFF}"], before])

    def lifts(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {lift: _lift(*(counts @ pairs).T)}

    intervals = mean_intervals(means, samples, seed)
    if before.any():
        intervals[lift] = percentile_interval(bootstrap(lifts, np.ones(len(pairs)), samples, seed)[lift])
    targets = split.targets("test", history)
    values = pd.concat([group_values(lists, targets, of_users, names, of_items) for lists in by_seed.values()])
    values = values.groupby(["by", "group", "user"], sort=False)[list(GROUP_METRICS)].mean().reset_index()
    expected = [("history", name) for name in names] + [("popularity", name) for name in ITEM_GROUPS]
    record = {
        "metrics": metrics.mean().to_dict(),
        **({"std": metrics.std(ddof=1).to_dict()} if len(metrics) > 1 else {}),
        "intervals": intervals,
        "by_seed": metrics.to_dict("index"),
        "groups": [_group(values, by, name, samples, seed) for by, name in expected],
        "items": {name: int(np.count_nonzero(of_items == place)) for place, name in enumerate(ITEM_GROUPS)},
        f"history_popularity@{MAIN_CUTOFF}": float(before.mean()),
        "cases": len(users),
    }
    return record, values[GROUP_COLUMNS]


def _lift(listed: np.ndarray, before: np.ndarray) -> np.ndarray:
    """By what share a popularity is above another one; NaN where that is zero."""
    return listed / np.where(before > 0, before, np.nan) - 1


def _group(values: pd.DataFrame, by: str, name: str, samples: int, seed: int) -> dict[str, Any]:
    """One entry of ``groups``; a group without anyone has no metrics."""
    chosen = values[(values["by"] == by) & (values["group"] == name)]
    columns = {metric: chosen[metric].to_numpy() for metric in GROUP_METRICS}
    return {
        "by": by,
        "group": name,
        "users": len(chosen),
        "metrics": {metric: float(column.mean()) for metric, column in columns.items()} if len(chosen) else {},
        "intervals": mean_intervals(columns, samples, seed) if len(chosen) >= FEW else {},
    }


def write_lists(folder: Path, record: dict[str, Any], values: pd.DataFrame | None) -> None:
    """Write beyond.json and groups.parquet of a run; None: nothing was scored."""
    values = pd.DataFrame(columns=GROUP_COLUMNS) if values is None else values
    types = dict.fromkeys(GROUP_METRICS, "float64") | {"user": "int64", "by": "str", "group": "str"}
    with atomic_path(folder / "groups.parquet") as temporary:
        values.astype(types).to_parquet(temporary, index=False)
    write_json(folder / "beyond.json", record)

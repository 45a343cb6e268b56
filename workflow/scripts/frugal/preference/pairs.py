"""Preference pairs: a user's liked items, and one item that the user liked beside one never rated.

Two kinds of pair are made. An *easy* negative shares no attribute, such as a genre, with the history, so that counting
shared attributes tells the items apart; where items have no attributes it is drawn from all, so that popularity does. A
*hard* negative is about as popular as the liked item, so that popularity cannot.
"""

import numpy as np
import pandas as pd

from frugal.config.preference import PreferenceRun
from frugal.errors import FrugalError
from frugal.preference.items import PARTS, Items, Pair

#: A hard negative is drawn from this many unseen items around the liked item's place in popularity.
POPULARITY_NEIGHBOURS = 20
#: Draws for one pair before its user is passed over for another.
ATTEMPTS = 10


class Catalogue(Items):
    """Items and their users' tastes, in the form that drawing pairs needs."""

    def __init__(
        self, interactions: pd.DataFrame, items: pd.DataFrame, run: PreferenceRun, popularity_users: list[int]
    ):
        """
        Args:
            interactions: columns user, item, rating, timestamp; row order breaks ties in time.
            items: as for `Items`.
            popularity_users: the users whose ratings make an item's popularity.

        Raises:
            FrugalError: the run shows attributes, and no item has any.
        """
        super().__init__(items, with_attributes=run.items.attribute is not None)
        if self.with_attributes and not any(self.attributes):
            raise FrugalError(
                f"the {run.items.plural} of '{run.dataset}' have no {run.items.attributes}: name another column for "
                "them (item_columns.attributes in config/datasets.yaml), or none, and set pairs.history_attributes to "
                "false and pairs.reasoning_fraction to 0"
            )
        self.seen = {user: frozenset(group) for user, group in interactions.groupby("user")["item"]}

        # An item without attributes beside others with them can be neither easy nor explained: it stands in no pair.
        usable = np.array([bool(values) or not self.with_attributes for values in self.attributes])
        liked = interactions[(interactions["rating"] >= run.pairs.liked_rating) & usable[interactions["item"]]]
        liked = liked.sort_values("timestamp", kind="stable")
        self.liked = {user: group.to_numpy() for user, group in liked.groupby("user")["item"]}

        rated = interactions.loc[interactions["user"].isin(popularity_users), "item"]
        self.popularity = np.bincount(rated, minlength=len(self.titles))
        order = np.argsort(self.popularity, kind="stable")
        self.by_popularity = order[(self.popularity[order] > 0) & usable[order]]
        self.rank = {int(item): place for place, item in enumerate(self.by_popularity)}


def split_users(users: list[int], run: PreferenceRun) -> dict[str, list[int]]:
    """Disjoint users for train, validation and test, by the run's seed."""
    shuffled = np.random.default_rng([run.seed, 0]).permutation(users).tolist()
    if run.pairs.max_users is not None:
        shuffled = shuffled[: run.pairs.max_users]
    test = round(len(shuffled) * run.split.test_users)
    validation = round(len(shuffled) * run.split.validation_users)
    return {
        "test": shuffled[:test],
        "validation": shuffled[test : test + validation],
        "train": shuffled[test + validation :],
    }


def make_pairs(
    interactions: pd.DataFrame, items: pd.DataFrame, run: PreferenceRun
) -> tuple[Catalogue, dict[str, list[Pair]]]:
    """Draw the pairs of all three parts. The same run gives the same pairs, in the same order.

    Popularity counts the training users' ratings only, so that no test user shapes a pair.

    Raises:
        FrugalError: a part's users do not give as many pairs as the run asks for, or the items have no attributes.
    """
    settings = run.pairs
    users = split_users(sorted(interactions["user"].unique()), run)
    catalogue = Catalogue(interactions, items, run, popularity_users=users["train"])
    hard = round(settings.train_examples * settings.hard_fraction)
    hard_validation = round(settings.validation_examples * settings.hard_fraction)
    wanted = {
        "train": {"easy": settings.train_examples - hard, "hard": hard},
        "validation": {"easy": settings.validation_examples - hard_validation, "hard": hard_validation},
        "test": {"easy": settings.test_easy_examples, "hard": settings.test_hard_examples},
    }
    parts = {}
    for stream, part in enumerate(PARTS, start=1):
        rng = np.random.default_rng([run.seed, stream])
        drawn = [
            pair
            for kind, count in wanted[part].items()
            for pair in _draw(catalogue, users[part], run, part, kind, count, rng)
        ]
        parts[part] = [drawn[place] for place in rng.permutation(len(drawn))]
    return catalogue, parts


def _draw(
    catalogue: Catalogue,
    users: list[int],
    run: PreferenceRun,
    part: str,
    kind: str,
    count: int,
    rng: np.random.Generator,
) -> list[Pair]:
    """``count`` different pairs of one kind, going round the users."""
    pairs: dict[tuple[int, int], Pair] = {}
    length = run.pairs.history_length
    users = [user for user in users if len(catalogue.liked.get(user, ())) > length]
    users = rng.permutation(users).tolist()
    while len(pairs) < count:
        before = len(pairs)
        for user in users:
            pair = _draw_pair(catalogue, user, length, kind, rng, pairs)
            if pair is not None:
                pairs[user, pair.liked] = pair
            if len(pairs) == count:
                break
        if len(pairs) == before:
            key = f"{part}_{kind}_examples" if part == "test" else f"{part}_examples"
            raise FrugalError(
                f"pairs.{key}: {count} {kind} pairs asked for, but the {len(users)} {part} users with more than "
                f"{length} liked {run.items.plural} give {before}; lower {key} or history_length"
            )
    return list(pairs.values())


def _draw_pair(
    catalogue: Catalogue, user: int, length: int, kind: str, rng: np.random.Generator, taken: dict
) -> Pair | None:
    liked = catalogue.liked[user]
    for _ in range(ATTEMPTS):
        place = int(rng.integers(length, len(liked)))
        chosen, history = int(liked[place]), tuple(int(item) for item in liked[place - length : place])
        if (user, chosen) in taken or chosen in history or chosen not in catalogue.rank:
            continue
        themes = frozenset().union(*(catalogue.attributes[item] for item in history))
        if kind == "easy":
            if catalogue.with_attributes and not catalogue.attributes[chosen] & themes:
                continue
            candidates = rng.choice(catalogue.by_popularity, size=min(200, len(catalogue.by_popularity)))
            allowed = [c for c in candidates if c not in catalogue.seen[user] and not catalogue.attributes[c] & themes]
        else:
            unseen = [item for item in _nearest_in_popularity(catalogue, chosen) if item not in catalogue.seen[user]]
            allowed = rng.permutation(unseen[:POPULARITY_NEIGHBOURS]).tolist()
        if allowed:
            return Pair(user, history, chosen, int(allowed[0]), kind)
    return None


def _nearest_in_popularity(catalogue: Catalogue, item: int) -> list[int]:
    """Up to 200 items around ``item`` in the order of popularity, nearest first, without ``item``."""
    place, order = catalogue.rank[item], catalogue.by_popularity
    nearby = [place + sign * step for step in range(1, 101) for sign in (1, -1)]
    return [int(order[index]) for index in nearby if 0 <= index < len(order)]

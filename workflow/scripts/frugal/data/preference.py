"""Preference pairs: a user's liked films, and one film that the user liked beside one never rated.

Two kinds of pair are made. An *easy* negative shares no genre with the history, as in the study
that is reproduced here, so that a rule that counts shared genres can tell the films apart. A
*hard* negative is about as popular as the liked film, so that popularity cannot.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from frugal.config.movie_preference import MoviePreferenceRun, PairSettings
from frugal.errors import FrugalError, first_line

PARTS = ("train", "validation", "test")
CONTRASTIVE_INSTRUCTION = "Which of the two films would this user like better, and why?"
NEXT_FILM_INSTRUCTION = "Which film would this user like next?"
#: A hard negative is drawn from this many unseen films around the liked film's place in popularity.
POPULARITY_NEIGHBOURS = 20
#: Draws for one pair before its user is passed over for another.
ATTEMPTS = 10


@dataclass(frozen=True)
class Pair:
    """One comparison; films are item indices."""

    user: int
    history: tuple[int, ...]
    liked: int
    other: int
    kind: str  # "easy" or "hard"


class Films:
    """Titles and genres by item index: what a prompt needs to name a film."""

    def __init__(self, items: pd.DataFrame):
        """
        Args:
            items: columns item, title, genres; one row an item.
        """
        items = items.sort_values("item")
        # On one line each: a prompt is made of lines.
        self.titles: list[str] = [" ".join(title.split()) for title in items["title"]]
        self.genres: list[frozenset[str]] = [
            frozenset(" ".join(genre.split()) for genre in genres) for genres in items["genres"]
        ]


class Catalogue(Films):
    """Films and their users' tastes, in the form that drawing pairs needs."""

    def __init__(
        self, interactions: pd.DataFrame, items: pd.DataFrame, liked_rating: float, popularity_users: list[int]
    ):
        """
        Args:
            interactions: columns user, item, rating, timestamp; row order breaks ties in time.
            items: as for `Films`.
            liked_rating: ratings from here on count as liking.
            popularity_users: the users whose ratings make a film's popularity.
        """
        super().__init__(items)
        self.seen = {user: frozenset(group) for user, group in interactions.groupby("user")["item"]}

        # Films without genres stand in no pair: they can be neither easy nor explained.
        has_genres = np.array([bool(genres) for genres in self.genres])
        liked = interactions[(interactions["rating"] >= liked_rating) & has_genres[interactions["item"]]]
        liked = liked.sort_values("timestamp", kind="stable")
        self.liked = {user: group.to_numpy() for user, group in liked.groupby("user")["item"]}

        rated = interactions.loc[interactions["user"].isin(popularity_users), "item"]
        self.popularity = np.bincount(rated, minlength=len(self.titles))
        order = np.argsort(self.popularity, kind="stable")
        self.by_popularity = order[(self.popularity[order] > 0) & has_genres[order]]
        self.rank = {int(item): place for place, item in enumerate(self.by_popularity)}


def split_users(users: list[int], run: MoviePreferenceRun) -> dict[str, list[int]]:
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
    interactions: pd.DataFrame, items: pd.DataFrame, run: MoviePreferenceRun
) -> tuple[Catalogue, dict[str, list[Pair]]]:
    """Draw the pairs of all three parts. The same run gives the same pairs, in the same order.

    Popularity counts the training users' ratings only, so that no test user shapes a pair.

    Raises:
        FrugalError: a part's users do not give as many pairs as the run asks for.
    """
    settings = run.pairs
    users = split_users(sorted(interactions["user"].unique()), run)
    catalogue = Catalogue(interactions, items, settings.liked_rating, popularity_users=users["train"])
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
            for pair in _draw(catalogue, users[part], settings, part, kind, count, rng)
        ]
        parts[part] = [drawn[place] for place in rng.permutation(len(drawn))]
    return catalogue, parts


def _draw(
    catalogue: Catalogue,
    users: list[int],
    settings: PairSettings,
    part: str,
    kind: str,
    count: int,
    rng: np.random.Generator,
) -> list[Pair]:
    """``count`` different pairs of one kind, going round the users."""
    pairs: dict[tuple[int, int], Pair] = {}
    users = [user for user in users if len(catalogue.liked.get(user, ())) > settings.history_length]
    users = rng.permutation(users).tolist()
    while len(pairs) < count:
        before = len(pairs)
        for user in users:
            pair = _draw_pair(catalogue, user, settings.history_length, kind, rng, pairs)
            if pair is not None:
                pairs[user, pair.liked] = pair
            if len(pairs) == count:
                break
        if len(pairs) == before:
            key = f"{part}_{kind}_examples" if part == "test" else f"{part}_examples"
            raise FrugalError(
                f"movie_preference.pairs.{key}: {count} {kind} pairs asked for, but the {len(users)} {part} users "
                f"with more than {settings.history_length} liked films give {before}; lower {key} or history_length"
            )
    return list(pairs.values())


def _draw_pair(
    catalogue: Catalogue, user: int, length: int, kind: str, rng: np.random.Generator, taken: dict
) -> Pair | None:
    liked = catalogue.liked[user]
    for _ in range(ATTEMPTS):
        place = int(rng.integers(length, len(liked)))
        film, history = int(liked[place]), tuple(int(item) for item in liked[place - length : place])
        if (user, film) in taken or film in history or film not in catalogue.rank:
            continue
        themes = frozenset().union(*(catalogue.genres[item] for item in history))
        if kind == "easy":
            if not catalogue.genres[film] & themes:
                continue
            candidates = rng.choice(catalogue.by_popularity, size=min(200, len(catalogue.by_popularity)))
            allowed = [c for c in candidates if c not in catalogue.seen[user] and not catalogue.genres[c] & themes]
        else:
            unseen = [item for item in _nearest_in_popularity(catalogue, film) if item not in catalogue.seen[user]]
            allowed = rng.permutation(unseen[:POPULARITY_NEIGHBOURS]).tolist()
        if allowed:
            return Pair(user, history, film, int(allowed[0]), kind)
    return None


def _nearest_in_popularity(catalogue: Catalogue, film: int) -> list[int]:
    """Up to 200 films around ``film`` in the order of popularity, nearest first, without ``film``."""
    place, order = catalogue.rank[film], catalogue.by_popularity
    nearby = [place + sign * step for step in range(1, 101) for sign in (1, -1)]
    return [int(order[index]) for index in nearby if 0 <= index < len(order)]


def to_records(catalogue: Films, pairs: list[Pair], run: MoviePreferenceRun, part: str) -> Iterator[dict[str, object]]:
    """Alpaca records (`instruction`, `input`, `output`) with the pair's facts beside them.

    Where the answer carries no reasoning, `loss_on` says "answer": the letter alone is to be learnt,
    and the few words around it, the same in every example, do not drown it.

    Positions and reasoning are drawn from streams of their own, so that variants that differ in
    them hold the same pairs.
    """
    settings = run.pairs
    stream = PARTS.index(part)
    first = np.random.default_rng([run.seed, 10, stream]).random(len(pairs)) < 0.5
    reasoned = np.random.default_rng([run.seed, 20, stream]).random(len(pairs)) < settings.reasoning_fraction
    for pair, liked_first, with_reasoning in zip(pairs, first, reasoned, strict=True):
        liked_option = "A" if liked_first or settings.answer_position == "always_a" else "B"
        record = {
            "instruction": CONTRASTIVE_INSTRUCTION,
            "input": contrastive_input(catalogue, pair, liked_option, settings.history_genres),
            "output": contrastive_output(catalogue, pair, liked_option, bool(with_reasoning)),
            "loss_on": "response" if with_reasoning else "answer",
        }
        if settings.format == "next_film":
            record = {
                "instruction": NEXT_FILM_INSTRUCTION,
                "input": history_line(catalogue, pair.history, settings.history_genres),
                "output": catalogue.titles[pair.liked],
                "loss_on": "response",
            }
        yield record | {
            "liked_option": liked_option,
            "kind": pair.kind,
            "user": pair.user,
            "history": list(pair.history),
            "liked": pair.liked,
            "other": pair.other,
            "liked_title": catalogue.titles[pair.liked],
            "other_title": catalogue.titles[pair.other],
        }


def history_line(catalogue: Films, history: tuple[int, ...], with_genres: bool) -> str:
    films = [describe(catalogue, item) if with_genres else catalogue.titles[item] for item in history]
    return f"Liked: {'; '.join(films)}."


def contrastive_input(catalogue: Films, pair: Pair, liked_option: str, with_genres: bool) -> str:
    """The history and both options, the liked film at ``liked_option`` ("A" or "B")."""
    films = (pair.liked, pair.other) if liked_option == "A" else (pair.other, pair.liked)
    options = "\n".join(f"Option {name}: {describe(catalogue, f)}" for name, f in zip("AB", films, strict=True))
    return f"{history_line(catalogue, pair.history, with_genres)}\n{options}"


def with_options(record: dict, liked_option: str) -> dict:
    """A contrastive record with the liked film at ``liked_option``: as it is, or with its options swapped."""
    if record["liked_option"] == liked_option:
        return record
    history, option_a, option_b = record["input"].split("\n")
    swapped = f"{history}\nOption A{option_b[8:]}\nOption B{option_a[8:]}"
    return record | {"input": swapped, "liked_option": liked_option}


def contrastive_output(catalogue: Films, pair: Pair, liked_option: str, with_reasoning: bool) -> str:
    """The answer, then what can be read off the data: the history's genres, and who shares them."""
    answer = f"Option {liked_option}."
    if not with_reasoning:
        return answer
    counts = Counter(genre for item in pair.history for genre in sorted(catalogue.genres[item]))
    top = [genre for genre, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:2]]
    themes, other_option = set(counts), "B" if liked_option == "A" else "A"
    shares = {
        liked_option: sorted(catalogue.genres[pair.liked] & themes),
        other_option: sorted(catalogue.genres[pair.other] & themes),
    }
    told = [f"Option {name} shares {', '.join(shares[name]) or 'no genre'}" for name in (liked_option, other_option)]
    return f"{answer} The user likes {' and '.join(top)}. {told[0]}; {told[1]}."


def describe(catalogue: Films, item: int) -> str:
    """``Title (Year) (Genre|Genre)``."""
    return f"{catalogue.titles[item]} ({'|'.join(sorted(catalogue.genres[item])) or 'no genres'})"


def to_jsonl(records: Iterable[dict[str, object]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_jsonl(path: Path | str, scored: bool = False) -> list[dict]:
    """Read records written by `to_jsonl`.

    Args:
        scored: they also have what scoring needs: the pair and its kind, and where the liked film stands.

    Raises:
        FrugalError: the file cannot be read, or a line is not JSON, or lacks a key or has another value there; names
            the file and the line.
    """
    records, wanted = [], TEXTS | PAIR if scored else TEXTS
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise FrugalError(f"{path}: cannot be read: {error.strerror}; make the file again") from None
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or first_line(error)
            raise FrugalError(f"{path}: line {number}: not JSON ({reason}); make the file again") from None
        if not isinstance(record, dict):
            raise FrugalError(f"{path}: line {number}: not a JSON object; make the file again")
        missing = set(wanted) - set(record)
        if missing:
            raise FrugalError(f"{path}: line {number}: no {', '.join(sorted(missing))}; make the file again")
        wrong = [key for key, fits in (TEXTS | PAIR | {"loss_on": _is_text}).items() if not fits(record.get(key))]
        if wrong := [key for key in wrong if key in record]:
            raise FrugalError(f"{path}: line {number}: {wrong[0]} has a value that it cannot have; make the file again")
        records.append(record)
    if not records:
        raise FrugalError(f"{path}: no records; make the file again")
    return records


def _is_text(value: object) -> bool:
    """Whether this is text that UTF-8 can hold; JSON can spell halves of surrogate pairs."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


#: Keys of a record, and whether a value can be theirs.
TEXTS = dict.fromkeys(("instruction", "input", "output"), _is_text)
PAIR = {
    "liked_option": lambda value: value in ("A", "B"),
    "kind": lambda value: value in ("easy", "hard"),
    **dict.fromkeys(("user", "liked", "other"), _is_index),
    "history": lambda value: isinstance(value, list) and all(map(_is_index, value)),
}

"""Synthetic users, items and texts, which the stand-ins of all data sets are made of. The same in every run."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

USERS, ITEMS = 400, 300
#: Items that a user rates; the first user rates most of them, so that histories are longer than a model reads.
FEWEST, MOST, LONGEST = 18, 40, 260
GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror", "Musical", "Romance", "War", "Western")
#: The first interaction, and seconds between a user's interactions, at most: days, as between reviews.
START, DAY = 946_684_800, 86_400
#: A title with an accent, which latin-1 and UTF-8 store differently; one with comma and quotes, which CSV has to quote.
SPECIAL_TITLES = ("Café Noir (1958)", 'Man Called "Joe", The (1966)')
# fmt: off
WORDS = (  # noqa: SIM905
    "water river stone winter harbour people valley engine letter garden season market theory signal island bridge "
    "forest copper colour voyage paper summer window council railway castle number village music captain army border "
    "planet method energy carbon storm glacier ocean harvest city record science empire printer station mountain "
    "temple artist measure pressure surface current weather history language family colony treaty museum bishop "
    "century election novel film album single chapter player league season match goal record tower church school"
).split()
VERBS = ("carries", "reaches", "follows", "crosses", "describes", "measures", "replaces", "supports", "warms")
LINKS = ("of", "near", "under", "before", "after", "beside", "against", "beyond")
# fmt: on


@dataclass(frozen=True)
class Item:
    """An item; ``number`` counts from 1."""

    number: int
    title: str
    genres: tuple[str, ...]


@dataclass(frozen=True)
class Interaction:
    """A rating of 1 to 5 by a user at a time, seconds since 1970; user and item count from 1."""

    user: int
    item: int
    rating: int
    time: int


def items() -> list[Item]:
    """The catalogue: one genre or two for each item, but for one without any."""
    made = []
    for number in range(1, ITEMS + 1):
        genres = {GENRES[number % len(GENRES)], GENRES[number // 7 % len(GENRES)]}
        title = f"{WORDS[number % len(WORDS)].title()} {number}, The ({1930 + number % 80})"
        if number <= len(SPECIAL_TITLES):
            title = SPECIAL_TITLES[number - 1]
        made.append(Item(number, title, tuple(sorted(genres)) if number != ITEMS else ()))
    return made


def interactions() -> list[Interaction]:
    """Users with one favourite genre each, in the order of users; some of a user's interactions share their time."""
    draw, catalogue, rows = random.Random(1), items(), []
    for user in range(1, USERS + 1):
        favourite = GENRES[user % len(GENRES)]
        count = LONGEST if user == 1 else draw.randint(FEWEST, MOST)
        # Items with low numbers are popular.
        weights = [(3.0 if favourite in item.genres else 1.0) / (10 + item.number) for item in catalogue]
        chosen: dict[int, Item] = {}
        while len(chosen) < count:
            chosen |= {item.number: item for item in draw.choices(catalogue, weights, k=count - len(chosen))}
        time = START + draw.randint(0, 4 * 365) * DAY
        for item in chosen.values():
            time += draw.choice((0, 1, 1, 2, 9)) * DAY
            liked = favourite in item.genres
            rows.append(Interaction(user, item.number, draw.choice((4, 5, 5, 3) if liked else (1, 2, 3, 4)), time))
    return rows


def sentence(draw: random.Random) -> str:
    """One sentence of random words."""
    first, second, third = draw.sample(WORDS, 3)
    text = f"the {first} {draw.choice(VERBS)} the {second} {draw.choice(LINKS)} the {third}"
    if draw.random() < 0.3:
        text += f", and in {draw.randint(1700, 2020)} the {draw.choice(WORDS)} {draw.choice(VERBS)} it"
    return f"{text[0].upper()}{text[1:]}."


def paragraphs(seed: int, count: int, sentences: int = 8) -> list[str]:
    """Paragraphs of a document; each seed gives another document."""
    draw = random.Random(f"document {seed}")
    return [" ".join(sentence(draw) for _ in range(sentences)) for _ in range(count)]


def articles(first: int, count: int, length: int = 4) -> Iterator[tuple[str, list[str]]]:
    """Titles and paragraphs of ``count`` articles, from the number ``first`` on."""
    for number in range(first, first + count):
        yield f"{WORDS[number % len(WORDS)].title()} {number}", paragraphs(number, length)

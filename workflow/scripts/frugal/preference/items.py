"""What prompts and baselines know of items: their titles and attributes, and pairs of them."""

from dataclasses import dataclass

import pandas as pd

#: The parts that users are split into.
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pair:
    """One comparison; items are indices."""

    user: int
    history: tuple[int, ...]
    liked: int
    other: int
    kind: str  # "easy" or "hard"


class Items:
    """Titles and attributes, such as genres, by item index."""

    def __init__(self, items: pd.DataFrame, with_attributes: bool = True):
        """
        Args:
            items: columns item, title, attributes; one row an item.
            with_attributes: else no item has any.
        """
        items = items.sort_values("item")
        # On one line each: a prompt is made of lines.
        self.titles: list[str] = [" ".join(title.split()) for title in items["title"]]
        self.attributes: list[frozenset[str]] = [
            frozenset(" ".join(value.split()) for value in values) if with_attributes else frozenset()
            for values in items["attributes"]
        ]
        self.with_attributes = with_attributes

"""Whose row is whose: the ids of the items, and which users, that shards and models number from 0."""

from dataclasses import dataclass
from pathlib import Path

from frugal.errors import FrugalError
from frugal.files import read_json, write_json

#: In a folder of shards, and beside a model's weights.
CATALOGUE = "catalogue.json"
#: `Catalogue.users` where the numbers themselves are the ids.
NUMBERS = "numbers"


@dataclass(frozen=True)
class Catalogue:
    """Items and users of a data set.

    Attributes:
        items: their ids in the data's own files, in the order of their numbers.
        users: a hash of the ids of all users of the data set, in the order of their numbers; None: not known. Where
            it is the same, a number is the same user.
    """

    items: list[str]
    users: str | None = None

    @classmethod
    def of_numbers(cls, items: int) -> "Catalogue":
        """Of a data set that has no other ids than numbers from 0."""
        return cls([str(number) for number in range(items)], NUMBERS)


def write_catalogue(folder: Path, catalogue: Catalogue) -> None:
    write_json(folder / CATALOGUE, {"items": catalogue.items, "users": catalogue.users})


def read_catalogue(folder: Path) -> Catalogue | None:
    """What `write_catalogue` wrote; None where there is no such file.

    Raises:
        FrugalError: the file does not list distinct ids.
    """
    path = Path(folder) / CATALOGUE
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        items, users = content["items"], content.get("users")
        if not all(isinstance(one, str) for one in items) or len(set(items)) < len(items):
            raise ValueError
        return Catalogue(items, users)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FrugalError(f'{path}: must be an object with "items", a list of different ids (texts)') from None

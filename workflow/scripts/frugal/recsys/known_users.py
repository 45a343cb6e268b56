"""The users of a prepared data set: their numbers, and the histories that a run learnt from."""

from functools import cached_property
from pathlib import Path

import numpy as np

from frugal.config.recommendation import DataSettings
from frugal.data.prepared import original_ids, read_interactions
from frugal.errors import FrugalError, blaming
from frugal.files import read_json
from frugal.recsys.catalogue import Catalogue
from frugal.recsys.histories import Histories
from frugal.recsys.predictions import check_users, user_ids
from frugal.recsys.selection import used_histories


class KnownUsers:
    """Users of a prepared data set by their original ids. Files are read when they are first needed.

    Args:
        folder: data/prepared/<name>.
        settings: the run's key `data`, which says what of the data set it uses.
    """

    def __init__(self, folder: Path, settings: DataSettings):
        self.folder, self.settings = folder, settings

    @cached_property
    def numbers(self) -> dict[str, int]:
        """User id -> the user's number.

        Raises:
            FrugalError: there is no users.parquet, or it is damaged.
        """
        return {user: number for number, user in enumerate(user_ids(self._file("users.parquet")))}

    @cached_property
    def histories(self) -> tuple[Histories, list[str]]:
        """All items of each user that the run uses, be it to train or to test, in the order of time; the items' ids.

        Raises:
            FrugalError: a file is missing or damaged.
        """
        interactions = read_interactions(self._file("interactions.parquet"))
        summary = self._file("summary.json")
        with blaming(summary, "cannot be read", "; make it again with the rule prepare_interactions"):
            core = (read_json(summary).get("k_core") or {}).get("min_interactions")
        histories, _ = used_histories(interactions, self.settings, core)
        return histories, original_ids(self._file("items.parquet"))

    def history(self, user: str) -> list[str] | None:
        """The ids of a user's items, oldest first; None if the run's data has no such user."""
        histories, ids = self.histories
        number = self.numbers.get(user, len(histories))
        return [ids[item] for item in histories[number]] if number < len(histories) else None

    def check(self, catalogue: Catalogue) -> None:
        """The users are those that a model was trained with, in the same order: their numbers are its embeddings'.

        Raises:
            FrugalError: they are others.
        """
        check_users(list(self.numbers), catalogue, self.folder / "users.parquet", "the model")

    def trained(self, user_count: int) -> np.ndarray:
        """bool, (user_count,): the users in the shards that the run read, see `frugal.recsys.shards.read_split`."""
        shards = self.settings.shards
        return np.arange(user_count) % shards < np.ceil(shards * self.settings.fraction)

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise FrugalError(f"{path}: not there; make it with: snakemake --cores 1 --configfile STUDY {path}")
        return path

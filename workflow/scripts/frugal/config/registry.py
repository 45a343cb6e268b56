"""The tables of data sets and base models, config/datasets.yaml and config/models.yaml."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PositiveInt, field_validator, model_validator

from frugal.config.base import Settings
from frugal.config.errors import nearest, parse_settings, validate
from frugal.config.items import ItemWords
from frugal.config.sources import SOURCES, HubSource, PackageSource, PathSource, Source, UrlSource, UrlsSource
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError

DATASETS_FILE = Path("config/datasets.yaml")
MODELS_FILE = Path("config/models.yaml")


TieOrder = Literal["random", "file"]


class Entry(Settings):
    """What data sets and models have in common."""

    title: str
    homepage: str | None = None
    licence: str | None = None
    citation: str | None = None


class Published(Settings):
    """Counts that the publisher or the literature states of a data set, as prepared."""

    users: PositiveInt
    items: PositiveInt = Field(description="With interactions.")
    interactions: PositiveInt


class DatasetEntry(Entry):
    """One data set: its sources in the order of trying, and what to do with bad rows and documents."""

    sources: tuple[UrlSource | UrlsSource | PackageSource | PathSource, ...] = Field(min_length=1)
    published: Published | None = Field(
        None, description="Counts to compare the prepared data with: a difference is a warning, and in summary.json."
    )
    items: ItemWords = Field(ItemWords(), description="What an item and its attribute are called.")
    rating_range: tuple[float, float] | None = None
    events: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="The event types to keep, such as purchase, of the column 'event'; rows of others are left out.",
    )
    min_interactions: PositiveInt | None = Field(
        None,
        description="k of the k-core: users and items with fewer interactions are removed until none is left.",
    )
    on_bad_rows: Literal["error", "skip"] = "error"
    on_duplicates: Literal["error", "keep_first", "keep_last", "keep"] = Field(
        "keep_last", description="For rows with the same user, item and timestamp."
    )
    tie_order: TieOrder = Field(
        "random",
        description="Order of a user's interactions of the same time: 'random' (by a hash of tie_seed, user, time and "
        "item, whatever the order of the rows) or 'file' (as the rows stand: only where they are known to stand in "
        "the order of events). Without times the order is that of the file.",
    )
    tie_seed: int = Field(0, description="Seed of tie_order: random.")
    min_characters: int = Field(200, ge=0, description="Shorter documents are left out.")
    near_duplicate_similarity: float | None = Field(
        0.8,
        gt=0,
        le=1,
        description="A document is left out when so large a share of its sequences of five words, and of those of an "
        "earlier document, is common to both (Jaccard similarity, estimated); null keeps all.",
    )
    text_field: str = Field("text", min_length=1, description="Key of the text in files of JSON lines.")
    pdf_reader: Literal["pypdf", "PyPDF2"] = Field(
        "pypdf", description="'PyPDF2' is what the original used; it is no longer maintained."
    )
    page_seconds: float = Field(20, gt=0, le=86400, description="A PDF page that takes longer is skipped and recorded.")
    max_pages: PositiveInt | None = Field(None, description="Pages of a PDF to read at most; the rest is recorded.")

    @model_validator(mode="after")
    def _ordered_range(self) -> "DatasetEntry":
        if self.rating_range and not self.rating_range[0] <= self.rating_range[1]:
            raise ValueError("rating_range must be [lowest, highest]")
        return self

    @model_validator(mode="after")
    def _split_stays(self) -> "DatasetEntry":
        if self.min_interactions and self.has_split:
            raise ValueError(
                "min_interactions would remove targets of the split that the members train and test are: leave it out"
            )
        if self.has_split and not all(source.splits for source in self.sources):
            raise ValueError("all sources have the members train and test, or none has")
        return self

    @field_validator("events", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return tuple(str(one) if type(one) is int else one for one in value)

    @model_validator(mode="after")
    def _events_have_a_column(self) -> "DatasetEntry":
        named = [source.has_events for source in self.sources]
        if self.events and not all(named):
            raise ValueError(
                f"events: sources.{named.index(False)} names no column of event types: set columns.event, which the "
                "formats csv and parquet have"
            )
        if any(named) and not self.events:
            raise ValueError("columns.event needs 'events', the event types to keep, such as events: [purchase]")
        return self

    @model_validator(mode="after")
    def _has_what_it_names(self) -> "DatasetEntry":
        if self.items.attribute and not self._has_attributes:
            raise ValueError(
                f"items.attribute: no source names a column for '{self.items.attribute}': set members.items and "
                "item_columns.attributes"
            )
        return self

    @property
    def has_split(self) -> bool:
        """Whether its files are a split: training, test, and maybe validation."""
        return any(source.splits for source in self.sources)

    @property
    def _has_attributes(self) -> bool:
        return any(source.has_attributes for source in self.sources)

    @property
    def item_words(self) -> ItemWords:
        """As `items`; an attribute that has no name of its own is called so."""
        if self.items.attribute or not self._has_attributes:
            return self.items
        return ItemWords(**self.items.model_dump(exclude={"attribute", "attributes"}), attribute="attribute")


class ModelEntry(Entry):
    """One base model."""

    sources: tuple[Source, ...] = Field(min_length=1)
    parameters: PositiveInt | None = Field(None, description="Number of weights, tied ones once.")
    gated: bool = Field(False, description="Needs an accepted licence and a token in HF_TOKEN.")


E = TypeVar("E", bound=Entry)
Table = Literal["datasets", "models"]
#: Table -> the model of its entries, and the sources that they may have.
TABLES: dict[Table, tuple[type[Entry], tuple[str, ...]]] = {
    "datasets": (DatasetEntry, ("url", "urls", "package", "path")),
    "models": (ModelEntry, tuple(SOURCES)),
}


def load_datasets(table: Path | str) -> dict[str, DatasetEntry]:
    """Read ``config/datasets.yaml``: name to entry, in the file's order.

    Args:
        table: the file, or its content as JSON.

    Raises:
        FrugalError: naming the file, the key and the nearest known key.
    """
    return _load("datasets", *_content(table))


def load_models(table: Path | str) -> dict[str, ModelEntry]:
    """Read ``config/models.yaml``: name to entry, in the file's order; arguments and errors as `load_datasets`."""
    return _load("models", *_content(table))


def load_entry(table: Path | str, name: str) -> DatasetEntry | ModelEntry:
    """The entry ``name`` of either table, a file or its content as JSON.

    Raises:
        FrugalError: also where there is no such name; the nearest one is offered.
    """
    top, file = _content(table)
    entries = _load("models" if "models" in top else "datasets", top, file)
    if name not in entries:
        raise FrugalError(f"{file}: there is no entry '{name}'{nearest(name, sorted(entries))}")
    return entries[name]


def check_entries(key: Table, entries: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Parsed entries of a table or a study, checked; ``file`` is for errors, which are those of `load_datasets`."""
    return {name: _entry(file, (key, str(name)), value, *TABLES[key]) for name, value in entries.items()}


def table_json(key: Table, entries: Mapping[str, Entry]) -> str:
    """Entries as the JSON that `load_entry`, `load_datasets` and `load_models` read."""
    plain = {name: entry.model_dump(mode="json", exclude_defaults=True) for name, entry in entries.items()}
    return json.dumps({key: plain})


def missing_token(entry: ModelEntry) -> str | None:
    """What to tell the user where a gated model has no access token at hand; None when all is well."""
    hub = next((source for source in entry.sources if isinstance(source, HubSource)), None)
    if not entry.gated or hub is None or hub_token():
        return None
    return (
        f"{entry.title} is gated: accept its licence at https://huggingface.co/{hub.hub}, create an access "
        "token at https://huggingface.co/settings/tokens and set HF_TOKEN=<token> in the environment "
        "(or run 'hf auth login'), or choose another model"
    )


def hub_token() -> str | None:
    """The Hub's access token: HF_TOKEN, or the one that ``hf auth login`` has stored."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token:
        return token
    try:
        from huggingface_hub import get_token
    except ImportError:
        return None
    return get_token()


def _content(table: Path | str) -> tuple[dict[str, Any], str]:
    """A table's content, and its name for errors."""
    if isinstance(table, str) and table.startswith("{"):
        return parse_settings(table, "--table"), "--table"
    return read_yaml(table), str(table)


def _load(key: Table, top: dict[str, Any], file: str) -> dict[str, Any]:
    for unknown in set(top) - {key}:
        raise FrugalError(f"{file}: {unknown}: unknown key{nearest(str(unknown), [key])}")
    if not isinstance(top.get(key), dict) or not top[key]:
        raise FrugalError(f"{file}: {key}: must hold at least one entry, a name with its keys below")
    return check_entries(key, top[key], file)


def _entry(file: str, prefix: tuple[str, str], value: Any, model: type[E], kinds: tuple[str, ...]) -> E:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", prefix[-1]):
        raise FrugalError(f"{file}: {'.'.join(prefix)}: a name is made of letters, digits, dot, dash and underscore")
    if isinstance(value, dict) and isinstance(value.get("sources"), list):
        sources = [
            _source(file, (*prefix, "sources", str(index)), source, kinds)
            for index, source in enumerate(value["sources"])
        ]
        value = {**value, "sources": tuple(sources)}
    return validate(model, value, file=file, prefix=prefix)


def _source(file: str, prefix: tuple[str, ...], value: Any, kinds: tuple[str, ...]) -> Any:
    given = [kind for kind in SOURCES if isinstance(value, dict) and kind in value]
    if len(given) != 1 or given[0] not in kinds:
        found = " and ".join(given) or "none"
        raise FrugalError(f"{file}: {'.'.join(prefix)}: needs exactly one of {', '.join(kinds)}; found {found}")
    return validate(SOURCES[given[0]], value, file=file, prefix=prefix)

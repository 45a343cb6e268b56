"""The tables of data sets and base models: what each entry may say, and where its files come from."""

import codecs
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import Field, PositiveInt, field_validator, model_validator

from frugal.config.base import Settings
from frugal.config.errors import nearest, validate
from frugal.config.yaml_files import read_yaml
from frugal.data import RECORD
from frugal.errors import FrugalError

# "files" keeps the members as they are: anything that is neither interactions nor text.
Format = Literal[
    "movielens-100k",
    "movielens-dat",
    "movielens-csv",
    "recbole",
    "amazon-json",
    "csv",
    "parquet",
    "sequences",
    "wikipedia-dump",
    "wikitext",
    "text",
    "pdf",
    "files",
    "gguf",
    "safetensors",
]
INTERACTION_FORMATS = (
    "movielens-100k",
    "movielens-dat",
    "movielens-csv",
    "recbole",
    "amazon-json",
    "csv",
    "parquet",
    "sequences",
)
DOCUMENT_FORMATS = ("wikipedia-dump", "wikitext", "text", "pdf")
# Their files stay packed by gzip or bz2 on disk: unpacked they are several times as large.
READ_PACKED = ("amazon-json", "wikipedia-dump")
# The parts of a data set that brings its own split, as roles of its members.
SPLITS = ("train", "validation", "test")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
SourceKind = Literal["url", "urls", "package", "path", "hub", "random"]


class Columns(Settings):
    """Names of the columns of an interactions file; no rating means 1, no timestamp the position."""

    user: str
    item: str
    rating: str | None = None
    timestamp: str | None = None


class ItemColumns(Settings):
    """Names of the columns of an item file."""

    item: str
    title: str | None = None
    genres: str | None = None
    year: str | None = None


class FileSource(Settings):
    """What every source of files may say about the file it gives and how to read it."""

    file: str | None = Field(None, description="Name under data/downloads/; for a URL its last part.")
    sha256: Sha256 | None = None
    md5: Md5 | None = None
    size: PositiveInt | None = Field(None, description="Bytes of the file.")
    format: Format = "files"
    members: dict[str, str] = Field(
        default_factory=dict,
        description="Role (ratings, items, model, ...) to path inside the archive or folder.",
    )
    columns: Columns | None = None
    item_columns: ItemColumns | None = None
    separator: str | None = Field(None, min_length=1)
    genre_separator: str = Field("|", min_length=1)
    encoding: str | None = None
    max_unpacked_size: PositiveInt = Field(32 * 10**9, description="Bytes that unpacking may write.")
    max_ratio: PositiveInt = Field(100, description="Unpacked bytes for one packed byte; more is a bomb.")

    @field_validator("file")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value or Path(value).name != value or value.startswith(".")):
            raise ValueError(f"must be a plain file name, got '{value}'")
        return value

    @field_validator("separator", "genre_separator")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is not None and set(value) & set('\r\n"\0'):
            raise ValueError("may hold no line end, quote or NUL")
        return value

    @field_validator("encoding")
    @classmethod
    def _ascii_compatible(cls, value: str | None) -> str | None:
        # Lines are cut as bytes before they are decoded, which only such encodings allow. Shifts and escapes, as of
        # utf-7, would make other letters of these.
        letters = f"{''.join(map(chr, range(128)))}\\u0041"
        try:
            known = codecs.lookup(value or "utf-8").name
            compatible = letters.encode(known) == letters.encode("ascii") and letters.encode().decode(known) == letters
        except (LookupError, ValueError):
            compatible = False
        if not compatible:
            raise ValueError(f"must be utf-8 or an encoding of one byte a letter such as latin-1, got '{value}'")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "FileSource":
        names = [PurePosixPath(member).name for member in self.members.values()]
        if {"", "..", RECORD} & set(names):
            raise ValueError(f"each of members must be the path of a file, and none may be called {RECORD}")
        if len(set(names)) < len(names):
            raise ValueError("two members have the same file name; they are kept side by side in one folder")
        if self.members and self.format in INTERACTION_FORMATS and "ratings" not in self.members:
            raise ValueError("members must name 'ratings', the file of interactions")
        if self.format == "wikitext" and set(self.members) != set(SPLITS):
            raise ValueError("members must name the files of 'train', 'validation' and 'test'")
        try:
            (self.separator or "").encode(self.encoding or "utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"separator: the encoding {self.encoding} has no '{self.separator}'") from None
        if self.format in ("csv", "parquet") and self.columns is None:
            raise ValueError("the format csv or parquet needs 'columns' with at least 'user' and 'item'")
        return self


class UrlSource(FileSource):
    """A file behind http or https."""

    url: str

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        return _web_address(value)

    @property
    def file_name(self) -> str:
        return self.file or _last_part(self.url) or "download"


class UrlsSource(FileSource):
    """Several files behind http or https, none of them an archive; all of them are needed."""

    urls: tuple[str, ...] = Field(min_length=1)
    file: str = Field(description="Name of the folder under data/downloads/ that keeps them.")

    @field_validator("urls")
    @classmethod
    def _are_web_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_web_address(url) for url in value)

    @model_validator(mode="after")
    def _every_file_has_a_name(self) -> "UrlsSource":
        if "" in self.by_name or len(self.by_name) < len(self.urls):
            raise ValueError("each address in urls must end in a file name of its own")
        if self.sha256 or self.md5 or self.size or self.members:
            raise ValueError("urls goes without sha256, md5 and size, which are those of one file, and without members")
        return self

    @property
    def by_name(self) -> dict[str, str]:
        """File name, the last part of the address, to address."""
        return {_last_part(url): url for url in self.urls}

    @property
    def file_name(self) -> str:
        return self.file


class PackageSource(FileSource):
    """A wheel of the Python package registry, taken as a plain file: nothing of it is installed or run."""

    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._!+-]*$")
    file: str = Field(description="Name of the wheel.")
    platform: str | None = Field(None, description="Wheel platform such as manylinux_2_28_x86_64, for a pinned file.")
    python: str | None = Field(None, pattern=r"^\d+\.\d+$", description="Python version of a pinned wheel.")

    @property
    def file_name(self) -> str:
        return self.file


class PathSource(FileSource):
    """A file, an archive or a folder on this machine."""

    path: str = Field(min_length=1)

    @property
    def file_name(self) -> str:
        return self.file or Path(self.path).name


class HubSource(Settings):
    """A repository of the Hugging Face Hub at one commit."""

    hub: str = Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="Full commit hash; a branch may move.")
    format: Literal["safetensors"] = "safetensors"


class RandomShape(Settings):
    """The shape of a Llama with random weights."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    seed: int = 0


class RandomSource(Settings):
    """A model that is built on the spot: nothing is fetched."""

    random: RandomShape


Source = UrlSource | UrlsSource | PackageSource | PathSource | HubSource | RandomSource
SOURCES: dict[str, type[Settings]] = {
    "url": UrlSource,
    "urls": UrlsSource,
    "package": PackageSource,
    "path": PathSource,
    "hub": HubSource,
    "random": RandomSource,
}


class Entry(Settings):
    """What data sets and models have in common."""

    title: str
    homepage: str | None = None
    licence: str | None = None
    citation: str | None = None


class DatasetEntry(Entry):
    """One data set: its sources in the order of trying, and what to do with bad rows and documents."""

    sources: tuple[UrlSource | UrlsSource | PackageSource | PathSource, ...] = Field(min_length=1)
    rating_range: tuple[float, float] | None = None
    min_interactions: PositiveInt | None = Field(
        None,
        description="k of the k-core: users and items with fewer interactions are removed until none is left.",
    )
    on_bad_rows: Literal["error", "skip"] = "error"
    on_duplicates: Literal["error", "keep_first", "keep_last", "keep"] = Field(
        "keep_last", description="For rows with the same user, item and timestamp."
    )
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


class ModelEntry(Entry):
    """One base model."""

    sources: tuple[Source, ...] = Field(min_length=1)
    parameters: PositiveInt | None = Field(None, description="Number of weights, tied ones once.")
    gated: bool = Field(False, description="Needs an accepted licence and a token in HF_TOKEN.")


E = TypeVar("E", bound=Entry)


def kind_of(source: Any) -> SourceKind:
    """The key that says where a source's files come from."""
    return next(key for key, model in SOURCES.items() if isinstance(source, model))


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"must be an http or https address, got '{value}'")
    return value


def _last_part(url: str) -> str:
    """The file name that an address ends in; empty where that is none, or none to be written under."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return name if name.isprintable() and not name.startswith(".") else ""


def load_datasets(path: Path | str) -> dict[str, DatasetEntry]:
    """Read ``config/datasets.yaml``: name to entry, in the file's order.

    Raises:
        FrugalError: naming the file, the key and the nearest known key.
    """
    return _load(Path(path), "datasets", DatasetEntry, ("url", "urls", "package", "path"))


def load_models(path: Path | str) -> dict[str, ModelEntry]:
    """Read ``config/models.yaml``: name to entry, in the file's order.

    Raises:
        FrugalError: naming the file, the key and the nearest known key.
    """
    return _load(Path(path), "models", ModelEntry, tuple(SOURCES))


def load_entry(path: Path | str, name: str) -> DatasetEntry | ModelEntry:
    """The entry ``name`` of either table.

    Raises:
        FrugalError: also where there is no such name; the nearest one is offered.
    """
    top = read_yaml(Path(path))
    loader: Callable[[Path | str], Mapping[str, Any]] = load_models if "models" in top else load_datasets
    entries = loader(path)
    if name not in entries:
        raise FrugalError(f"{path}: there is no entry '{name}'{nearest(name, sorted(entries))}")
    return entries[name]


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


def _load(path: Path, key: str, model: type[E], kinds: tuple[str, ...]) -> dict[str, E]:
    top = read_yaml(path)
    for unknown in set(top) - {key}:
        raise FrugalError(f"{path}: {unknown}: unknown key{nearest(str(unknown), [key])}")
    if not isinstance(top.get(key), dict) or not top[key]:
        raise FrugalError(f"{path}: {key}: must hold at least one entry, a name with its keys below")
    return {name: _entry(path, (key, str(name)), value, model, kinds) for name, value in top[key].items()}


def _entry(path: Path, prefix: tuple[str, str], value: Any, model: type[E], kinds: tuple[str, ...]) -> E:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", prefix[-1]):
        raise FrugalError(f"{path}: {'.'.join(prefix)}: a name is made of letters, digits, dot, dash and underscore")
    if isinstance(value, dict) and isinstance(value.get("sources"), list):
        sources = [
            _source(path, (*prefix, "sources", str(index)), source, kinds)
            for index, source in enumerate(value["sources"])
        ]
        value = {**value, "sources": tuple(sources)}
    return validate(model, value, file=str(path), prefix=prefix)


def _source(path: Path, prefix: tuple[str, ...], value: Any, kinds: tuple[str, ...]) -> Any:
    given = [kind for kind in SOURCES if isinstance(value, dict) and kind in value]
    if len(given) != 1 or given[0] not in kinds:
        found = " and ".join(given) or "none"
        raise FrugalError(f"{path}: {'.'.join(prefix)}: needs exactly one of {', '.join(kinds)}; found {found}")
    return validate(SOURCES[given[0]], value, file=str(path), prefix=prefix)

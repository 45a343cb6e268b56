"""A search's space beside the run that it changes: what is unknown or invalid is refused before anything is trained."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice, product
from typing import Any, TypeVar

from pydantic import ValidationError

from frugal.config.base import Settings
from frugal.config.errors import explain, nearest
from frugal.config.search import OF_THE_MACHINE, SECTIONS, Domain, SearchSettings
from frugal.errors import FrugalError

Run = TypeVar("Run", bound=Settings)
#: Combinations of values that are tried at most, to see whether one is valid.
MOST_COMBINATIONS = 500


def searchable(run: Settings) -> list[str]:
    """The settings of a run that a search may change: `section.key`."""
    return [
        f"{section}.{name}"
        for section in SECTIONS
        for name in type(getattr(run, section)).model_fields
        if name not in OF_THE_MACHINE.get(section, ())
    ]


def with_values(run: Run, values: Mapping[str, Any]) -> Run:
    """The run with settings `section.key` changed.

    Raises:
        ValidationError: a value is invalid, alone or beside others.
    """
    data = run.model_dump()
    for key, value in values.items():
        section, _, name = key.partition(".")
        data[section][name] = value
    return type(run).model_validate(data)


def value_of(run: Settings, key: str) -> Any:
    """A setting `section.key` of a run."""
    section, _, name = key.partition(".")
    return getattr(getattr(run, section), name)


def can_be_searched(run: Settings) -> bool:
    """Whether a run begins with random weights and trains all of them."""
    return run.warm_start is None and run.adapter.method == "none"


def check_search(run: Settings, search: SearchSettings, file: str, prefix: tuple[str, ...]) -> None:
    """Whether a run can be searched, and each value of the space can be trained with.

    Args:
        prefix: the keys that lead to the search.

    Raises:
        FrugalError: the run cannot be searched, a key is unknown or not to be searched, or a value is invalid.
    """
    where = f"{file}: {'.'.join(prefix)}"
    if not can_be_searched(run):
        raise FrugalError(
            f"{where}: a variant with warm_start or adapter cannot be searched; search the model below it"
        )
    if run.training.gpus not in (0, 1, "auto") or run.training.nodes > 1:
        raise FrugalError(
            f"{where}: a search trains on one device: set training.gpus to 0, 1 or 'auto', and nodes to 1"
        )
    known = searchable(run)
    for key, domain in search.space.items():
        here = f"{where}.space.{key}"
        if key not in known:
            raise FrugalError(f"{here}: {_unknown(key, known)}")
        for value in domain.checked():
            if fault := _own_fault(run, key, value, domain):
                raise FrugalError(f"{here}: {fault}")
    for key, domain in search.space.items():
        for value in domain.checked():
            if fault := _fault_beside_others(run, search.space, key, value):
                raise FrugalError(f"{where}.space.{key}: {value!r}: {fault}")


def _unknown(key: str, known: list[str]) -> str:
    section, _, name = key.rpartition(".")
    if name in OF_THE_MACHINE.get(section, ()):
        return "belongs to the machine or to how a run is watched, and is not searched"
    same = [one for one in known if one.rpartition(".")[2] == key]
    if same:
        return f"unknown key; did you mean '{same[0]}'?"
    return f"unknown key{nearest(key, known)}"


def _own_fault(run: Settings, key: str, value: Any, domain: Domain) -> str | None:
    """What is wrong with a value whatever the other settings are; None if nothing is."""
    location = tuple(key.split("."))
    try:
        found = value_of(with_values(run, {key: value}), key)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            if item["loc"][:2] == location:
                return explain(type(run), item | {"loc": ()}).removeprefix(": ")
        return None
    if domain.choices is None and type(found) is int and not domain.whole:
        return "takes whole numbers: give low, high and step without decimals"
    return None


def _fault_beside_others(run: Settings, space: Mapping[str, Domain], key: str, value: Any) -> str | None:
    """Why a value is valid beside no values of the other keys; None if it is beside some."""
    others = {name: domain.checked() for name, domain in space.items() if name != key}
    fault = None
    for values in islice(product(*others.values()), MOST_COMBINATIONS):
        try:
            with_values(run, {**dict(zip(others, values, strict=True)), key: value})
            return None
        except ValidationError as error:
            fault = fault or explain(type(run), error.errors(include_url=False)[0])
    return fault


def largest(run: Run, space: Mapping[str, Domain]) -> Iterator[Run]:
    """Runs at the corners of a space, those with the largest numbers first: one of them needs the most memory."""
    corners = []
    for domain in space.values():
        values = domain.checked()
        numbers = all(isinstance(value, int | float) for value in values)
        corners.append(sorted({min(values), max(values)}, reverse=True) if numbers else values)
    for values in islice(product(*corners), MOST_COMBINATIONS):
        with suppress(ValidationError):
            yield with_values(run, dict(zip(space, values, strict=True)))

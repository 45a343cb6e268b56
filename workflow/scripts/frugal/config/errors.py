"""Turn pydantic's complaints into messages that name the file, the key and the nearest known key."""

import difflib
import json
import re
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from frugal.config.limits import check_limits
from frugal.errors import FrugalError, first_line

T = TypeVar("T", bound=BaseModel)
#: What pydantic puts into the path of a value that a function has checked.
VALIDATOR = re.compile(r"function-(before|after|wrap|plain)\[")
#: Former names of keys, where another key is spelt more alike than the present one.
RENAMED = {"history_genres": "history_attributes", "genres": "attributes", "genre_separator": "attribute_separator"}


def validate(model: type[T], data: Any, *, file: str, prefix: tuple[str, ...] = ()) -> T:
    """Validate ``data`` against ``model``.

    Args:
        model: the pydantic model.
        data: parsed YAML, usually a mapping.
        file: the file to name in an error.
        prefix: the keys that lead from the file's top to ``data``.

    Raises:
        FrugalError: one line for each fault, all faults at once.
    """
    check_limits(data, file=file, prefix=prefix)
    if not isinstance(data, dict):
        where = ".".join(prefix) or "the file"
        raise FrugalError(f"{file}: {where}: expected keys and values, got {describe(data)}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [explain(model, item, prefix) for item in error.errors(include_url=False)]
        raise FrugalError("\n".join(f"{file}: {line}" for line in dict.fromkeys(lines))) from None


def parse_settings(text: str, option: str) -> Any:
    """The JSON that a script's ``option`` was given.

    Raises:
        FrugalError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrugalError(f"{option}: not JSON: {first_line(error)}") from None


def explain(model: type[BaseModel], error: dict[str, Any], prefix: tuple[str, ...] = ()) -> str:
    """One line for one of pydantic's error records: ``path.to.key: what is wrong``."""
    location = [str(part) for part in error["loc"] if not VALIDATOR.match(str(part))]
    path = ".".join([*prefix, *location])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{path}: unknown key{nearest(str(error['loc'][-1]), known_keys(model, location[:-1]))}"
    if kind == "missing":
        return f"{path}: this key is required"
    if kind == "value_error":
        reason = str(context.get("error", error["msg"]))
        return f"{path}: {reason}" if path else reason
    if kind in ("literal_error", "enum"):
        allowed = context["expected"]
        return f"{path}: must be {allowed}, got {describe(error['input'])}"
    message = error["msg"].replace("Input should be", "must be")
    return f"{path}: {message}, got {describe(error['input'])}"


def nearest(name: str, known: list[str], known_are: str = "known keys here") -> str:
    """``; did you mean 'x'?``, or the list of the known names, after ``known_are``, when none is near."""
    close = [RENAMED[name]] if RENAMED.get(name) in known else difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; {known_are}: {', '.join(known)}" if known else ""


def known_keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """The keys that ``model`` accepts at ``location``, a path of keys below it."""
    current: Any = model
    for part in location:
        field = current.model_fields.get(part) if is_model(current) else None
        if field is None:
            # A union's tag or a mapping's key stands in the path: the model stays the same.
            continue
        current = next((t for t in (field.annotation, *nested(field.annotation)) if is_model(t)), None)
    return sorted(current.model_fields) if is_model(current) else []


def nested(annotation: Any) -> list[Any]:
    """The types inside an annotation such as ``dict[str, X] | None``, at any depth."""
    inner = [t for t in get_args(annotation) if not isinstance(t, str)]
    return inner + [deep for t in inner for deep in nested(t)]


def is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def describe(value: Any) -> str:
    """A value as a user would write it, cut when long."""
    if value is None:
        return "nothing"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or lists without end
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."

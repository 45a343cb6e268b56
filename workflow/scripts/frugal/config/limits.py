"""Bounds on what a configuration may hold, checked before anything looks at it closer."""

from typing import Any

from frugal.errors import FrugalError

#: More than any study needs. A few lines of YAML can name billions, by aliases of aliases.
MOST_VALUES = 100_000
DEEPEST = 40
#: Numbers that fit 64 bits: beyond it neither JSON's readers nor the libraries below take them.
LARGEST = 2**63 - 1


def check_limits(data: Any, *, file: str, prefix: tuple[str, ...] = ()) -> None:
    """Refuse parsed YAML or JSON that no reader of it should have to expect.

    Args:
        file: the file to name in an error.
        prefix: the keys that lead from the file's top to ``data``.

    Raises:
        FrugalError: there are too many values, they are nested too deeply or in a circle, a whole number is too
            large, a text holds NUL or half of a surrogate pair, or a key is no text.
    """
    pending, seen = [(data, prefix)], 0
    while pending:
        value, path = pending.pop()
        seen += 1
        if fault := _fault(value, len(path) - len(prefix), seen):
            raise FrugalError(f"{file}: {_shown(path)}: {fault}")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise FrugalError(f"{file}: {_shown(path)}: has a key that is no text; put it into quotes")
                if problem := _no_text(key):
                    raise FrugalError(f"{file}: {_shown(path)}: has a key that {problem}")
            pending += [(child, (*path, key)) for key, child in value.items()]
        elif isinstance(value, list | tuple | set):
            pending += [(child, (*path, str(index))) for index, child in enumerate(value)]


def _fault(value: Any, depth: int, seen: int) -> str:
    if seen > MOST_VALUES:
        return f"more than {MOST_VALUES} values, aliases written out; a study needs some hundred"
    if depth > DEEPEST:
        return f"nested more than {DEEPEST} deep, or in a circle"
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        return "a whole number of more than 64 bits"
    return _no_text(value) if isinstance(value, str) else ""


def _no_text(value: str) -> str:
    """What neither file names nor UTF-8 can hold."""
    if "\0" in value:
        return "holds the character NUL; take it out"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair; write the character itself"
    return ""


def _shown(path: tuple[str, ...]) -> str:
    shown = ".".join(path[:8]) or "the file"
    return f"{shown}..." if len(path) > 8 else shown

"""Text templates in the configuration: named fields in braces, filled by `str.format`, and nothing else."""

from collections.abc import Iterable
from string import Formatter

from frugal.config.errors import nearest


def fields_of(template: str) -> set[str]:
    """The names of a template's fields.

    Raises:
        ValueError: a brace stands alone, or a field is more than a name. `str.format` would follow {a.b} and {a[0]}
            into any object, so that a template could read what it was never given.
    """
    try:
        names = [(name, spec or conversion) for _, name, spec, conversion in Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"is no template: {error}; write {{{{ and }}}} for braces that are text") from None
    for name, more in names:
        if name is not None and (more or not name.isidentifier()):
            raise ValueError(f"the field {{{name}}} is not a plain name in braces")
    return {name for name, _ in names if name is not None}


def check_template(template: str, needed: Iterable[str], optional: Iterable[str]) -> None:
    """Check that a template has its fields.

    Raises:
        ValueError: as `fields_of`, or a field of ``needed`` is missing, or one is neither in it nor in ``optional``;
            the message names the field and the known ones.
    """
    needed, found = list(needed), fields_of(template)
    known = [*needed, *optional]
    listed = f"known fields: {', '.join(f'{{{name}}}' for name in known)}"
    if unknown := sorted(found - set(known)):
        near = nearest(unknown[0], known).partition(";")[2].strip()
        hint = f"{near} " if near.startswith("did you mean") else ""
        raise ValueError(f"there is no field {{{unknown[0]}}}; {hint}{listed}")
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"needs the field {{{missing[0]}}}; {listed}")

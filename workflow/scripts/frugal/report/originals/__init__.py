"""What the report says of an original project: facts in a module called like it, text in a template beside it.

Only experiments with `reproduces` show it. A module has `FACTS`, which the template knows as `original`; it may have
`context`, further names of the template, from an experiment and its tables, and `ANCHORS`, published figures. Snakemake
imports these modules when it starts: what is slow is imported where it is used.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def load(name: str | None) -> ModuleType | None:
    """The module of an original; None where there is none, or no original."""
    path = f"{__name__}.{name}"
    return import_module(path) if name and find_spec(path) else None

"""A study of several configuration files and of what `--config` gives, which Snakemake merges; errors name the one."""

import json
import re
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from frugal.config.study import Study, check_names, load_study
from frugal.errors import FrugalError

#: The layer of what the command line gives.
COMMAND_LINE = "--config"
MERGED = "the configuration"


def load_layers(data: dict[str, Any], layers: Mapping[str, Any]) -> Study:
    """`load_study` and `check_names` of the merged ``layers``.

    Args:
        data: what Snakemake has merged.
        layers: file, or `COMMAND_LINE`, -> its content; a later one takes precedence.

    Raises:
        FrugalError: as theirs; each line names the layer that holds its key.
    """
    try:
        study = load_study(data, MERGED)
        check_names(study, MERGED)
        return study
    except FrugalError as error:
        lines = re.sub(
            rf"^{MERGED}: ([^\s:]+)", lambda match: f"{holder(match[1], layers)}: {match[1]}", str(error), flags=re.M
        )
        raise FrugalError(lines.replace(MERGED, " and ".join(layers) or MERGED)) from None


def holder(key: str, layers: Mapping[str, Any]) -> str:
    """The layer that holds a dotted key: the last one that has the longest part of it."""
    return max(reversed(layers), key=lambda name: _known(key, layers[name]), default=MERGED)


def _known(key: str, data: Any) -> int:
    """How many characters of a dotted key lead into ``data``; names may hold dots themselves."""
    known = 0
    for name, value in data.items() if isinstance(data, Mapping) else ():
        if f"{key}.".startswith(f"{name}."):
            known = max(known, len(str(name)) + 1 + _known(key[len(str(name)) + 1 :], value))
    return known


def command_options(files: Sequence[str], settings: Mapping[str, Any]) -> str | None:
    """Snakemake's options that name these files and settings, as a shell reads them; None without any."""
    options = ["--configfile", *map(quote, files)] if files else []
    if settings:
        given = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items())
        options += [COMMAND_LINE, *map(quote, given)]
    return " ".join(options) or None

"""The user's cache: what was compiled or measured on this machine, and can be made again."""

import os
from pathlib import Path


def user_cache(name: str) -> Path | None:
    """A file of the cache folder, `$XDG_CACHE_HOME/frugal` or `~/.cache/frugal`; None where the user has no home."""
    folder = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(folder or Path.home() / ".cache") / "frugal" / name
    except RuntimeError:  # no HOME, and no entry in the list of users
        return None

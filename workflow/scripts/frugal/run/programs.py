"""The environment of the programs that this Python starts."""

import os
import sys
from pathlib import Path


def environment(**variables: str) -> dict[str, str]:
    """This process's environment with ``variables``, and with this Python's programs first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, **variables}

"""Benchmarks against other libraries: `python -m bench.llm` and the like, from the project's folder.

The Makefile's `bench` targets start them. The library stands beside the scripts of the workflow and is not installed.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = REPOSITORY / "workflow/scripts"
PEERS = Path(__file__).parent / "peers"
#: The environments that the peers are installed in.
REQUIREMENTS = REPOSITORY / "envs/peers"

sys.path.insert(0, str(SCRIPTS))

"""What the libraries below this one do beside their work, settled once, before they are imported.

They stay off the network, because only the fetch rule may use it, and their progress bars stay out of the logs.
"""

import logging
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def hide(*packages: str) -> None:
    """Let this process find ``packages`` not installed, before another library imports them for nothing.

    The trainer imports bitsandbytes and datasets where they are there: a third of the time that a job
    takes to start, and recommenders use neither.
    """
    for package in packages:
        sys.modules.setdefault(package, None)

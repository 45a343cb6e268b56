"""What the libraries below this one do beside their work, settled once, before they are imported.

They stay off the network, because only the fetch rule may use it, and their progress bars stay out of the logs.
"""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def hide_unused(adapter_method: str) -> None:
    """Let this process find what a recommender does not use not installed, before the trainer imports it for nothing.

    It imports bitsandbytes, datasets, PEFT and SciPy where they are there: more than half of the time that a job
    takes to start.
    """
    _hide("bitsandbytes", "datasets", "scipy", *(() if adapter_method == "lora" else ("peft",)))


def hide_bitsandbytes(quantization: str, optim: str = "adamw_torch") -> None:
    """The same of bitsandbytes where a language model does without it, and of SciPy, which comes with it.

    They take 80 MB of the process, and one or two seconds of its start.
    """
    if quantization != "nf4" and "8bit" not in optim:
        _hide("bitsandbytes", "scipy")


def _hide(*packages: str) -> None:
    for package in packages:
        sys.modules.setdefault(package, None)


@contextmanager
def imports() -> Iterator[None]:
    """Import without collecting garbage, and leave what was imported out of every later collection.

    Modules live as long as the process. To look for garbage among a million of their objects, over and over while
    they are made and once more at the end, takes a quarter of the time of a process that does little else.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()

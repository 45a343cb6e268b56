"""What is hidden from a process stays out of it, and nothing else does."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"


@pytest.mark.parametrize(
    ("quantization", "optim", "loaded"),
    [
        ("none", "adamw_torch", set()),
        ("none", "adamw_8bit", {"bitsandbytes", "scipy"}),
        ("nf4", "adamw_torch", {"bitsandbytes", "scipy"}),
    ],
)
def test_a_language_model_loads_bitsandbytes_where_it_has_4_or_8_bits(quantization, optim, loaded):
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from frugal.libraries import hide_bitsandbytes
hide_bitsandbytes({quantization!r}, {optim!r})
import frugal.llm.training
print(*(name for name in ("bitsandbytes", "scipy", "datasets", "peft") if sys.modules.get(name)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) == loaded | {"datasets", "peft"}

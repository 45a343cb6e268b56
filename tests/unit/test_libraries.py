"""What is hidden from a process stays out of it, and nothing else does."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from frugal.run.libraries import imports

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
from frugal.run.libraries import hide_bitsandbytes
hide_bitsandbytes({quantization!r}, {optim!r})
import frugal.llm.trainer
print(*(name for name in ("bitsandbytes", "scipy", "datasets", "peft") if sys.modules.get(name)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) == loaded | {"datasets", "peft"}


def test_what_is_imported_is_never_searched_for_garbage():
    with imports():
        assert not gc.isenabled()
        module = [object()]
    assert gc.isenabled()
    assert not any(found is module for found in gc.get_objects())  # of all generations, without what is frozen
    gc.unfreeze()
    assert any(found is module for found in gc.get_objects())


def test_garbage_is_collected_again_after_an_import_that_failed():
    with pytest.raises(ImportError), imports():
        raise ImportError
    assert gc.isenabled()

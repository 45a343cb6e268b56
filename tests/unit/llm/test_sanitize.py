"""fused.c under the address and undefined-behaviour sanitizers (`make sanitize` adds races), and what they find."""

import importlib.util
import re
from pathlib import Path

import pytest

from frugal.errors import FrugalError
from frugal.llm.kernels.native import SOURCE

FOLDER = Path("tests/sanitize")


@pytest.fixture(scope="module")
def sanitize():
    """Builds and runs a fused.c; what is found in it."""
    spec = importlib.util.spec_from_file_location("sanitize", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def check(source: Path, dtype: str) -> str:
        try:
            return module.check("address, undefined", "native", dtype, source)
        except FrugalError as error:
            pytest.skip(f"fused.c could not be built with sanitizers: {error}")

    return check


def test_the_driver_calls_every_function():
    functions = re.findall(r"^void (\w+)\(", SOURCE.read_text(), re.MULTILINE)
    table = re.search(r"CHECKS\[\] = \{\n(.*?)\n\};", (FOLDER / "driver.c").read_text(), re.DOTALL)[1]
    assert sorted(functions) == sorted(" ".join(re.findall(r'"([\w ]+)"', table)).split())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_nothing_is_found(sanitize, dtype):
    assert sanitize(SOURCE, dtype) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("i < width; i++) sum += wide", "i <= width; i++) sum += wide", "heap-buffer-overflow"),
        ("largest > 1e-36f", "largest > 0", "outside the range of representable values"),
        ("first * cosine - second", "first * cosine + second", "rotate, 1 x 1: "),
    ],
    ids=["past the end", "undefined", "a wrong value"],
)
def test_what_is_wrong_is_found(sanitize, tmp_path, right, wrong, finding):
    source = SOURCE.read_text()
    assert source.count(right) == 1
    (tmp_path / "fused.c").write_text(source.replace(right, wrong))
    assert finding in sanitize(tmp_path / "fused.c", "float32")

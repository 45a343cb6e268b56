"""The benchmarks of data preparation, small, run as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def run(benchmark: str, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"bench.{benchmark}", *map(str, options)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_a_small_benchmark(tmp_path: Path) -> None:
    done = run("data", "--rows", 2000, "--runs", 1, "--output", tmp_path / "data.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "data.json").read_text())
    assert result["rows"] == 2000
    assert {run["system"] for run in result["runs"]} == {"frugal", "pandas"}
    assert result["rows_per_second_vs_pandas"] > 0


def test_a_small_benchmark_of_amazon_reviews(tmp_path: Path) -> None:
    done = run("amazon", "--rows", 500, "--output", tmp_path / "amazon.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "amazon.json").read_text())
    assert result["rows"] == 500
    assert result["peak_rss_mb"] > 0
    assert result["rows_per_second"] > 0

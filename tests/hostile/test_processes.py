"""A handful of hostile inputs to real processes: what a user sees on the terminal."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import MARKER, SCRIPTS
from .test_archives import RATINGS, zipped

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefghi", "bcdefghij", strict=True)
)
STUDIES = {
    "tag": (f'study: !!python/object/apply:os.system ["touch {MARKER}"]\n', "not valid JSON or YAML"),
    "laughs": (f"study: x\n{LAUGHS}", "study.yaml: line 7: not valid YAML: more than 100000 values"),
    "NUL": ('study: "a\\0b"\n', "study.yaml: study: holds the character NUL"),
    "number": (f"study: 0x{'f' * 5000}\n", "study.yaml: study: a whole number of more than 64 bits"),
    "key": ("study: x\nexperiment: {}\n", "study.yaml: experiment: unknown key; did you mean 'experiments'?"),
}


def ended(command: list[str], folder: Path) -> str:
    """What a command that must fail has said, and that it said it without a traceback and did nothing else."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    told = result.stdout + result.stderr
    assert result.returncode in (1, 2), told
    assert "Traceback" not in told
    assert not Path(MARKER).exists()
    return told


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "rules", "config", "workflow", "envs", "profiles"):
        copy = shutil.copytree if Path(name).is_dir() else shutil.copy2
        copy(name, folder / name)
    return folder


@pytest.mark.parametrize("study", STUDIES)
def test_snakemake_stops_before_any_job(checkout, study):
    text, words = STUDIES[study]
    (checkout / "study.yaml").write_text(text)
    snakemake = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--configfile", "study.yaml"]
    assert words in ended(snakemake, checkout)
    assert not (checkout / "results").exists()


def test_scripts_print_one_line(tmp_path):
    archive, table = tmp_path / "data.zip", tmp_path / "table.yaml"
    archive.write_bytes(zipped([("../../u.data", "file", RATINGS)], tmp_path / "outside"))
    source = {"path": str(archive), "format": "movielens-100k", "members": {"ratings": "../../u.data"}}
    table.write_text(json.dumps({"datasets": {"mine": {"title": "t", "sources": [source]}}}))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(STUDIES["tag"][0])
    (tmp_path / "cut.parquet").write_bytes(b"PAR1" + os.urandom(64) + b"PAR1")
    raw, out = tmp_path / "raw", tmp_path / "out"
    (tmp_path / "summary.json").write_text("{}")
    commands = {
        "fetch_source.py": (
            ["--table", table, "--name", "mine", "--output", raw],
            f"{archive}: the member '../../u.data'",
        ),
        "rank_candidates.py": (
            ["--run", tmp_path / "run", "--liked", "a", "--candidates", "b", "c"],
            "config.yaml: line 1",
        ),
        "partition_interactions.py": (
            [
                "--interactions",
                tmp_path / "cut.parquet",
                "--items",
                tmp_path / "cut.parquet",
                "--summary",
                tmp_path / "summary.json",
                "--settings",
                "{}",
                "--output",
                out,
            ],
            f"{tmp_path / 'cut.parquet'}: cannot be read",
        ),
        "write_run_config.py": (
            ["--experiment", "books", "--kind", "recommendation", "--settings", "[" * 100_000, "--output", out],
            "--settings: not JSON",
        ),
    }
    for script, (options, words) in commands.items():
        told = ended([sys.executable, str(SCRIPTS / script), *map(str, options)], tmp_path)
        assert told.startswith("error: ") or "\nerror: " in told
        assert words in told
    assert not raw.exists()
    assert not out.exists()

"""The command lines, run as a user runs them: exit codes and messages."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
TABLE = """datasets:
  mine:
    title: Mine
    sources: [{path: PATH, format: csv, columns: {user: who, item: what}}]
"""


def run(script: str, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_fetch_then_prepare(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("who,what\nann,x\nbob,y\n")
    (tmp_path / "table.yaml").write_text(TABLE.replace("PATH", str(tmp_path / "my.csv")))
    table = ["--table", tmp_path / "table.yaml", "--name", "mine"]
    fetched = run("fetch_source.py", *table, "--output", tmp_path / "raw", "--downloads", tmp_path)
    assert (fetched.returncode, fetched.stderr) == (0, f"mine: 1 file, 0.0 MB, in {tmp_path / 'raw'}\n")
    outputs = [f"--{name}={tmp_path / name}" for name in ("interactions", "items", "users", "summary")]
    prepared = run("prepare_interactions.py", *table, "--raw", tmp_path / "raw", *outputs)
    assert prepared.stdout == "mine: 2 interactions, 2 users, 2 items; 0 bad rows and 0 duplicates left out\n"
    assert json.loads((tmp_path / "summary").read_text())["rows_kept"] == 2


def test_errors_are_one_message_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text(TABLE.replace("PATH", str(tmp_path / "absent.csv")))
    table = ["--table", tmp_path / "table.yaml", "--name", "mine"]
    failed = run("fetch_source.py", *table, "--output", tmp_path / "raw", "--downloads", tmp_path)
    assert failed.returncode == 1
    assert "error: mine: none of its sources can be used" in failed.stderr
    assert "Traceback" not in failed.stderr

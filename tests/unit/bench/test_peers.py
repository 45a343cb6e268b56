"""Peers' environments, and runs in separate processes."""

import subprocess
import sys

import pytest

from bench import environments
from bench.environments import peer_python, run_logged
from frugal.errors import FrugalError
from frugal.files import sha256_file


def test_a_run_that_fails_names_its_log(tmp_path):
    log = tmp_path / "logs" / "run.log"
    with pytest.raises(FrugalError, match=r"exit code 3; see .*run\.log"):
        run_logged([sys.executable, "-c", "print('why'); raise SystemExit(3)"], log, 1, 1)
    assert log.read_text() == "why\n"
    with pytest.raises(FrugalError, match=r"not finished.*run\.log"):
        run_logged([sys.executable, "-c", "import time; time.sleep(60)"], log, 1, timeout_minutes=0.005)


def test_the_environment_is_made_once(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(
        environments.subprocess, "run", lambda command: commands.append(command) or subprocess.CompletedProcess([], 0)
    )
    folder, requirements = tmp_path / "peer", tmp_path / "peer.txt"
    requirements.write_text("peer==1.0")
    assert peer_python(folder, requirements, ["--find-links", "here"]) == str(folder / "bin/python")
    assert peer_python(folder, requirements, []) == str(folder / "bin/python")
    assert len(commands) == 2
    assert "--find-links" in commands[1]
    assert (folder / "requirements.sha256").read_text() == sha256_file(requirements)
    requirements.write_text("peer==2.0")
    peer_python(folder, requirements, [])
    assert len(commands) == 4

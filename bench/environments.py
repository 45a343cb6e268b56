"""What the comparisons with other libraries share: their environments, and runs in processes of their own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from frugal.errors import FrugalError
from frugal.files import sha256_file, write_text


def peer_python(folder: Path, requirements: Path, pip_args: list[str]) -> str:
    """The interpreter of a peer's environment, which is made when it is missing or its requirements have changed.

    Raises:
        FrugalError: it cannot be made.
    """
    python, stamp = folder / "bin/python", folder / "requirements.sha256"
    wanted = sha256_file(requirements)
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"making the environment {folder} from {requirements.name}", file=sys.stderr, flush=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pip_args]
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, "-r", str(requirements)]):
            if subprocess.run(command).returncode:
                raise FrugalError(f"{folder}: the environment cannot be made: {shlex.join(command)} failed")
        write_text(stamp, wanted)
    return str(python)


def run_logged(command: list[str], log: Path, threads: int, timeout_minutes: float) -> None:
    """Run a command with so many threads; what it prints goes to ``log``.

    Raises:
        FrugalError: it failed, or took longer than the time allowed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with log.open("w") as stream:
        try:
            code = subprocess.run(
                command, stdout=stream, stderr=subprocess.STDOUT, env=environment, timeout=timeout_minutes * 60
            ).returncode
        except subprocess.TimeoutExpired:
            raise FrugalError(f"a run was not finished after {timeout_minutes:g} minutes; see {log}") from None
    if code:
        raise FrugalError(f"a run failed with exit code {code}; see {log}")

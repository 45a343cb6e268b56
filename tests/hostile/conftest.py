"""A folder for one hostile input, the scripts run in it, and what must hold afterwards whatever the input was."""

import contextlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, settings

from frugal.errors import FrugalError, run_script
from frugal.files import read_json, sha256_file

# The same examples in every run. New ones are looked for by `pytest tests/hostile --hypothesis-profile=search`.
# Each test says how many (`examples`): those of documents start processes, and hundreds would take minutes.
settings.register_profile("repeatable", max_examples=1, derandomize=True, deadline=None, database=None)
settings.register_profile("search", max_examples=3000, deadline=None)
settings.load_profile("repeatable")

SCRIPTS = Path("workflow/scripts").resolve()
# What a Python process may do to files, and which of the event's arguments are paths.
WRITES = {"os.mkdir": [0], "os.rename": [0, 1], "os.link": [1], "os.symlink": [1], "os.remove": [0], "os.rmdir": [0]}
# The file that planted code would make.
MARKER = f"{tempfile.gettempdir()}/code-has-run-{os.getpid()}"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def examples(count: int) -> settings:
    """So many examples; under a profile with more, such as `search`, that many."""
    return settings(max_examples=max(count, settings().max_examples), suppress_health_check=list(HealthCheck))


class Watch:
    """Every path that this process writes to while a script runs, whether it succeeds or not."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        if self.paths is None:
            return
        if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & WRITING:
            self.paths.append(os.fsdecode(arguments[0]))
        elif event in WRITES:
            # Relative to an open folder these are names only; the folder was opened by a path that is watched.
            relative = any(isinstance(argument, int) and argument >= 0 for argument in arguments[1:])
            if not relative or event == "os.mkdir":
                self.paths += [os.fsdecode(arguments[index]) for index in WRITES[event]]

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[str]]:
        self.paths = paths = []
        try:
            yield paths
        finally:
            self.paths = None


WATCH = Watch()


class Planted:
    """An object whose pickle makes the file `MARKER`."""

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {MARKER}",)


@dataclass(frozen=True)
class Outcome:
    """How a script ended."""

    code: int
    stderr: str

    @property
    def refused(self) -> bool:
        return self.code != 0


class Sandbox:
    """A folder with ``inputs``, which no script may change, and ``outputs``, the only place to write to."""

    def __init__(self, root: Path) -> None:
        self.root, self.inputs, self.outputs = root, root / "in", root / "out"
        self.inputs.mkdir(parents=True)
        self.outputs.mkdir()

    def run(self, script: str, *options: object) -> Outcome:
        """Run a script's command line in this process, and check what it left behind.

        An exception other than the one that scripts turn into a message is the test's failure.
        """
        outputs = [option for option in options if isinstance(option, Path) and self.outputs in option.parents]
        before, stood = fingerprints(self.root, self.outputs), {path for path in outputs if path.exists()}
        code, stderr, written = run_here(script, [str(option) for option in options])
        told = f"{script} {' '.join(map(str, options))}\n{stderr}"
        assert fingerprints(self.root, self.outputs) == before, f"files outside the outputs have changed: {told}"
        self._is_inside(written, told)
        left = [path for path in self.outputs.rglob(".*") if not path.name.endswith(".lock")]
        assert not left, f"unfinished files are left: {left}: {told}"
        if code:
            self._is_one_message(stderr, told)
            new = [path for path in outputs if path.exists() and path not in stood]
            assert all(map(is_whole, new)), f"half an output of a script that failed: {new}: {told}"
        return Outcome(code, stderr)

    def fetch(self, source: dict, policies: dict) -> tuple[Outcome, list[object]]:
        """Fetch a data set of one source: how that ended, and the options by which the next script finds it."""
        table = self.inputs / "table.yaml"
        table.write_text(yaml.safe_dump({"datasets": {"mine": {"title": "t", "sources": [source], **policies}}}))
        named, raw = ["--table", table, "--name", "mine"], self.outputs / "raw"
        fetched = self.run("fetch_source.py", *named, "--output", raw, "--downloads", self.outputs / "downloads")
        return fetched, [*named, "--raw", raw]

    def ask(self, function: Callable, *arguments: object) -> str | None:
        """What a `FrugalError` of ``function`` says, or None where it returns; it writes into this folder at most."""
        with WATCH.watching() as written, warnings.catch_warnings(action="ignore"):
            message = refusal(function, *arguments)
        self._is_inside(written, f"{function} {arguments}")
        return message

    def _is_inside(self, written: list[str], told: str) -> None:
        outside = {path for path in written if self.root not in Path(os.path.abspath(path)).parents} - {os.devnull}
        # PyTorch makes an empty folder of its own when it is imported.
        assert not [path for path in outside if "torchinductor_" not in path], f"written outside: {outside}: {told}"

    def _is_one_message(self, stderr: str, told: str) -> None:
        messages = [line for line in stderr.splitlines() if line.startswith("error: ")]
        assert len(messages) == 1, told
        assert "Traceback" not in stderr, told


def is_whole(output: Path) -> bool:
    """Whether what a script that failed has left is a folder of finished files; the output itself must not be there."""
    return output.is_dir() and all(
        pq.read_table(file).num_rows if file.suffix == ".parquet" else read_json(file)
        for file in output.rglob("*")
        if file.is_file()
    )


def fingerprints(root: Path, without: Path) -> dict[str, str]:
    """Every path below ``root`` but those below ``without``, and what is there."""
    found = {}
    for folder, folders, files in os.walk(root):
        if Path(folder) == without:
            folders.clear()
            continue
        for name in files:
            path = Path(folder) / name
            found[str(path)] = sha256_file(path) if path.is_file() else "special"
        found |= {str(Path(folder) / name): "folder" for name in folders}
    return found


def run_here(script: str, options: list[str]) -> tuple[int, str, list[str]]:
    """Exit code, standard error and the paths written to, of a script that is run in this process."""
    arguments, stderr = sys.argv, io.StringIO()
    with (
        WATCH.watching() as written,
        contextlib.redirect_stderr(stderr),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # a warning is no traceback
        sys.argv = [script, *options]
        try:
            run_script(main_of(script))
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.argv = arguments
    return code, stderr.getvalue(), list(written)


MAINS: dict[str, Callable[[], int | None]] = {}


def main_of(script: str) -> Callable[[], int | None]:
    if script not in MAINS:
        spec = importlib.util.spec_from_file_location(f"hostile_{Path(script).stem}", SCRIPTS / script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        MAINS[script] = module.main
    return MAINS[script]


@pytest.fixture
def sandboxes(tmp_path: Path) -> Callable[[], contextlib.AbstractContextManager[Sandbox]]:
    """A function that gives a fresh sandbox for each example; it goes afterwards."""
    number = iter(range(10**9))

    @contextlib.contextmanager
    def fresh() -> Iterator[Sandbox]:
        sandbox = Sandbox(tmp_path / str(next(number)))
        yield sandbox
        assert not Path(MARKER).exists(), "the input has run its code"
        shutil.rmtree(sandbox.root)

    return fresh


def refusal(function: Callable, *arguments: object) -> str | None:
    """What a `FrugalError` of ``function`` says, or None where it returns; any other exception goes on."""
    try:
        function(*arguments)
    except FrugalError as error:
        return str(error)
    return None

"""A study that is interrupted again and again ends within ten seconds each time, and goes on by the same command."""

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.workflow
#: Seconds from the signal until no process of the study is left.
LIMIT = 10.0
#: Seconds until something happens at all; no measure of speed.
PATIENCE = 1200.0
#: What every process of an interrupted study inherits, in whatever session it is.
MARK = "FRUGAL_TEST_INTERRUPTED"


@dataclass(frozen=True)
class Moment:
    """When a study is interrupted, and how.

    Attributes:
        script: it is running.
        log: this file holds a match of ``text``.
        number: the signal.
        everyone: whether the jobs get it too, as from a terminal.
    """

    script: str
    log: str
    text: str
    number: signal.Signals
    everyone: bool = False


PREFERENCE = "train_movie_preference"
PREFERENCE_LOG = f"logs/torn/{PREFERENCE}/tuned/training.log"
MOMENTS = [
    Moment("make_preference_pairs", "logs/torn/make_preference_pairs/movie_preference/tuned.log", "", signal.SIGTERM),
    # From the third step on there is a checkpoint, however long a step takes.
    Moment(PREFERENCE, PREFERENCE_LOG, ": step [3-8]/", signal.SIGTERM),
    Moment(PREFERENCE, PREFERENCE_LOG, ": training continues at step", signal.SIGINT, True),
    Moment("train_ssept", "logs/torn/train_ssept/ssept/1.log", ": step ", signal.SIGINT),
    Moment("measure_efficiency", "logs/torn/measure_bert4rec_efficiency.log", "tiny float32: ", signal.SIGINT, True),
    Moment("measure_memory", "logs/torn/climb_memory_ladder/climate.log", "", signal.SIGTERM),
    Moment("evaluate_preference", "logs/torn/evaluate_movie_preference/tuned.log", "", signal.SIGTERM, True),
]
#: What is compared with an undisturbed study.
RESULTS = [
    "movie_preference/tuned/metrics.json",
    "bert4rec/efficiency/measurements.json",
    "climate/ladder/measurements.json",
]


def longer(experiments):
    """One training of a recommender that is long enough to be interrupted."""
    experiments["ssept"]["variants"] = {"ssept": {"training": {"num_train_epochs": 20, "early_stopping_patience": 20}}}


@dataclass
class Interruption:
    """What one interruption came to: the moment, the seconds that it took, and what was printed until the end."""

    moment: Moment
    seconds: float
    code: int
    printed: str


@dataclass
class Torn:
    """The smoke study, interrupted at every moment."""

    checkout: Any
    command: list[str]
    ended: list[Interruption] = field(default_factory=list)
    last: subprocess.CompletedProcess | None = None

    def interrupt(self, moments: list[Moment]) -> Moment:
        """Run until one of the moments comes, and interrupt the study then."""
        text = self.checkout.folder / f"torn-{len(self.ended)}.txt"
        with text.open("wb") as stream:
            snakemake = subprocess.Popen(
                self.command,
                cwd=self.checkout.folder,
                env={**self.checkout.environment(), MARK: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            begun = time.monotonic()
            while (moment := self.reached(moments)) is None:
                assert snakemake.poll() is None, f"the study ended before it was interrupted; see {text}"
                assert time.monotonic() - begun < PATIENCE, f"nothing happened; see {text}"
                time.sleep(0.02)
            begun = time.monotonic()
            (os.killpg if moment.everyone else os.kill)(snakemake.pid, moment.number)
            while snakemake.poll() is None or processes():
                assert time.monotonic() - begun < PATIENCE, [process.cmdline() for process in processes()]
                time.sleep(0.02)
            seconds = time.monotonic() - begun
        finally:
            for process in processes():
                process.kill()
            snakemake.wait()
        self.ended.append(Interruption(moment, seconds, snakemake.returncode, text.read_text(errors="replace")))
        return moment

    def reached(self, moments: list[Moment]) -> Moment | None:
        running = " ".join(word for process in processes() for word in process.info["cmdline"] or [])
        for moment in moments:
            log = self.checkout.folder / moment.log
            text = log.read_text(errors="replace") if log.exists() else None
            if f"/{moment.script}.py" in running and text is not None and re.search(moment.text, text):
                return moment
        return None


def processes() -> list[psutil.Process]:
    """Every living process of the study."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        if (process.info["environ"] or {}).get(MARK) == str(os.getpid()) and process.info["status"] != "zombie":
            found.append(process)
    return found


@pytest.fixture(scope="module")
def torn(checkout):
    undisturbed = [f"results/smoke/{file}" for file in RESULTS]
    checkout.snakemake("--configfile", "config/smoke.yaml", "--", *undisturbed, timeout=PATIENCE)
    command = ["snakemake", "--cores", "2", "--configfile", checkout.study("torn", longer), "--"]
    command += [f"results/torn/{file}" for file in (*RESULTS, "ssept/ssept/metrics.json")]
    study, missing = Torn(checkout, command), list(MOMENTS)
    while missing:
        missing.remove(study.interrupt(missing))
    study.last = checkout.run(*command, timeout=PATIENCE)
    return study


def test_every_process_ends_within_ten_seconds(torn):
    assert {end.moment: end.seconds for end in torn.ended if end.seconds > LIMIT} == {}


def test_the_user_sees_a_sentence_and_no_traceback(torn):
    for end in torn.ended:
        assert end.code != 0, end.moment
        assert f"{end.moment.number.name}: the jobs save and end; the same command continues." in end.printed
        assert "Traceback" not in end.printed, end.moment


def test_trainings_save_and_continue(torn):
    printed = "".join(end.printed for end in torn.ended) + torn.last.stdout + torn.last.stderr
    assert "stopped by SIGTERM: saved at step" in printed
    for training in ("movie_preference/tuned", "ssept/ssept seed 1"):
        assert f"{training}: training continues at step" in printed


def test_nothing_half_written_stays(checkout, torn):
    assert [
        path for folder in ("results", "checkpoints", "data") for path in unfinished(checkout.folder / folder)
    ] == []
    assert not (checkout.folder / "checkpoints/torn/movie_preference/tuned").exists()
    assert list((checkout.folder / ".snakemake/locks").glob("*")) == []


def unfinished(folder):
    return [str(path) for name in ("*.unfinished", "broken-*") for path in folder.rglob(name)]


def test_the_results_are_those_of_an_undisturbed_study(checkout, torn):
    adapter = "movie_preference/tuned/adapter/adapter_model.safetensors"
    assert checkout.same_weights(f"results/smoke/{adapter}", f"results/torn/{adapter}")
    metrics = [measured(checkout, name, "movie_preference/tuned/metrics.json")["metrics"] for name in ("smoke", "torn")]
    assert metrics[0]["accuracy"] == metrics[1]["accuracy"]
    for file, rows, key in (
        ("climate/ladder/measurements.json", "rungs", "rung"),
        ("bert4rec/efficiency/measurements.json", "rows", "mode"),
    ):
        whole, pieces = (measured(checkout, name, file)[rows] for name in ("smoke", "torn"))
        assert [row[key] for row in whole] == [row[key] for row in pieces]
        assert [row["error"] for row in pieces] == [None] * len(pieces)


def measured(checkout, study, file):
    return json.loads((checkout.folder / "results" / study / file).read_text())

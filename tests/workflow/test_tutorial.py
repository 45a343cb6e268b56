"""The tutorial's commands, one after the other as they stand, in a copy of the repository."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow
PAGE = "docs/tutorial.md"
RESULTS = "results/readers/recommender"


@pytest.fixture(scope="module")
def steps(checkout) -> dict[str, subprocess.CompletedProcess]:
    """The commands of each chapter, once they have run; before those of the sixth the study is changed as it says."""
    environment = checkout.folder / ".venv"
    if not environment.exists():  # what `make` would install
        environment.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (environment / name).symlink_to(Path(sys.prefix, name))
        (environment / "ready").touch()
    finished = {}
    for chapter in (checkout.folder / PAGE).read_text(encoding="utf-8").split("\n## ")[1:]:
        if chapter.startswith("6. "):
            uncomment(checkout.folder / "config/readers.yaml", *code(chapter, "yaml"))
        if blocks := code(chapter, ""):
            finished[chapter[0]] = checkout.run("bash", "-euo", "pipefail", "-c", "\n".join(blocks))
    return finished


def code(text: str, language: str) -> list[str]:
    """The blocks of code in a language; commands have none."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in blocks if name == language]


def uncomment(study: Path, wanted: str) -> None:
    """Remove the `# ` of the study's last lines, as the page asks for, and see that they are then what it shows."""
    text = study.read_text(encoding="utf-8")
    head, _, tail = text.partition("    variants:")
    changed = "    variants:" + re.sub(r"^      # ", "      ", tail, flags=re.MULTILINE)
    assert changed == wanted
    study.write_text(head + changed, encoding="utf-8")


def chapter(checkout, number: int) -> str:
    page = (checkout.folder / PAGE).read_text(encoding="utf-8")
    return page.split(f"\n## {number}. ")[1].split("\n## ")[0]


def test_commands_print_what_the_page_shows(steps, checkout):
    for number in (1, 2):
        assert [steps[str(number)].stdout] == code(chapter(checkout, number), "text")


def test_the_study_has_the_entry_that_the_page_shows(steps, checkout):
    (entry,) = code(chapter(checkout, 2), "yaml")
    assert entry in (checkout.folder / "config/readers.yaml").read_text(encoding="utf-8")


def test_the_plan_has_the_jobs_that_the_page_names(steps, checkout):
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", chapter(checkout, 3)))
    assert "train_recommender" in named
    assert named <= checkout.jobs(steps["3"].stdout + steps["3"].stderr).keys()


def test_the_report_is_there(steps, checkout):
    assert steps["4"].stdout.splitlines()[-1] == "results/readers/report/report.html"
    report = (checkout.folder / "results/readers/report/report.md").read_text(encoding="utf-8")
    assert "Recommender" in report
    assert "readers" in report


def test_the_figures_are_those_of_the_page(steps, checkout):
    """Another processor changes the last digits."""
    (text,) = code(chapter(checkout, 5), "text")
    shown, printed = ([line.split() for line in lines.splitlines()] for lines in (text, steps["5"].stdout))
    assert [line[0] for line in printed] == [line[0] for line in shown]
    for (_, value, *_), (_, wanted, *_) in zip(printed, shown, strict=True):
        assert float(value) == pytest.approx(float(wanted), abs=0.03)


def test_the_model_recommends(steps, checkout):
    """Other processors may give other books."""
    (text,) = code(chapter(checkout, 7), "text")
    shown, printed = json.loads(text), json.loads(steps["7"].stdout)
    assert printed.keys() == shown.keys()
    assert printed["left_out"] == shown["left_out"]
    assert len(printed["items"]) == 3
    readers = (checkout.folder / "my-ratings.csv").read_text(encoding="utf-8").splitlines()[1:]
    readers = {line.split(",")[0] for line in readers}
    rows = (checkout.folder / "top.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 10 * len(readers)


def test_a_further_variant_trains_that_variant_alone(steps, checkout):
    assert (checkout.folder / RESULTS / "bert4rec/metrics.json").exists()
    jobs = checkout.jobs(steps["6"].stdout + steps["6"].stderr)
    assert jobs["train_recommender"] == jobs["evaluate_recommender"] == 1
    assert "fetch" not in jobs
    assert "partition_interactions" not in jobs
    assert checkout.plan("config/readers.yaml") == {}

"""How the fault campaign judges a study that was hurt many times: a difference is one finding, and names its jobs."""

import shutil
import sys
from types import SimpleNamespace

import pytest

from frugal.files import write_text

EVALUATED = "results/chaos/movie_preference/always_a/predictions.parquet"
TRAINED = "results/chaos/movie_preference/always_a/adapter/adapter_model.safetensors"
#: Output -> the job that writes it.
JOBS = {
    EVALUATED: "evaluate_movie_preference/always_a",
    "results/chaos/movie_preference/always_a/adapter": "train_movie_preference/always_a",
}


@pytest.fixture
def chaos(monkeypatch):
    """The modules of tests/chaos, which is a program and no package."""
    monkeypatch.syspath_prepend("tests/chaos")
    import campaign
    import findings
    import kills

    yield SimpleNamespace(campaign=campaign, findings=findings, kills=kills)
    for name in ("campaign", "checkout", "findings", "kills", "server"):
        sys.modules.pop(name, None)


def test_files_belong_to_the_job_that_writes_them_or_their_folder(chaos):
    lines = [
        f"{TRAINED}: differs in a",
        f"{EVALUATED}: differs",
        "data/pairs/x.csv: is missing",
        "exit code 1: error: x",
    ]
    assert chaos.findings.by_job(lines, JOBS) == {
        "evaluate_movie_preference/always_a": [EVALUATED],
        "no job": ["data/pairs/x.csv"],
        "train_movie_preference/always_a": [TRAINED],
    }


@pytest.fixture
def hurt(chaos, tmp_path, monkeypatch):
    """A campaign with twenty kills of one study, which has ended: (campaign, checkout, what ends the study)."""
    campaign = object.__new__(chaos.campaign.Campaign)
    campaign.faults, campaign.findings, campaign.keep = [], [], False
    campaign.outputs = JOBS
    for name in (EVALUATED, TRAINED):
        write_text(tmp_path / "undisturbed" / name, "the same")
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "kills")
    campaign.reference = SimpleNamespace(folder=tmp_path / "undisturbed")
    checkout = SimpleNamespace(folder=tmp_path / "kills")
    monkeypatch.setattr(campaign, "problems_of_report", lambda checkout: [])
    faults = [campaign.fault("SIGKILL to job", f"job {number}") for number in range(20)]

    def finish(code=0, text=""):
        run = SimpleNamespace(wait=lambda: code, text=text, process=SimpleNamespace(returncode=code))
        chaos.kills.finish(campaign, checkout, run, faults)
        return [fault.outcome for fault in faults]

    return campaign, checkout, finish


def test_a_study_that_ends_as_the_undisturbed_one_has_recovered(hurt):
    campaign, _, finish = hurt
    assert finish() == ["recovered"] * 20
    assert campaign.findings == []


def test_one_difference_is_one_finding_that_names_its_job(hurt, capsys):
    campaign, checkout, finish = hurt
    write_text(checkout.folder / EVALUATED, "other")
    campaign.faults[4].problems.append("a job lives on without its Snakemake")
    assert finish() == [*["undecided"] * 4, "lost", *["undecided"] * 15]
    (finding,) = campaign.findings
    assert finding.problems == [f"{EVALUATED}: differs"]
    assert finding.jobs == {"evaluate_movie_preference/always_a": [EVALUATED]}
    assert finding.faults == list(range(1, 21))
    assert all(EVALUATED not in problem for fault in campaign.faults for problem in fault.problems)
    said = capsys.readouterr().err
    assert said.count(f"{EVALUATED}: differs") == 1
    assert (
        f"kills, after 20 faults, is not the undisturbed study\n  evaluate_movie_preference/always_a: {EVALUATED}"
        in said
    )


def test_a_study_that_fails_is_one_finding(hurt):
    campaign, _, finish = hurt
    assert finish(1, "error: no room") == ["undecided"] * 20
    assert [finding.problems for finding in campaign.findings] == [["exit code 1: error: no room"]]
    assert campaign.findings[0].jobs == {}

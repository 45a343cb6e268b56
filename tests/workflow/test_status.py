"""`make status`, while Snakemake trains, after it was killed, and when all is done."""

import json
import os
import signal
import subprocess

import pytest

pytestmark = pytest.mark.workflow


def statuses(checkout, study):
    """Name of each run to what the script says of it."""
    result = checkout.run("python", "workflow/scripts/show_status.py", "--configfile", study, "--json")
    return {status["name"]: status for status in map(json.loads, result.stdout.splitlines())}


def test_every_run_of_a_finished_study_is_finished(smoke):
    found = statuses(smoke, "config/smoke.yaml")
    assert {status["state"] for status in found.values()} == {"finished"}
    for name, status in found.items():
        if not name.endswith("/base"):
            assert (smoke.folder / status["log"]).is_file(), name
            assert status["step"] == status["steps"] > 0
            assert status["loss"] > 0
    text = smoke.run("python", "workflow/scripts/show_status.py", "--configfile", "config/smoke.yaml").stdout
    assert "14 of 14 baselines scored; report: results/smoke/report/report.html" in text


def test_a_training_is_seen_to_run_and_to_be_interrupted(smoke):
    def longer(experiments):
        experiments["ssept"]["variants"] = {
            "ssept": {"training": {"num_train_epochs": 200, "early_stopping_patience": 200}}
        }

    study, run = smoke.study("watched", longer), "ssept/ssept seed 1"
    assert statuses(smoke, study)[run]["state"] == "waiting"
    process = subprocess.Popen(
        ["snakemake", "--cores", "2", "--configfile", study, "--", "results/watched/ssept/ssept/seeds/1/model"],
        cwd=smoke.folder,
        env=smoke.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        states = []
        while (status := statuses(smoke, study)[run])["state"] != "running" or not status["step"]:
            states.append(status["state"])
            assert process.poll() is None, "the run ended before it was seen"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert set(states) <= {"waiting", "starting", "running"}
    assert status["step"] < status["steps"]
    assert status["seconds"] > 0
    assert status["memory_mb"] > 100
    while (status := statuses(smoke, study)[run])["state"] == "running":
        pass  # until the training has ended, with its Snakemake
    assert status["state"] == "interrupted"

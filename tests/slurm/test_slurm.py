"""The workflow on a private cluster: the page on SLURM word by word, short walltimes, two machines, a dead node."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.workflow
#: The jobs that pretend to need the GPU.
ON_GPU = {"train_language_model": 3, "train_preference": 3}
#: How the jobs of these tests are handed out: SLURM is asked as often as only a private one may be.
SNAKEMAKE = (
    "snakemake --workflow-profile profiles/slurm --configfile config/faults.yaml --jobs 8 --max-threads 2"
    " --slurm-init-seconds-before-status-checks 1"
)


# The smoke study, by the commands of docs/how-to/slurm.md.


def commands_of_the_page(folder: Path) -> str:
    """The lines that try the profile on one machine, from the page on SLURM."""
    page = (folder / "docs/how-to/slurm.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (lines,) = (block for block in blocks if "tests/slurm/cluster.sh up" in block)
    return lines


@pytest.fixture(scope="session")
def jobs(shell, checkout) -> list[dict]:
    """Every job that SLURM had, once the page's commands have been run."""
    output = shell(commands_of_the_page(checkout.folder))
    rows = [line.split() for line in output.splitlines() if re.match(r"(cpu|gpu) [A-Z]+ \d", line)]
    names = ("partition", "state", "start", "end", "node", "comment")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for job in found:
        job["rule"] = job["comment"].removeprefix("rule_").partition("_wildcards")[0]
        job["start"], job["end"] = datetime.fromisoformat(job["start"]), datetime.fromisoformat(job["end"])
    return found


def test_the_study_is_finished(jobs, checkout):
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert (checkout.folder / "results/smoke/report/report.html").exists()
    assert checkout.plan("config/smoke.yaml") == {}


def test_downloads_settings_and_model_cards_are_no_jobs_of_slurm(jobs):
    assert not {"fetch", "write_run_config", "describe_adapter"} & {job["rule"] for job in jobs}


def test_trainings_take_turns_on_the_gpu(jobs):
    on_gpu = sorted((job for job in jobs if job["partition"] == "gpu"), key=lambda job: job["start"])
    rules = [job["rule"] for job in on_gpu]
    assert {rule: rules.count(rule) for rule in set(rules)} == ON_GPU
    for job, following in pairwise(on_gpu):
        assert job["end"] <= following["start"], f"{job} and {following} had the only GPU at the same time"


def test_other_jobs_run_beside_them(jobs):
    on_gpu = [job for job in jobs if job["partition"] == "gpu"]
    beside = [
        job["rule"]
        for job in jobs
        if job["partition"] == "cpu" and any(job["start"] < gpu["end"] and gpu["start"] < job["end"] for gpu in on_gpu)
    ]
    assert beside
    assert {job["node"] for job in on_gpu} == {"n1"}
    assert {job["node"] for job in jobs} == {"n1", "n2"}


def test_logs_are_where_the_readme_says(jobs, checkout):
    for run in ("climate/tuned/training", "ssept/ssept/1", "movie_preference/tuned/training"):
        assert "loss" in (checkout.folder / f"logs/smoke/train_{run}.log").read_text()
    assert not list((checkout.folder / "logs/slurm").rglob("*.log")), "a job that ended well left a log of SLURM's"


def test_nothing_is_left_running(jobs, cluster_home):
    left = [line for line in processes_of(cluster_home) if re.search("slurm|munge|snakemake|workflow/scripts", line)]
    assert not left
    assert not list(cluster_home.glob("frugal-slurm-*"))


def processes_of(home: Path) -> list[str]:
    """Command lines of the processes in whose environment the cluster's folder stands."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(home) in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is another user's
            continue
    return found


# Trainings that are interrupted, and one on two machines.


@pytest.fixture(scope="session")
def cluster(jobs, shell) -> str:
    """Lines that let a shell find a running cluster; after those of the page, whose data is used again."""
    return shell("tests/slurm/cluster.sh up")


@pytest.fixture(scope="session")
def faults(checkout, cluster):
    """A study of trainings that are alike, but for what happens to them."""

    def change(experiments):
        # Two machines draw other random numbers than one: here there are none to draw.
        three_steps = {"num_train_epochs": 1, "per_device_train_batch_size": 256}
        exact = {
            "model": {"hidden_dropout_prob": 0, "sse_user_probability": 0, "sse_item_probability": 0},
            "loss": {"precision": "float32"},
        }
        long = {"num_train_epochs": 120, "early_stopping_patience": 120}
        experiments["ssept"]["variants"] = {
            "long": {**exact, "training": three_steps},
            "short": {**exact, "training": three_steps},
            "machines": {**exact, "training": {**three_steps, "per_device_train_batch_size": 128, "nodes": 2}},
            "undisturbed": {"training": long},
            "terminated": {"training": long},
            "accounted": {**exact, "training": three_steps},
            "doomed": {"training": long},
        }

    return checkout.study("faults", change)


def model(variant: str) -> str:
    return f"results/faults/ssept/{variant}/seeds/1/model"


def log(variant: str) -> str:
    return f"logs/faults/train_ssept/{variant}/1.log"


def slurm_logs(checkout, variant: str) -> list[str]:
    """What SLURM recorded of a variant's failed jobs."""
    folder = checkout.folder / f"logs/slurm/rule_train_recommender/ssept_{variant}_1"
    return [path.read_text() for path in sorted(folder.glob("*.log"))]


@pytest.fixture(scope="session")
def three_minutes(faults, cluster, shell):
    """Three steps in one job, in jobs of a minute each, and on two machines."""
    limits = "train_recommender:runtime=\"1 if wildcards.variant == 'short' else 30\""
    shell(f"{cluster}\n{SNAKEMAKE} --set-resources {limits} -- {model('long')} {model('short')} {model('machines')}")


def test_three_short_walltimes_equal_one_long_one(three_minutes, checkout):
    assert checkout.same_weights(f"{model('long')}/model.safetensors", f"{model('short')}/model.safetensors")
    ended = slurm_logs(checkout, "short")
    assert len(ended) == 2
    for step, text in enumerate(ended, 1):
        assert f"stopped by the job's time limit: saved at step {step} of 3; run again to continue" in text
    assert "training continues at step 2" in (checkout.folder / log("short")).read_text()
    assert not slurm_logs(checkout, "long")


def test_two_machines_equal_one(three_minutes, checkout):
    """Two processes, each started by SLURM on a machine of its own, see half of every batch."""
    one, two = (load_file(checkout.folder / model(name) / "model.safetensors") for name in ("long", "machines"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-2, atol=1e-3, msg=name)


class Running:
    """A Snakemake at work, and what SLURM says meanwhile."""

    def __init__(self, process: subprocess.Popen, folder: Path, cluster: str):
        self.process, self.folder = process, folder
        self.environment = {**os.environ, **dict(re.findall(r"(SLURM_CONF)=(\S+)", cluster))}

    def slurm(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def wait_for(self, condition, what: str):
        while not (found := condition()):
            assert self.process.poll() is None, f"Snakemake ended before {what}:\n{self.said()}"
            time.sleep(0.02)
        return found

    def wait_for_log(self, variant: str, text: str):
        path = self.folder / log(variant)
        self.wait_for(lambda: path.exists() and text in path.read_text(), f"'{text}' in {path}")

    def jobs(self) -> list[str]:
        """Ids of the jobs that run."""
        return self.slurm("squeue", "--noheader", "--states=running,completing", "--format=%i").split()

    def job_of(self, variant: str) -> tuple[str, str]:
        """(id, node) of the job that trains a variant."""
        rows = self.slurm("squeue", "--noheader", "--states=running", "--format=%i %N %k").splitlines()
        (row,) = (row for row in rows if row.endswith(f"_ssept_{variant}_1"))
        return tuple(row.split()[:2])

    def said(self) -> str:
        return (self.folder / "snakemake.log").read_text()[-10000:]


def kill_node(node: str, running: Running) -> None:
    """SIGKILL to everything that a machine runs, as when its power fails: the daemon, and all of its jobs."""
    jobs = running.slurm("squeue", "--noheader", "--states=running", f"--nodelist={node}", "--format=%i").split()
    parents, doomed = {}, set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        daemon = f"slurmd -N {node}" in line
        if daemon or any(f"slurmstepd: [{job}." in line for job in jobs):
            doomed.add(int(process.name))
    assert len(doomed) >= 2, "a daemon and a step at least"
    while grown := {pid for pid, parent in parents.items() if parent in doomed} - doomed:
        doomed |= grown
    for pid in doomed:
        with suppress(ProcessLookupError):  # it has ended since
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def disturbed(three_minutes, faults, cluster, checkout, shell, background) -> dict[str, str]:
    """SIGTERM to one training, and the end of the node that another one runs on; SLURM's records of their jobs."""
    targets = " ".join(map(model, ("undisturbed", "terminated", "doomed")))
    records = {}
    with background(f"{cluster}\nexec {SNAKEMAKE} -- {targets}", checkout.folder / "snakemake.log") as process:
        running = Running(process, checkout.folder, cluster)
        running.wait_for_log("terminated", ": step 45/")
        job, _ = running.job_of("terminated")
        running.slurm("scancel", "--signal=TERM", job)
        # Both may be on the node that dies next: SLURM would start this job again, and no attempt of it have failed.
        running.wait_for(lambda: job not in running.jobs(), "the job that got SIGTERM ends")
        running.wait_for_log("doomed", ": step 45/")
        job, node = running.job_of("doomed")
        kill_node(node, running)
        running.wait_for(lambda: "Restarts=1" in running.slurm("scontrol", "show", "job", job), "SLURM starts it again")
        assert process.wait() == 0, running.said()
        records["doomed"] = running.slurm("scontrol", "show", "job", "--oneliner", job)
    shell(f"{cluster}\ntests/slurm/cluster.sh start-node {node}")
    return records


@pytest.mark.parametrize("variant", ["terminated", "doomed"])
def test_the_weights_are_those_of_an_undisturbed_run(disturbed, checkout, variant):
    one, other = (f"{model(name)}/model.safetensors" for name in ("undisturbed", variant))
    assert checkout.same_weights(one, other)
    assert "training continues at step" in (checkout.folder / log(variant)).read_text()


def test_a_node_that_dies_gives_its_job_to_another_one(disturbed):
    assert "Restarts=1" in disturbed["doomed"]
    assert "JobState=COMPLETED" in disturbed["doomed"]


def test_memory_is_the_estimate_and_walltime_that_of_the_profile(disturbed, checkout):
    needs = checkout.declared_memory("config/faults.yaml")
    need = needs["train_recommender", "experiment=ssept, variant=doomed, seed=1"]
    assert f"MinMemoryNode={need}M" in disturbed["doomed"]
    assert "TimeLimit=12:00:00" in disturbed["doomed"]


def test_sigterm_saves_and_the_next_attempt_continues(disturbed, checkout):
    (text,) = slurm_logs(checkout, "terminated")
    (step,) = re.findall(r"stopped by SIGTERM: saved at step (\d+) of \d+; run again to continue", text)
    assert f"training continues at step {step}" in (checkout.folder / log("terminated")).read_text()


def test_a_failing_command_leaves_no_cluster(shell, cluster_home, disturbed):
    shell("tests/slurm/cluster.sh down")
    assert not [line for line in processes_of(cluster_home) if re.search("slurm|munge", line)]


# With accounting.


@pytest.fixture(scope="session")
def accounts(disturbed, shell, skip_without) -> str:
    """Lines that let a shell find a cluster with accounts; it takes the place of the one without."""
    skip_without("slurmdbd", "mariadbd")
    return shell("tests/slurm/cluster.sh down; ACCOUNTING=yes tests/slurm/cluster.sh up")


def charged_to(account: str) -> str:
    resources = f"mem_mb=8000 runtime=60 slurm_account={account}"
    return f"{SNAKEMAKE} --slurm-status-command sacct --default-resources {resources} -- {model('accounted')}"


def test_an_account_that_does_not_exist_is_refused_by_name(accounts, shell):
    said = shell(f"{accounts}\n! {charged_to('no_project')} 2>&1")
    assert "The given account no_project appears to be invalid" in said
    assert shell(f"{accounts}\nsacct --allusers --noheader") == "", "a job was handed in"


def test_jobs_are_charged_to_the_account_and_sacct_says_when_they_end(accounts, shell, checkout):
    shell(f"{accounts}\n{charged_to('my_project')}")
    assert checkout.same_weights(f"{model('long')}/model.safetensors", f"{model('accounted')}/model.safetensors")
    rows = shell(f"{accounts}\nsacct --allocations --noheader --parsable2 --format=account,state").splitlines()
    assert set(rows) == {"my_project|COMPLETED"}


def test_nothing_of_the_accounting_is_left(accounts, shell, cluster_home):
    shell("tests/slurm/cluster.sh down")
    assert not [line for line in processes_of(cluster_home) if re.search("slurm|munge|mariadb", line)]

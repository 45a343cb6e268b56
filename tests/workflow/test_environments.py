"""Snakemake with conda environments, whose packages a stand-in for conda takes from this Python; and the container."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.workflow


RUNS = ["climate/tuned/README.md", "ssept/ssept/metrics.json"]


@pytest.fixture(scope="module")
def deployed(checkout, tmp_path_factory):
    """A checkout with two runs that were made with ``--sdm conda``, conda's prefix, and what Snakemake printed."""
    conda, folder = tmp_path_factory.mktemp("conda"), tmp_path_factory.mktemp("deployed") / "checkout"
    made = {"data", "results", "logs", "checkpoints", ".snakemake"}
    top = str(checkout.folder)
    shutil.copytree(top, folder, ignore=lambda path, names: made & set(names) if path == top else ())
    subprocess.run(
        [sys.executable, "-c", f"import stand_in_conda, pathlib; stand_in_conda.install(pathlib.Path({str(conda)!r}))"],
        cwd=Path(__file__).parent,
        check=True,
    )
    own = type(checkout)(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{conda / 'bin'}:{os.environ['PATH']}")
        targets = [f"results/smoke/{run}" for run in RUNS]
        result = own.snakemake("--sdm", "conda", "--configfile", "config/smoke.yaml", "--", *targets)
    return own, conda, result.stdout + result.stderr


def test_each_job_ran_in_the_environment_that_its_rule_names(deployed):
    folder = deployed[0].folder
    contents = {path.read_bytes(): path.stem for path in (folder / "envs").glob("*.yaml")}
    used = defaultdict(set)
    for path in (folder / ".snakemake/metadata").rglob("*"):
        record = json.loads(path.read_text()) if path.is_file() else {}
        if record.get("conda_env"):
            used[record["rule"]].add(contents[base64.b64decode(record["conda_env"])])
    rules = "\n".join(path.read_text() for path in (folder / "rules").glob("*.smk"))
    for rule, environments in used.items():
        text = re.search(rf"^rule {rule}:\n(.*?)^    shell:", rules, re.MULTILINE | re.DOTALL).group(1)
        named = re.search(r'conda:\s+"\.\./envs/(\w+)\.yaml"', text)
        assert environments == {named.group(1) if named else "llm"}, rule  # the language models' training chooses
    assert set().union(*used.values()) == {"base", "documents", "llm", "recsys", "report"}
    assert {"train_language_model", "train_recommender", "describe_adapter"} <= set(used)


def test_each_environment_is_made_once(deployed):
    calls = (deployed[1] / "calls.txt").read_text().splitlines()
    assert sum(call.startswith("conda env create") for call in calls) == 5
    assert sum(call.startswith("activate") for call in calls) > 12  # each job, and what follows the making of two


def test_jobs_see_their_environment_alone(deployed):
    def versions(run):
        metrics = json.loads((deployed[0].folder / "results/smoke" / run / "metrics.json").read_text())
        return metrics["provenance"]["versions"]

    assert versions("climate/tuned")["trl"] != "not installed"
    assert versions("ssept/ssept")["trl"] == "not installed"


def test_what_follows_the_making_of_an_environment_ran(deployed):
    checkout, _, output = deployed
    scripts = [checkout.folder / found for found in re.findall(r"Running post-deploy script (\S+?)\.\.\.", output)]
    of_envs = [(checkout.folder / f"envs/{name}.post-deploy.sh").read_text() for name in ("llm", "recsys")]
    assert sorted(script.read_text() for script in scripts) == sorted(of_envs)


def test_the_container_recipe_is_that_of_the_environments(checkout):
    checkout.run("python", "workflow/scripts/write_dockerfile.py", "--output", "made/Dockerfile")
    made = (checkout.folder / "made/Dockerfile").read_text(encoding="utf-8")
    assert made == (checkout.folder / "Dockerfile").read_text(encoding="utf-8"), "run `make container`"
    copied = re.findall(r"^COPY (\S+) ", made, re.MULTILINE)
    assert copied == sorted(f"envs/{path.name}" for path in (checkout.folder / "envs").glob("*.yaml"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_study_on_gpus_stops_before_it_begins_where_there_is_none(checkout):
    study = checkout.study("on-gpus", lambda experiments: experiments["ssept"]["training"].update(gpus=1))
    result = checkout.snakemake("--configfile", study, "--resources", "gpu=1", "--", "ssept", check=False)
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert re.search(r"^disk space +about .* GB +ok$", text, re.MULTILINE)
    assert "error: training.gpus is up to 1 for ssept/retrain, ssept/ssept, but " in text
    assert "set training.gpus to 0 to train on the CPU" in text
    assert "Traceback" not in text
    assert not list((checkout.folder / "logs/on-gpus").glob("train_*"))

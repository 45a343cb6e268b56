"""Memory and cores: what jobs declare beside what they took, and a machine that is smaller than the study."""

import csv
import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow
#: What a job may declare above what it took: models of a few thousand weights leave little but the process itself.
SLACK_MB = 260
#: The same of pairs, which are estimated as long as max_length allows and are shorter.
PAIRS_SLACK_MB = 490


def test_every_job_declares_its_memory(checkout):
    plan = checkout.plan("config/smoke.yaml", "--forceall")
    rules = {rule for rule, _ in checkout.declared_memory("config/smoke.yaml")}
    assert rules == plan.keys() - {"tables", "figures", "report", "data", "models", *targets(checkout)}


def targets(checkout) -> set[str]:
    """Rules that only name files, and run nothing."""
    text = "".join(path.read_text() for path in (checkout.folder / "rules").glob("*.smk"))
    return {rule for rule, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)*)", text, re.M) if "output:" not in body}


def test_jobs_take_less_than_they_declare_and_not_much_less(smoke):
    needs = smoke.declared_memory("config/smoke.yaml")
    logs, results = smoke.folder / "logs/smoke", smoke.folder / "results/smoke"
    taken = {}
    for experiment in ("movie_preference", "wikitext", "climate"):
        for run in ("base", "tuned"):
            metrics = json.loads((results / experiment / run / "metrics.json").read_text())
            kind = "preference" if experiment == "movie_preference" else "language_model"
            wildcards = f"experiment={experiment}, variant={run}"
            taken[f"evaluate_{kind}", wildcards] = metrics["metrics"]["peak_rss_mb"]
            if run == "tuned":
                taken[f"train_{kind}", wildcards] = metrics["training"]["peak_rss_mb"]
    for path in results.glob("*/*/seeds/*/training.json"):
        experiment, variant, _, seed = path.parts[-5:-1]
        wildcards = f"experiment={experiment}, variant={variant}, seed={seed}"
        taken["train_recommender", wildcards] = json.loads(path.read_text())["peak_rss_mb"]
    assert len(taken) >= 15
    for job, mb in taken.items():
        slack = PAIRS_SLACK_MB if job[0] == "evaluate_preference" else SLACK_MB
        assert mb <= needs[job] <= mb + slack, job
    # Snakemake looks at short jobs once or twice and misses their peak: what it saw is only a lower bound.
    for rule in ("make_tables", "plot_figures", "write_report"):
        assert benchmarked(logs / f"{rule}.benchmark.tsv") <= needs[rule, ""]


def benchmarked(path: Path) -> float:
    """The highest resident memory, MB, that Snakemake saw."""
    with open(path, newline="") as stream:
        return max(float(row["max_rss"]) for row in csv.DictReader(stream, delimiter="\t"))


def running_together(log: str) -> tuple[int, int]:
    """The largest sum of mem_mb of jobs that ran at the same time, and the largest number of these jobs."""
    running, sums, counts = {}, [0], [0]
    event = re.compile(r"^    jobid: (\d+)$|^    resources: .*?mem_mb=(\d+)|^Finished jobid: (\d+)", re.MULTILINE)
    started = None
    for job, mb, finished in event.findall(log):
        if job:
            started = job
        elif mb:
            running[started] = int(mb)
        else:
            running.pop(finished, None)
        sums.append(sum(running.values()))
        counts.append(len(running))
    return max(sums), max(counts)


def test_many_cores_and_little_memory(smoke):
    """Sixteen cores would take all trainings at once; the limit has room for two of them."""
    study, limit = smoke.study("crowded"), 1300
    models = [
        "bert4rec/bert4rec/seeds/1",
        "bert4rec/bert4rec/seeds/2",
        "bert4rec/sasrec/seeds/1",
        "ssept/ssept/seeds/1",
    ]
    paths = [f"results/crowded/{model}/model" for model in models]
    options = ("--cores", "16", "--workflow-profile", "none", "--resources", f"mem_mb={limit}")
    before = set((smoke.folder / ".snakemake/log").iterdir())
    result = smoke.run("snakemake", *options, "--configfile", study, "--", *paths)
    assert all((smoke.folder / path).exists() for path in paths)
    (log,) = set((smoke.folder / ".snakemake/log").iterdir()) - before
    most, jobs = running_together(log.read_text())
    trainings = [mb for (rule, _), mb in smoke.declared_memory(study).items() if rule == "train_recommender"]
    assert sum(sorted(trainings)[:4]) > limit  # which all of them would have passed
    assert min(trainings) < most <= limit, result.stderr
    assert jobs >= 2


@pytest.mark.parametrize("limit", ["mem_mb=500", "mem=500MB"])
def test_a_limit_below_a_jobs_need_ends_before_anything_starts(checkout, limit):
    study = checkout.study("tight")
    target = "results/tight/bert4rec/sasrec/seeds/1/model"
    result = checkout.snakemake("--resources", limit, "--configfile", study, "--", target, check=False)
    output = re.sub(r"\s+", " ", result.stdout + result.stderr)
    assert result.returncode == 1
    found = re.search(r"error: train_recommender bert4rec/sasrec/1 needs about (\d+) MB of memory, but", output)
    assert found, output
    assert int(found[1]) > 500
    assert "--resources mem_mb=500 allows less: raise it, lower per_device_train_batch_size" in output
    assert not (checkout.folder / "results/tight").exists()


def test_a_limit_above_all_needs_is_no_hindrance(checkout):
    study = checkout.study("loose")
    target = "results/loose/bert4rec/sasrec/settings/training.yaml"
    checkout.snakemake("--resources", "mem_mb=500", "--configfile", study, "--", target)
    assert (checkout.folder / target).exists()


def test_a_cluster_gets_the_same_figures_and_no_limit(checkout):
    options = ("--workflow-profile", "none", "--executor", "slurm", "--jobs", "4", "--dry-run")
    target = "results/smoke/bert4rec/sasrec/seeds/1/model"
    result = checkout.run("snakemake", *options, "--forceall", "--configfile", "config/smoke.yaml", "--", target)
    needs = checkout.declared_memory("config/smoke.yaml")
    need = needs["train_recommender", "experiment=bert4rec, variant=sasrec, seed=1"]
    assert f"mem_mb={need}" in result.stdout + result.stderr

# Everything that the rules share: the checked study, paths, and what a rule depends on.

import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
ROOT = ROOT.parent if ROOT.name == "workflow" else ROOT
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from frugal.config.registry import kind_of, load_datasets, load_models, missing_token
from frugal.config.study import BASE, BASELINES, load_study, resolve
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.fingerprint import fingerprint

CONFIG_FILE = str(workflow.configfiles[-1]) if workflow.configfiles else "config/config.yaml"


def or_exit(function, *arguments):
    """What `function` returns; a user's mistake ends Snakemake with its message alone."""
    try:
        return function(*arguments)
    except FrugalError as error:
        sys.exit(f"error: {error}")


for file in workflow.configfiles:  # Snakemake has read them, and lets a key stand twice
    or_exit(read_yaml, file)
STUDY = or_exit(load_study, config, CONFIG_FILE)
DATASETS = or_exit(load_datasets, "config/datasets.yaml")
MODELS = or_exit(load_models, "config/models.yaml")
RESULTS = f"results/{STUDY.study}"
RUNS = {
    experiment: {
        variant: or_exit(resolve, config, experiment, variant, CONFIG_FILE)
        for variant in (BASE, *getattr(STUDY, experiment).variants)
    }
    for experiment in BASELINES
}
TRAINED = {experiment: [v for v in runs if v != BASE] for experiment, runs in RUNS.items()}


wildcard_constraints:
    variant="[a-z0-9][a-z0-9_-]*",
    name="[^/]+",


def run_of(wildcards, experiment):
    """The settings of the run that a job's wildcards name."""
    return RUNS[experiment][wildcards.variant]


def depends_on(script, experiment=None, sections=()):
    """A rule's `params` entry: rerun when the script's code or one of these sections of its run changes."""

    def of_job(wildcards):
        run = experiment and run_of(wildcards, experiment)
        return fingerprint(SCRIPTS / script, run and run.model_dump(mode="json", include=set(sections)))

    return of_job


def local_path(wildcards):
    """The option that hands a user's own copy to the fetch script."""
    path = STUDY.local_paths.get(wildcards.name)
    return f"--local-path '{path}'" if path else ""


def entry_of(wildcards):
    """What the table says of a data set or model, as text: fetched and prepared again when it changes."""
    return (DATASETS.get(wildcards.name) or MODELS[wildcards.name]).model_dump_json()


def is_random(name):
    """Whether a model is built here, with random weights, and so never fetched."""
    return "random" in map(kind_of, MODELS[name].sources)


def model_folder(experiment):
    return lambda wildcards: f"data/models/{run_of(wildcards, experiment).base_model}"


def dataset_file(experiment, file):
    return lambda wildcards: f"data/prepared/{run_of(wildcards, experiment).dataset}/{file}"


def gpus(experiment):
    return lambda wildcards: run_of(wildcards, experiment).training.gpus


def check_names():
    """Every data set and model that the study names is in its table."""
    for experiment, runs in RUNS.items():
        for variant, run in runs.items():
            for key, name, table in (
                ("dataset", run.dataset, DATASETS),
                ("base_model", run.base_model, MODELS),
            ):
                if name not in table:
                    where = experiment if variant == BASE else f"{experiment}.variants.{variant}"
                    known = ", ".join(sorted(table))
                    sys.exit(f"error: {CONFIG_FILE}: {where}.{key}: '{name}' is not known; known: {known}")
    for name in STUDY.local_paths:
        if name not in DATASETS and name not in MODELS:
            sys.exit(f"error: {CONFIG_FILE}: local_paths.{name}: no data set or model has this name")


def preflight():
    """What would fail hours later fails now: gated models without a token."""
    needed = {run.base_model for runs in RUNS.values() for run in runs.values()}
    for name in sorted(needed):
        if name in STUDY.local_paths or Path(f"data/models/{name}").exists():
            continue
        message = missing_token(MODELS[name])
        if message:
            sys.exit(f"error: config/models.yaml: {name}: {message}")


check_names()

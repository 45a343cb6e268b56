# Everything that the rules share: the checked study, paths, and what a rule depends on.

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

ROOT = Path(workflow.basedir)
ROOT = ROOT.parent if ROOT.name == "workflow" else ROOT
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from snakemake.settings.types import DeploymentMethod

from frugal.config.registry import kind_of, load_datasets, load_models, missing_token
from frugal.config.study import BASE, BASELINES, RECOMMENDERS, STAGES, load_study, plain, resolve
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.fingerprint import code_hash

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
        for variant in (*([] if experiment in RECOMMENDERS else [BASE]), *getattr(STUDY, experiment).variants)
    }
    for experiment in BASELINES
}
TRAINED = {experiment: [v for v in runs if v != BASE] for experiment, runs in RUNS.items()}
# What all runs of an experiment share: baselines are scored with these.
SHARED = {experiment: or_exit(resolve, config, experiment, BASE, CONFIG_FILE) for experiment in BASELINES}
BASE_MODELS = {run.base_model for name, runs in RUNS.items() if name not in RECOMMENDERS for run in runs.values()}


wildcard_constraints:
    variant="[a-z0-9][a-z0-9_-]*",
    seed="[0-9]+",
    name="[^/]+",


def run_of(wildcards, experiment):
    """The settings of the run that a job's wildcards name."""
    return SHARED[experiment] if wildcards.variant == BASE else RUNS[experiment][wildcards.variant]


def depends_on(script):
    """A rule's `params` entry: run again when the script's code, or what it imports of the library, changes."""
    return code_hash(SCRIPTS / script)


def settings_of(wildcards):
    """The settings of a run as JSON: all of them, or those that one stage reads."""
    run = run_of(wildcards, wildcards.experiment)
    stage = wildcards.file.removeprefix("settings/")
    return json.dumps(plain(run, None if stage == "config" else STAGES[wildcards.experiment][stage]))


def training_environment(wildcards, experiment):
    """The conda environment that a run trains in."""
    return "unsloth" if run_of(wildcards, experiment).backend == "unsloth" else "llm"


def local_path(wildcards):
    """The option that hands a user's own copy to the fetch script."""
    path = STUDY.local_paths.get(wildcards.name)
    return f"--local-path {quote(path)}" if path else ""


def entry_of(wildcards):
    """What the table says of a data set's or model's content: fetched and prepared again when it changes."""
    words = {"title", "homepage", "licence", "citation"}
    return (DATASETS.get(wildcards.name) or MODELS[wildcards.name]).model_dump_json(exclude=words)


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
            names = [("dataset", run.dataset, DATASETS)]
            if experiment not in RECOMMENDERS:
                names.append(("base_model", run.base_model, MODELS))
            for key, name, table in names:
                if name not in table:
                    where = experiment if variant == BASE else f"{experiment}.variants.{variant}"
                    known = ", ".join(sorted(table))
                    sys.exit(f"error: {CONFIG_FILE}: {where}.{key}: '{name}' is not known; known: {known}")
    for name in STUDY.local_paths:
        if name not in DATASETS and name not in MODELS:
            sys.exit(f"error: {CONFIG_FILE}: local_paths.{name}: no data set or model has this name")


def preflight():
    """What would fail hours later fails now: gated models without a token."""
    for name in sorted(BASE_MODELS):
        if name in STUDY.local_paths or Path(f"data/models/{name}").exists():
            continue
        message = missing_token(MODELS[name])
        if message:
            sys.exit(f"error: config/models.yaml: {name}: {message}")
    with_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    for experiment, runs in RUNS.items():
        for variant in TRAINED[experiment]:
            if getattr(runs[variant], "backend", None) == "unsloth" and not with_conda and find_spec("unsloth") is None:
                sys.exit(
                    f"error: {CONFIG_FILE}: {experiment}: {variant} trains with backend 'unsloth', which is not "
                    "installed here: run Snakemake with --sdm conda, or set backend to 'transformers'"
                )


check_names()

# Everything that the rules share: the checked study, paths, and what a rule depends on.

import json
import sys
from pathlib import Path
from shlex import quote

ROOT = Path(workflow.basedir)
ROOT = ROOT.parent if ROOT.name == "workflow" else ROOT
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from snakemake.settings.types import DeploymentMethod

from frugal.config.registry import DOCUMENT_FORMATS, kind_of, load_datasets, load_models
from frugal.config.study import (
    BASE,
    BASELINES,
    LANGUAGE_MODELS,
    RECOMMENDERS,
    STAGES,
    load_study,
    plain,
    resolve,
)
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.files import sha256_tree
from frugal.fingerprint import code_hash, settings_hash
from frugal.interruption import SNAKEMAKE_PID, hold_working_directory
from frugal.preflight import as_table, demand, disk_finding, token_findings, unsloth_finding

# A Snakemake that is killed takes its jobs with it, and leaves no lock: the same command continues.
shell.prefix(f"set -euo pipefail; export {SNAKEMAKE_PID}=$PPID; ")
HELD = hold_working_directory(Path(".snakemake")) if workflow.is_main_process else None

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
# A run's folder, in the rules that serve several experiments.
RUN_FOLDER = f"{RESULTS}/{{experiment}}/{{variant}}"
# A variant that is no baseline: others score these, to files of the same names.
NO_BASELINE = "(?!baseline_)[a-z0-9][a-z0-9_-]*"


wildcard_constraints:
    variant="[a-z0-9][a-z0-9_-]*",
    seed="[0-9]+",
    name="[^/]+",


def experiment_of(wildcards):
    """The experiment that a job's wildcards name; the rules of `movie_preference` name none, for they have but one."""
    return wildcards.get("experiment", "movie_preference")


def run_of(wildcards):
    """The settings of the run that a job's wildcards name; without a variant those that all runs share."""
    experiment, variant = experiment_of(wildcards), wildcards.get("variant", BASE)
    return SHARED[experiment] if variant == BASE else RUNS[experiment][variant]


def depends_on(script):
    """A rule's `params` entry: run again when the script's code, or what it imports of the library, changes."""
    return code_hash(SCRIPTS / script)


def settings_of(wildcards):
    """The settings of a run as JSON: all of them, or those that one stage reads."""
    run = run_of(wildcards)
    stage = wildcards.file.removeprefix("settings/")
    return json.dumps(plain(run, None if stage == "config" else STAGES[wildcards.experiment][stage]))


def environment_name(experiment, run):
    """The environment of `envs/` that a run trains in."""
    if experiment in RECOMMENDERS:
        return "recsys"
    return "unsloth" if run.backend == "unsloth" else "llm"


def training_environment(wildcards):
    """The conda environment that a run trains in, as rules name it."""
    return f"../envs/{environment_name(experiment_of(wildcards), run_of(wildcards))}.yaml"


# The runs that train on GPUs, by environment.
ON_GPUS = {
    environment: runs
    for environment in ("llm", "recsys", "unsloth")
    if (
        runs := [
            (experiment, variant)
            for experiment, variants in TRAINED.items()
            for variant in variants
            if RUNS[experiment][variant].training.gpus
            and environment_name(experiment, RUNS[experiment][variant]) == environment
        ]
    )
}
MACHINE = f"{RESULTS}/machine/{{environment}}.txt"


def machine(wildcards):
    """What shows that the machine has what a training on GPUs asks of it."""
    if not run_of(wildcards).training.gpus:
        return []
    return MACHINE.format(environment=environment_name(experiment_of(wildcards), run_of(wildcards)))


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


def base_model(wildcards):
    """The folder of a run's base model."""
    return f"data/models/{run_of(wildcards).base_model}"


def prepared(file):
    """A file of the data set that a run reads."""
    return lambda wildcards: f"data/prepared/{run_of(wildcards).dataset}/{file}"


def gpus(wildcards):
    """How many GPUs of one machine a training asks for; those of several machines are in `SEVERAL_MACHINES`."""
    training = run_of(wildcards).training
    return training.gpus if training.nodes == 1 else 0


def one_gpu(wildcards):
    """The GPUs of a job that uses one at most, however many the run trains on."""
    return min(1, run_of(wildcards).training.gpus)


def on_several_machines(value):
    """A resource of trainings on several machines; the others do not have it."""

    def resource(wildcards):
        training = run_of(wildcards).training
        return value(training) if training.nodes > 1 else None

    return resource


# As the executor of SLURM reads them: one task on each machine, started by the job itself (`mpi`), with GPUs for each.
SEVERAL_MACHINES = {
    "nodes": on_several_machines(lambda training: training.nodes),
    "tasks": on_several_machines(lambda training: training.nodes),
    "tasks_per_gpu": on_several_machines(lambda training: 0),
    "mpi": on_several_machines(lambda training: "srun"),
    "gres": on_several_machines(lambda training: f"gpu:{training.gpus}" if training.gpus else None),
}


def launcher(wildcards):
    """What starts a training: Python; torchrun, with a process for each GPU; or SLURM, with a torchrun on each machine."""
    training = run_of(wildcards).training
    processes = max(1, training.gpus)
    if training.nodes > 1:
        # The process that started this job lives on one of the machines only: the others must not look for it.
        return (
            f"{SNAKEMAKE_PID}= srun --nodes={training.nodes} --ntasks-per-node=1 --cpus-per-task=$OMP_NUM_THREADS"
            f" torchrun --nnodes={training.nodes} --nproc_per_node={processes} --rdzv_backend=c10d"
            " --rdzv_id=${SLURM_JOB_ID:?training.nodes above 1 needs SLURM: --workflow-profile profiles/slurm}"
            " --rdzv_endpoint=$(hostname):$((20000 + SLURM_JOB_ID % 20000))"
        )
    return f"torchrun --standalone --nproc_per_node={processes}" if processes > 1 else "python"


def of_trained(file):
    """A file that training leaves behind; the base model has none."""

    def path(wildcards):
        if wildcards.variant == BASE:
            return []
        return f"{RESULTS}/{experiment_of(wildcards)}/{wildcards.variant}/{file}"

    return path


def trained_options(wildcards, input):
    """The options that hand an adapter and its training record to an evaluation; none for the base model."""
    return f"--adapter {input.adapter} --training {input.training}" if input.adapter else ""


def measurement_of(experiment, kind):
    """What the study says of an experiment's `efficiency` or `ladder`; None where it is not measured."""
    return getattr(getattr(STUDY, experiment), kind, None)


def measurement_settings(kind):
    """What an `efficiency` or a `ladder` measures, as JSON: the settings that all runs share, and its own."""
    return lambda wildcards: json.dumps(
        {"run": plain(run_of(wildcards)), kind: plain(measurement_of(wildcards.experiment, kind))}
    )


def holds_documents(name):
    """Whether a data set is made of texts or PDFs; the others are interactions."""
    return DATASETS[name].sources[0].format in DOCUMENT_FORMATS


def one_of(names):
    """A wildcard's constraint: these names and no others."""
    return "|".join(sorted(names)) or "(?!)"


# The recommender experiments.

SEED = f"{RUN_FOLDER}/seeds/{{seed}}"


def recommender_results(experiment):
    """Everything that an experiment leaves behind."""
    folder = f"{RESULTS}/{experiment}"
    files = expand(
        f"{folder}/{{run}}/{{file}}",
        run=[*RUNS[experiment], *(f"baseline_{name}" for name in BASELINES[experiment])],
        file=["metrics.json", "predictions.parquet"],
    )
    measured = [f"{folder}/efficiency/measurements.json"] if measurement_of(experiment, "efficiency") else []
    return [*files, *expand(f"{folder}/{{variant}}/config.yaml", variant=RUNS[experiment]), *measured]


def shards_of(run):
    """The folder of a run's shards; runs that cut their data alike share it."""
    return f"data/sequences/{run.dataset}/{sequence_key(run)}"


def sequence_key(run):
    """How the data is cut, short enough for a folder's name."""
    settings = run.data.model_dump(mode="json", exclude={"fraction"})
    return f"{run.data.split}-{settings_hash(settings)}"


SEQUENCES = {
    (run.dataset, sequence_key(run)): run.data
    for experiment in RECOMMENDERS
    for run in (SHARED[experiment], *RUNS[experiment].values())
}


def sequences(wildcards):
    """The shards that a run reads."""
    return shards_of(run_of(wildcards))


def warm_start(wildcards):
    """The weights that a run begins with: those of another variant and the same seed, or a file of the user's."""
    start = run_of(wildcards).warm_start
    if start is None:
        return []
    if start.path:
        return start.path
    return f"{RESULTS}/{wildcards.experiment}/{start.variant}/seeds/{wildcards.seed}/model"


def of_seeds(file):
    """A file of every seed of a run."""
    return lambda wildcards: expand(
        f"{SEED}/{file}",
        seed=run_of(wildcards).seeds,
        allow_missing=True,
    )


def backbones(wildcards):
    """The models below a run's adapters, one for each seed."""
    run = run_of(wildcards)
    if run.adapter.method == "none":
        return []
    return expand(f"{RESULTS}/{wildcards.experiment}/{run.warm_start.variant}/seeds/{{seed}}/model", seed=run.seeds)


# The experiments in which a language model learns a corpus.

BLOCKS = f"data/blocks/{STUDY.study}/{{experiment}}/{{variant}}"
RATING = f"{RESULTS}/{{experiment}}/rating"


def language_model_results(experiment):
    """Everything that an experiment leaves behind."""
    folder, shared = f"{RESULTS}/{experiment}", SHARED[experiment]
    files = ["metrics.json", "documents.parquet", "answers.jsonl", "config.yaml"]
    results = expand(f"{folder}/{{run}}/{{file}}", run=RUNS[experiment], file=files)
    results += expand(f"{folder}/{{variant}}/README.md", variant=TRAINED[experiment])
    results += [f"{folder}/rating/sheet.html"] if shared.prompts.texts else []
    results += [f"{folder}/rating/ratings.json"] if shared.rating.sheets else []
    return results + ([f"{folder}/ladder/measurements.json"] if measurement_of(experiment, "ladder") else [])


def principal(experiment):
    """The variant that comparisons are about: `tuned`, or else the first."""
    return "tuned" if "tuned" in TRAINED[experiment] else TRAINED[experiment][0]


def test_texts(wildcards):
    """The texts that a run is tested on; the untuned model reads a variant's, if they are cut alike."""
    experiment, variant = wildcards.experiment, wildcards.variant
    keys = STAGES[experiment]["blocks"]
    if variant == BASE and plain(SHARED[experiment], keys) == plain(RUNS[experiment][principal(experiment)], keys):
        variant = principal(experiment)
    return f"data/blocks/{STUDY.study}/{experiment}/{variant}/test.parquet"


def check_names():
    """Every data set and model that the study names is in its table."""
    for experiment, runs in RUNS.items():
        for variant, run in runs.items():
            where = experiment if variant == BASE else f"{experiment}.variants.{variant}"
            names = [("dataset", run.dataset, DATASETS)]
            if experiment not in RECOMMENDERS:
                names.append(("base_model", run.base_model, MODELS))
            for key, name, table in names:
                if name not in table:
                    known = ", ".join(sorted(table))
                    sys.exit(f"error: {CONFIG_FILE}: {where}.{key}: '{name}' is not known; known: {known}")
            if holds_documents(run.dataset) != (experiment in LANGUAGE_MODELS):
                wanted = "texts or PDFs" if experiment in LANGUAGE_MODELS else "interactions"
                sys.exit(f"error: {CONFIG_FILE}: {where}.dataset: '{run.dataset}' does not hold {wanted}")
    for name in STUDY.local_paths:
        if name not in DATASETS and name not in MODELS:
            sys.exit(f"error: {CONFIG_FILE}: local_paths.{name}: no data set or model has this name")


def still_to_fetch():
    """The data sets and models that the jobs to come will fetch; all that are missing, where that is asked for."""
    jobs = list(workflow.dag.needrun_jobs())
    if any(job.rule.name == "preflight" for job in jobs):
        names = {
            *(name for name in USED if not Path(f"data/prepared/{name}").exists()),
            *(name for name in BASE_MODELS if not Path(f"data/models/{name}").exists()),
        }
    else:
        names = {job.wildcards.name for job in jobs if job.rule.name == "fetch"}
    names -= STUDY.local_paths.keys()
    return [{name: table[name] for name in sorted(names & table.keys())} for table in (DATASETS, MODELS)]


def preflight():
    """What would fail hours later fails now: no room for the data, gated models without a token, no unsloth."""
    datasets, models = still_to_fetch()
    findings = [disk_finding(datasets, models, Path("data")), *token_findings(models)]
    if "unsloth" in ON_GPUS and DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
        findings.append(unsloth_finding([f"{experiment}/{variant}" for experiment, variant in ON_GPUS["unsloth"]]))
    if ON_GPUS:
        print(as_table(findings), file=sys.stderr)
    or_exit(demand, findings)


check_names()

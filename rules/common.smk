# Everything that the rules share: the checked study, paths, and what a rule depends on.

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from shlex import quote


def own_files(basedir):
    """The folder of this workflow; where a module names it in a repository, a copy of the version that it names.

    Snakemake fetches the files that it reads itself, and no library.
    """
    if hasattr(basedir, "hosted_repo"):
        git = ["git", "-C", str(basedir.hosted_repo.repo_clone)]
        folder, temporary = Path(".snakemake/frugal"), Path(f".snakemake/frugal.{os.getpid()}")
        wanted = subprocess.check_output([*git, "rev-parse", f"{basedir.ref}^{{commit}}"], text=True)
        held = folder / "workflow/commit.txt"  # `git archive` writes it
        if not held.exists() or held.read_text() != wanted:
            archive = subprocess.check_output([*git, "archive", wanted.strip()])
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                files.extractall(temporary, filter="data")
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        return folder.resolve()
    return Path(str(basedir)).resolve().parent


# A module of another workflow, and `--directory`, work elsewhere.
ROOT = own_files(workflow.current_basedir)
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from frugal.config.backends import uses_unsloth
from frugal.config.base import plain
from frugal.config.layers import COMMAND_LINE, command_options, holder, load_layers
from frugal.config.registry import table_json
from frugal.config.search_space import largest
from frugal.config.sources import source_kind
from frugal.config.study import holds_documents
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.files import sha256_tree
from frugal.fingerprint import code_hash, settings_hash
from frugal.kinds import BASE, LANGUAGE_MODELING, PREFERENCE, RECOMMENDATION
from frugal.private.snakemake import (
    config_files,
    deploys_environments,
    given_settings,
    is_main_process,
    jobs_to_run,
    rule_names,
    runs_jobs_here,
    snakemake_logger,
    uses_conda,
)
from frugal.preflight import as_table, demand, disk_finding, token_findings, unsloth_finding
from frugal.run.gpus import AUTO, DECIDED, resolve_gpus
from frugal.run.interruption import SNAKEMAKE_PID, hold_working_directory
from frugal.run.scheduler import gpus_of_auto, uses_cluster
from frugal.run.shutdown import end_jobs_on_signals

# A Snakemake that is interrupted or killed takes its jobs with it, and leaves no lock: the same command continues.
if is_main_process(workflow):
    HELD = hold_working_directory(Path(".snakemake"))
    end_jobs_on_signals()

CONFIG_FILES = config_files(workflow, Path.cwd())
GIVEN = given_settings(workflow)


def or_exit(function, *arguments):
    """What `function` returns; a user's mistake ends Snakemake with its message alone."""
    try:
        return function(*arguments)
    except FrugalError as error:
        sys.exit(f"error: {error}")


# Snakemake has read and merged them, and lets a key stand twice.
LAYERS = {file: or_exit(read_yaml, file) for file in CONFIG_FILES} | ({COMMAND_LINE: GIVEN} if GIVEN else {})
STUDY = or_exit(load_layers, config, LAYERS)
DATASETS, MODELS = STUDY.datasets, STUDY.models
RESULTS = f"results/{STUDY.name}"
EXPERIMENTS = STUDY.experiments
ALL_RUNS = [(name, variant, run) for name, one in EXPERIMENTS.items() for variant, run in one.runs.items()]
BASE_MODELS = {run.base_model for name, _, run in ALL_RUNS if EXPERIMENTS[name].kind.has_base_model}
# The number of GPUs that `gpus: auto` stands for; None where no run has it. It decides what jobs ask for, and is no part
# of any setting, so results hold on machines with and without a GPU.
AUTO_GPUS = gpus_of_auto(workflow) if any(run.training.gpus == AUTO for _, _, run in ALL_RUNS) else None

# Signals are for the scripts, which save and clean up; the shell and `tee` wait for their last words.
# Unless Snakemake deploys environments, a job runs in that of the Python that runs Snakemake, activated or not. In
# others, whose PyTorch this process cannot try, a job finds out itself whether its GPU is usable.
PROGRAMS = "" if deploys_environments(workflow) else f"PATH={quote(str(Path(sys.executable).parent))}:$PATH "
UNDECIDED = AUTO_GPUS is None or (AUTO_GPUS and deploys_environments(workflow))
GPUS = "" if UNDECIDED else f"{DECIDED}={AUTO_GPUS} "
shell.prefix(f"set -euo pipefail; trap '' INT TERM; export {PROGRAMS}{GPUS}{SNAKEMAKE_PID}=$PPID; ")
# Kind -> the files that an experiment leaves behind, below its folder; the rules of each kind add theirs.
RESULTS_OF = {}


def results_of(experiment):
    """Everything that an experiment leaves behind."""
    one = EXPERIMENTS[experiment]
    return [f"{RESULTS}/{experiment}/{file}" for file in RESULTS_OF[one.kind](one)]


# A run's folder, in the rules that serve several experiments.
RUN_FOLDER = f"{RESULTS}/{{experiment}}/{{variant}}"
# A variant that is no baseline: others score these, to files of the same names.
NO_BASELINE = "(?!baseline_)[a-z0-9][a-z0-9_-]*"


wildcard_constraints:
    variant="[a-z0-9][a-z0-9_-]*",
    seed="[0-9]+",
    name="[^/]+",


def run_of(wildcards):
    """The settings of the run that a job's wildcards name; without a variant those that all runs share."""
    experiment, variant = EXPERIMENTS[wildcards.experiment], wildcards.get("variant", BASE)
    return experiment.shared if variant == BASE else experiment.runs[variant]


def placed_run(wildcards):
    """As `run_of`, with the number of GPUs that `auto` stands for here: for what jobs ask for and how they start."""
    return resolve_gpus(run_of(wildcards), AUTO_GPUS)


def depends_on(script):
    """A rule's `params` entry: run again when the script's code, or what it imports of the library, changes."""
    return code_hash(SCRIPTS / script)


def path_of(script):
    """A script's path from the working directory: a clone that moves changes no job."""
    return os.path.relpath(SCRIPTS / script)


def training_script(wildcards):
    """The script that trains a run: of its experiment, or of its kind."""
    return ROOT / EXPERIMENTS[wildcards.experiment].script


def training_path(wildcards):
    """As `path_of`, of the training script."""
    return os.path.relpath(training_script(wildcards))


def training_code(wildcards):
    """As `depends_on`, of the training script."""
    return code_hash(training_script(wildcards))


def settings_of(wildcards):
    """The settings of a run as JSON: all of them, or those that one stage reads."""
    run = run_of(wildcards)
    stage = wildcards.file.removeprefix("settings/")
    stages = EXPERIMENTS[wildcards.experiment].kind.stages
    return json.dumps(plain(run, None if stage == "config" else stages[stage]))


def training_environment(wildcards):
    """The conda environment that a run trains in, as rules name it."""
    return f"../{EXPERIMENTS[wildcards.experiment].environment(wildcards.variant)}"


# The runs that train on GPUs, by the file of their environment.
ON_GPUS = {}
for name, variant, run in ALL_RUNS:
    if variant != BASE and resolve_gpus(run, AUTO_GPUS).training.gpus:
        ON_GPUS.setdefault(EXPERIMENTS[name].environment(variant), []).append((name, variant))
ENVIRONMENTS = {Path(path).stem: path for path in ON_GPUS} or {"base": "envs/base.yaml"}
MACHINE = f"{RESULTS}/machine/{{environment}}.txt"


def machine(wildcards):
    """What shows that the machine has what a training on GPUs asks of it.

    `gpus: auto` asks for nothing, and has the same inputs on all machines: else a result of one would be made again on
    another. `make preflight` looks at these runs too.
    """
    if run_of(wildcards).training.gpus in (0, AUTO):
        return []
    return MACHINE.format(environment=Path(training_environment(wildcards)).stem)


def local_path(wildcards):
    """The option that hands a user's own copy to the fetch script."""
    path = STUDY.local_paths.get(wildcards.name)
    return f"--local-path {quote(path)}" if path else ""


def entry_of(wildcards):
    """A data set's or model's entry, as a table of one, without what is only for readers: run again when it changes."""
    key, table = ("datasets", DATASETS) if wildcards.name in DATASETS else ("models", MODELS)
    entry, fields = table[wildcards.name], type(table[wildcards.name]).model_fields
    words = {name: fields[name].default for name in ("homepage", "licence", "citation", "items") if name in fields}
    return table_json(key, {wildcards.name: entry.model_copy(update={"title": wildcards.name, **words})})


def base_model_entry(wildcards):
    """The whole entry of a run's base model, as a table of one."""
    name = run_of(wildcards).base_model
    return table_json("models", {name: MODELS[name]})


def dataset_entry(wildcards):
    """The whole entry of a run's data set, as a table of one."""
    name = run_of(wildcards).dataset
    return table_json("datasets", {name: DATASETS[name]})


def is_random(name):
    """Whether a model is built here, with random weights, and so never fetched."""
    return "random" in map(source_kind, MODELS[name].sources)


def gpus(wildcards):
    """How many GPUs of one machine a training asks for; those of several machines are in `SEVERAL_MACHINES`."""
    training = placed_run(wildcards).training
    return training.gpus if training.nodes == 1 else 0


def one_gpu(wildcards):
    """The GPUs of a job that uses one at most, however many the run trains on."""
    return min(1, placed_run(wildcards).training.gpus)


def on_several_machines(value):
    """A resource of trainings on several machines; the others do not have it."""

    def resource(wildcards):
        training = run_of(wildcards).training
        return value(training) if training.nodes > 1 else None

    return resource


def machines(wildcards):
    """The machines of a training with several processes: one torchrun takes GPUs of one, and SLURM may spread them."""
    training = placed_run(wildcards).training
    return training.nodes if training.nodes > 1 or training.gpus > 1 else None


# As the executor of SLURM reads them: one task on each machine, started by the job itself (`mpi`), with GPUs for each.
SEVERAL_MACHINES = {
    "nodes": machines,
    "tasks": on_several_machines(lambda training: training.nodes),
    "tasks_per_gpu": on_several_machines(lambda training: 0),
    "mpi": on_several_machines(lambda training: "srun"),
    "gres": on_several_machines(lambda training: f"gpu:{training.gpus}" if training.gpus else None),
}


def launcher(wildcards):
    """What starts a training: Python; torchrun, with a process for each GPU; or SLURM, with a torchrun on each machine."""
    training = placed_run(wildcards).training
    processes = max(1, training.gpus)
    # A script beside the library finds it; the user's own may stand anywhere in the project.
    path = "" if training_script(wildcards).parent == SCRIPTS else f"PYTHONPATH={quote(path_of(''))} "
    if training.nodes > 1:
        # The process that started this job lives on one of the machines only: the others must not look for it.
        return (
            f"{path}{SNAKEMAKE_PID}= srun --nodes={training.nodes} --ntasks-per-node=1 --cpus-per-task=$OMP_NUM_THREADS"
            f" torchrun --nnodes={training.nodes} --nproc_per_node={processes} --rdzv_backend=c10d"
            " --rdzv_id=${SLURM_JOB_ID:?training.nodes above 1 needs SLURM: --workflow-profile profiles/slurm}"
            " --rdzv_endpoint=$(hostname):$((20000 + SLURM_JOB_ID % 20000))"
        )
    if processes > 1:
        reserve = f"python {quote(path_of('reserve_gpus.py'))} {processes}"
        return f"{path}{reserve} torchrun --standalone --nproc_per_node={processes}"
    return f"{path}python"


def measurement_settings(measurement):
    """What an `efficiency` or a `ladder` measures, as JSON: the settings that all runs share, and its own."""

    def settings(wildcards):
        experiment = EXPERIMENTS[wildcards.experiment]
        return json.dumps({"run": plain(experiment.shared), measurement: plain(getattr(experiment, measurement))})

    return settings


def one_of(names):
    """A wildcard's constraint: these names and no others."""
    return "|".join(sorted(names)) or "(?!)"


def refuse(key, fault):
    """End with what is wrong with a key of the configuration."""
    sys.exit(f"error: {holder(key, LAYERS)}: {key}: {fault}")


def check_gpus():
    """On a cluster each training says how many GPUs it wants: where Snakemake runs, there may be none of its GPUs."""
    for name, variant, run in ALL_RUNS if uses_cluster(workflow) else ():
        if run.training.gpus == AUTO:
            of_all = EXPERIMENTS[name].shared.training.gpus == AUTO
            where = f"experiments.{name}" if of_all else f"experiments.{name}.variants.{variant}"
            refuse(
                f"{where}.training.gpus",
                "'auto' is for jobs on this machine; on a cluster set it to a number: 0 trains on CPUs, 1 on a GPU",
            )


def check_targets():
    """No experiment is called as a rule is."""
    for name in sorted(EXPERIMENTS.keys() & rule_names(workflow)):
        refuse(f"experiments.{name}", f"'{name}' is a rule; give the experiment another name")


def still_to_fetch():
    """The data sets and models that the jobs to come will fetch; all that are missing, where that is asked for."""
    jobs = jobs_to_run(workflow)
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
    """What would fail hours later fails now: no room for data or jobs, gated models without a token, no unsloth."""
    datasets, models = still_to_fetch()
    disk = disk_finding(datasets, models, Path("data"), checkpoints=checkpoint_bytes())
    findings = [disk, *token_findings(models), *memory_findings()]
    unsloth = [f"{name}/{variant}" for name, variant, run in ALL_RUNS if variant != BASE and uses_unsloth(run)]
    if unsloth and not uses_conda(workflow):
        findings.append(unsloth_finding(unsloth))
    if ON_GPUS:
        # Not by `print`: a logger plugin writes from a thread of its own, in the middle of the line.
        snakemake_logger().info(as_table(findings))
    or_exit(demand, findings)


check_gpus()

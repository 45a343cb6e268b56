# What each job needs of the machine's memory, `mem_mb` in MB of 2^20 bytes, and the limit of their sum on one machine.

from contextlib import suppress
from math import ceil

from frugal.llm.memory import needs
from frugal.llm.memory.shapes import model_shape
from frugal.preflight import memory_finding
from frugal.recsys import memory as recommender_memory
from frugal.run.scheduler import limit_to_machine, memory_needs

# Jobs that were measured; none of them depends on a model or on much data.
LIGHT_MB = 150  # settings, downloads, model cards, rating sheets: up to 75
REPORT_MB = 600  # tables, figures, the report: 430
BLOCKS_MB = 700  # tokens of a corpus: 570
DOCUMENTS_MB = 600  # text from dumps and PDFs: 220; longer PDFs than ours may take more
CHECK_MB = 1000  # torch, and bitsandbytes beside it
# Of jobs whose model or data has no known shape yet. On one machine such a job runs alone; a cluster wants a number.
UNKNOWN_MB = 32000

MEMORY_LIMIT = limit_to_machine(workflow) if is_main_process(workflow) else None


def memory(estimate):
    """A rule's `mem_mb`: what ``estimate`` says of a job's wildcards; more in each further attempt.

    ``estimate`` returns None where it does not know, and then the job gets all that there is.
    """

    def mem_mb(wildcards, attempt):
        need = None
        with suppress(FrugalError):  # a broken file is the job's to report
            need = estimate(wildcards)
        if need is None:
            return MEMORY_LIMIT.mb if MEMORY_LIMIT else UNKNOWN_MB
        return ceil(need) * attempt

    return mem_mb


def shape_of(name):
    """The shape of a base model, None where it is not known yet."""
    return model_shape(name, MODELS[name], Path("data/models"))


def of_model(estimate):
    """An estimate for a run of a language model, from the shape of its base model and its settings."""

    def mb(wildcards):
        run = placed_run(wildcards)
        shape = shape_of(run.base_model)
        return shape and estimate(shape, run)

    return memory(mb)


def data_shape(name):
    """Counts of a data set: of the prepared one, or as published; None where neither is there."""
    return recommender_memory.data_shape(name, Path("data/prepared") / name / "summary.json")


def of_data(estimate):
    """An estimate for a job on interactions, from the counts of its data set."""

    def mb(wildcards):
        data = data_shape(wildcards.get("name") or run_of(wildcards).dataset)
        return data and estimate(data)

    return memory(mb)


def of_recommender(estimate):
    """An estimate for a job of a recommender, from the settings of its run and the counts of its data set."""

    def mb(wildcards):
        run = placed_run(wildcards)
        data = data_shape(run.dataset)
        return data and estimate(run, data)

    return memory(mb)


def within_limit(estimate):
    """An estimate that leaves out what a job does without where memory is short: the third argument limits it."""
    return lambda *arguments: estimate(*arguments, MEMORY_LIMIT.mb if MEMORY_LIMIT else UNKNOWN_MB)


@memory
def evaluation_memory(wildcards):
    """Of a language model, with its adapter or without."""
    run = placed_run(wildcards)
    shape = shape_of(run.base_model)
    return shape and needs.evaluation_mb(shape, run, adapter=wildcards.variant != BASE)


@memory
def ladder_memory(wildcards):
    run = placed_run(wildcards)
    shape, ladder = shape_of(run.base_model), EXPERIMENTS[wildcards.experiment].ladder
    return shape and needs.ladder_mb(shape, run, ladder, MEMORY_LIMIT and MEMORY_LIMIT.mb)


@memory
def efficiency_memory(wildcards):
    efficiency = EXPERIMENTS[wildcards.experiment].efficiency
    return recommender_memory.efficiency_mb(placed_run(wildcards), efficiency)


@memory
def model_memory(wildcards):
    """Of preparing a model: GGUF is converted, a random one built; a snapshot is copied file by file."""
    copied = any(source_kind(source) == "hub" for source in MODELS[wildcards.name].sources)
    shape = shape_of(wildcards.name)
    return needs.TORCH_MB if copied else shape and needs.preparation_mb(shape)


def checkpoint_bytes():
    """Training of a recommender that is still to come -> bytes on disk of its checkpoints; adapters have small ones."""
    jobs = [job for job in jobs_to_run(workflow) if job.rule.name == "train_recommender"]
    runs = {job_name(job): run_of(job.wildcards) for job in jobs}
    shapes = {name: data_shape(run.dataset) for name, run in runs.items()}
    return {name: recommender_memory.disk_bytes(run, shapes[name]) for name, run in runs.items() if shapes[name]}


def job_name(job):
    """A job as errors call it: its rule and the values of its wildcards."""
    return " ".join([job.rule.name, "/".join(map(str, job.wildcards))]).strip()


def memory_findings():
    """Whether each job to come fits into the limit; nothing where there is none."""
    if MEMORY_LIMIT is None:
        return []
    return [memory_finding(memory_needs(workflow, job_name), MEMORY_LIMIT.mb, MEMORY_LIMIT.by_user)]


@memory
def search_memory(wildcards):
    """Of the largest trial."""
    run, space = placed_run(wildcards), search_of(wildcards).space
    data = data_shape(run.dataset)
    return data and max(recommender_memory.training_mb(one, data) for one in (run, *largest(run, space)))

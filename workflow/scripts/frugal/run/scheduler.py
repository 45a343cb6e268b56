"""Snakemake's limits on one machine: the cores and the memory that its jobs may use together.

Snakemake has no public interface for either. A profile is YAML, which cannot ask the machine; an option on the
command line takes the place of a profile's whole `resources`; and `--cores all` knows the affinity, but no cgroup
quota. So the Snakefile calls `limit_to_machine` before the rules are read. It sets what the options `--cores` and
`--resources` set; Snakemake's attributes for it stand in `frugal.private.snakemake`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from frugal.private.snakemake import declared_resource, deploys_environments, jobs_to_run, resource_limits
from frugal.run.gpus import gpu_problem
from frugal.run.resources import free_memory_mb, usable_cores

#: As in profiles/default: jobs on GPUs run one after another.
GPU_JOBS = 1


class MemoryLimit(NamedTuple):
    """MB (2^20 bytes) that the running jobs may take together, and whether the user has set it."""

    mb: int
    by_user: bool


def limit_to_machine(workflow: Any, cores: int | None = None, memory_mb: int | None = None) -> MemoryLimit | None:
    """Limit local jobs to what this process may use, where the user has not; nothing changes for a cluster.

    * `--cores all` becomes the cores of affinity and CPU quota. Snakemake has made a number of it by now, so the
      same number typed by hand, which is above the quota, is treated alike.
    * The sum of `mem_mb` over the running jobs is limited to the memory that is free now.
    * The profile's limit of GPU jobs, gone where `--resources` is given, comes back.

    Args:
        workflow: Snakemake's, before its rules.
        cores: that may be used; None asks the system.
        memory_mb: MB (2^20 bytes) that are free; None asks the system.

    Returns:
        The limit of the jobs' memory; None on a cluster, and where neither user nor system gives one.
    """
    from snakemake.utils import available_cpu_count

    settings, limits = resource_limits(workflow)
    if settings.nodes is not None:  # jobs go to a cluster: it knows its nodes
        return None
    usable = cores or usable_cores()
    if settings.cores is not None and settings.cores == available_cpu_count() > usable:
        settings.cores = usable
        limits["_cores"] = usable
    if limits.keys() - {"_cores", "_nodes"} and "gpu" not in limits:
        limits["gpu"] = GPU_JOBS
    if "mem_mb" in limits:
        return MemoryLimit(limits["mem_mb"].value, by_user=True)
    free = free_memory_mb() if memory_mb is None else memory_mb
    if free is None:
        return None
    limits["mem_mb"] = free
    return MemoryLimit(free, by_user=False)


def uses_cluster(workflow: Any) -> bool:
    """Whether jobs go to other machines; as the rules are read, Snakemake does not know its executor yet."""
    return resource_limits(workflow)[0].nodes is not None


def gpus_of_auto(workflow: Any) -> int:
    """The number of GPUs that `gpus: auto` stands for in this Snakemake's jobs: 1 or 0, and 0 with --resources gpu=0.

    In environments of their own, jobs have a PyTorch of their own, so only the driver is looked at.
    """
    limit = resource_limits(workflow)[1].get("gpu")
    if uses_cluster(workflow) or (limit is not None and limit.value == 0):
        return 0
    return int(gpu_problem(same_python=not deploys_environments(workflow)) is None)


def memory_needs(workflow: Any, describe: Callable[[Any], str]) -> dict[str, int]:
    """MB (2^20 bytes) that each job to come declares, before Snakemake cuts it down to the limit.

    Args:
        workflow: Snakemake's, when its graph is known.
        describe: from a job to the name that the result gives it.
    """
    needs = {}
    for job in jobs_to_run(workflow):
        value = declared_resource(job, "mem_mb")
        if isinstance(value, int):
            needs[describe(job)] = value
    return needs

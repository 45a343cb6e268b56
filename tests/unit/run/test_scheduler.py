"""Snakemake's limits on one machine: cores, memory, GPU jobs; what a user has set stays."""

from types import SimpleNamespace

import pytest
import snakemake.utils
from snakemake.resources import Resource, Resources

from frugal.run import scheduler
from frugal.run.scheduler import limit_to_machine, memory_needs


@pytest.fixture(autouse=True)
def host_of_64_cores(monkeypatch):
    """What Snakemake takes `--cores all` for."""
    monkeypatch.setattr(snakemake.utils, "available_cpu_count", lambda: 64)


def workflow(cores=64, nodes=None, **limits):
    """Snakemake's workflow as it is when the Snakefile is read."""
    resources = Resources.parse([f"{name}={value}" for name, value in limits.items()], allow_expressions=False)
    resources["_cores"], resources["_nodes"] = cores, nodes
    return SimpleNamespace(
        resource_settings=SimpleNamespace(cores=cores, nodes=nodes), global_resources=resources, dag=None
    )


def limits(flow):
    return {name: resource.value for name, resource in flow.global_resources.items() if resource.value is not None}


def test_all_cores_are_those_of_the_quota_and_memory_is_what_is_free():
    flow = workflow(gpu=1)
    assert limit_to_machine(flow, cores=2, memory_mb=6000) == (6000, False)
    assert limits(flow) == {"_cores": 2, "gpu": 1, "mem_mb": 6000}
    assert flow.resource_settings.cores == 2


def test_a_number_of_cores_stays():
    flow = workflow(cores=16)
    limit_to_machine(flow, cores=2, memory_mb=6000)
    assert limits(flow)["_cores"] == flow.resource_settings.cores == 16


def test_without_a_quota_all_cores_stay():
    flow = workflow()
    limit_to_machine(flow, cores=64, memory_mb=6000)
    assert flow.resource_settings.cores == 64


@pytest.mark.parametrize("given", [{"mem_mb": 3000}, {"mem": "3GB"}])
def test_the_users_limit_stays_and_gpu_jobs_are_still_limited(given):
    """`--resources` takes the place of the profile's, which has gpu=1."""
    flow = workflow(**given)
    assert limit_to_machine(flow, cores=2, memory_mb=6000) == (3000, True)
    assert limits(flow) == {"_cores": 2, "gpu": 1, "mem_mb": 3000}


def test_the_users_gpus_stay():
    flow = workflow(gpu=4)
    limit_to_machine(flow, cores=2, memory_mb=6000)
    assert limits(flow)["gpu"] == 4


def test_without_a_profile_gpu_jobs_are_not_limited():
    flow = workflow()
    limit_to_machine(flow, cores=2, memory_mb=6000)
    assert "gpu" not in limits(flow)


def test_a_cluster_is_not_limited():
    flow = workflow(cores=64, nodes=100)
    assert limit_to_machine(flow, cores=2, memory_mb=6000) is None
    assert limits(flow) == {"_cores": 64, "_nodes": 100}


def test_where_memory_is_not_known_there_is_no_limit(monkeypatch):
    monkeypatch.setattr(scheduler, "free_memory_mb", lambda: None)
    flow = workflow()
    assert limit_to_machine(flow, cores=64) is None
    assert "mem_mb" not in limits(flow)


def job(name, wildcards, **resources):
    declared = Resources({key: Resource(key, value) for key, value in resources.items()})
    return SimpleNamespace(rule=SimpleNamespace(name=name, resources=declared), wildcards=wildcards, input=[])


def test_needs_are_those_before_the_limit():
    flow = workflow(mem_mb=100)
    jobs = [
        job("train", {"n": 3}, mem_mb=lambda wildcards, attempt: 1000 * wildcards["n"] * attempt),
        job("tables", {}, mem_mb=600),
        job("all", {}, tmpdir="/tmp"),
    ]
    flow.dag = SimpleNamespace(needrun_jobs=lambda: jobs)
    assert memory_needs(flow, lambda one: one.rule.name) == {"train": 3000, "tables": 600}

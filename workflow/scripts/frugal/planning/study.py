"""The plan of a study on a device: each job's time, energy and cost, and those of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugal.config.devices import Device
from frugal.config.study import Study
from frugal.kinds import RECOMMENDATION
from frugal.llm.memory.plan import USABLE
from frugal.planning import language_models, recommenders
from frugal.planning.schedule import Key, Task, critical_path, device_seconds, side_by_side
from frugal.planning.utilisation import Measured, Share, share_of
from frugal.planning.work import Job, seconds
from frugal.preflight import dataset_bytes, model_bytes

JOULES_A_KWH = 3.6e6
#: What no plan covers.
LEFT_OUT = "downloads, preparation, baselines, measurements of efficiency and of the memory ladder, and the report"


@dataclass(frozen=True)
class PlannedJob:
    """A job with what it takes on a device.

    Attributes:
        loop_seconds: of its loop, which is what a training record has as its seconds.
        seconds: of the whole process.
        kwh: at the device's full power.
        cost: at the price of a device's hour; None without one.
        fits: whether its memory is there; None on a CPU.
    """

    job: Job
    share: Share
    loop_seconds: float
    seconds: float
    kwh: float
    cost: float | None
    fits: bool | None

    @property
    def task(self) -> Task:
        return Task(self.seconds, self.job.devices, self.job.after)


@dataclass(frozen=True)
class Plan:
    """A study's jobs on a device. ``unplanned`` have a problem, and are in no total."""

    device: Device
    jobs: Sequence[PlannedJob]
    unplanned: Sequence[Job]

    @property
    def tasks(self) -> Mapping[Key, Task]:
        return {one.job.key: one.task for one in self.jobs}

    @property
    def too_large(self) -> list[PlannedJob]:
        """The jobs whose memory is not there."""
        return [one for one in self.jobs if one.fits is False]

    def totals(self, devices: int) -> dict[str, Any]:
        """Seconds, kWh, cost, MB on disk of all planned jobs; their critical path; and on ``devices`` side by side."""
        path, keys = critical_path(self.tasks)
        costs = [one.cost for one in self.jobs if one.cost is not None]
        return {
            "jobs": len(self.jobs),
            "unplanned": len(self.unplanned),
            "petaflops": sum(sum(one.job.work.flops.values()) for one in self.jobs) / 1e15,
            "device_seconds": device_seconds([one.task for one in self.jobs]),
            "kwh": sum(one.kwh for one in self.jobs),
            "cost": sum(costs) if costs else None,
            "disk_mb": sum(one.job.disk_mb for one in self.jobs),
            "critical_path_seconds": path,
            "critical_path": [" ".join(key) for key in keys],
            "devices": devices,
            "side_by_side_seconds": side_by_side(self.tasks, devices),
        }


def plan_study(
    study: Study,
    device: Device,
    cores: int,
    runs: Sequence[Measured],
    root: Path = Path(),
    price: float | None = None,
) -> Plan:
    """The plan of all trainings and evaluations of a study.

    Args:
        cores: of the machine, where the device is a CPU.
        runs: finished trainings, whose shares of the peak count.
        root: the working directory of Snakemake, for prepared data and models.
        price: of one device for an hour.

    Raises:
        FrugalError: a prepared model's configuration is damaged.
    """
    planned, unplanned = [], []
    for experiment in study.experiments.values():
        of_recommenders = experiment.kind is RECOMMENDATION
        make = recommenders.jobs if of_recommenders else language_models.jobs
        for job in make(study, experiment, device, cores, root):
            if job.problem:
                unplanned.append(job)
                continue
            variant = job.name.partition("/")[2].partition(" ")[0]
            width = experiment.runs[variant].model.width if of_recommenders else 0
            planned.append(_planned(job, device, share_of(job, width, device, runs), price))
    return Plan(device, planned, unplanned)


def _planned(job: Job, device: Device, share: Share, price: float | None) -> PlannedJob:
    loop, whole = seconds(job.work, device, job.devices, share.value)
    used = whole * job.devices
    return PlannedJob(
        job=job,
        share=share,
        loop_seconds=loop,
        seconds=whole,
        kwh=used * device.power_w / JOULES_A_KWH,
        cost=None if price is None else used / 3600 * price,
        fits=None if device.memory_gb is None else job.memory_mb <= USABLE * device.memory_gb * 1024,
    )


def disk_of_inputs(study: Study) -> tuple[int, list[str]]:
    """Bytes on disk of a study's data sets and models, and the names of those whose size is not known."""
    sizes: dict[str, int] = {}
    for experiment in study.experiments.values():
        for run in experiment.runs.values():
            sizes[run.dataset] = dataset_bytes(study.datasets[run.dataset])
            if experiment.kind.has_base_model:
                sizes[run.base_model] = model_bytes(run.base_model, study.models[run.base_model])
    return sum(sizes.values()), [name for name, size in sizes.items() if not size]


def as_json(plan: Plan, totals: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as plain values; seconds, MB of 2^20 bytes, kWh, and the currency of the price."""
    rows = []
    for one in plan.jobs:
        job = one.job
        rows.append(
            {
                "job": job.name,
                "stage": job.stage,
                "weights": job.weights,
                "flops": job.work.flops,
                "devices": job.devices,
                "memory_mb": round(job.memory_mb, 1),
                "fits": one.fits,
                "disk_mb": round(job.disk_mb, 1),
                "matmul_peak_share": round(one.share.value, 4),
                "share_from": one.share.source,
                "loop_seconds": round(one.loop_seconds, 1),
                "seconds": round(one.seconds, 1),
                "kwh": round(one.kwh, 5),
                "cost": None if one.cost is None else round(one.cost, 4),
                "after": [" ".join(key) for key in job.after],
            }
        )
    unplanned = [{"job": job.name, "stage": job.stage, "problem": job.problem} for job in plan.unplanned]
    return {"device": plan.device.model_dump(), "jobs": rows, "unplanned": unplanned, "totals": dict(totals)}

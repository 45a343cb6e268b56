"""What a study asks of the machines that it runs on, beside what they have: found out before hours are lost.

Two places know the answers. Where Snakemake is started, there are the disk and the access tokens; where a training
runs, on a cluster another machine and with conda another Python, there are the GPUs and the packages that use them.
"""

import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from frugal.config.backends import uses_unsloth
from frugal.config.base import Settings
from frugal.config.registry import DatasetEntry, ModelEntry, missing_token
from frugal.config.sources import FileSource, RandomSource
from frugal.errors import FrugalError, first_line
from frugal.llm.memory.estimate import base_parameters
from frugal.llm.memory.plan import USABLE, needed
from frugal.llm.memory.shapes import SHAPES
from frugal.recsys.memory import data_shape, device_mb
from frugal.run.device import BFLOAT16_CAPABILITY

GB = 2**30
#: A data set's bytes on disk for one of its archive: packed, unpacked, prepared and cut into sequences.
UNPACKED = 6
#: A model's bytes on disk for one of its weights: 16 bits, as it is fetched and as it is prepared.
BYTES_A_WEIGHT = 2 * 2
ON_THE_CPU = "set training.gpus to 0 to train on the CPU"
COMPILER = "C compiler"
WITHOUT_COMPILER = (
    "install gcc and Python's headers (Debian: apt-get install gcc python3-dev), or run Snakemake with --sdm conda"
)
WITHOUT_UNSLOTH = "run Snakemake with --sdm conda, or set backend to 'transformers'"

#: Name of a run, `<experiment>/<variant>`, to its settings.
Runs = Mapping[str, Settings]


@dataclass(frozen=True)
class Finding:
    """One line of the table; with a fault it says what to do."""

    what: str
    needed: str
    found: str
    fault: str | None = None


@dataclass(frozen=True)
class GPU:
    """A GPU; memory in MB (2^20 bytes)."""

    name: str
    capability: tuple[int, int]
    free_mb: float
    total_mb: float


@dataclass(frozen=True)
class Machine:
    """What torch sees: its GPUs, the architectures that it was built for, and why it sees no GPU."""

    gpus: tuple[GPU, ...] = ()
    architectures: tuple[str, ...] = ()
    problem: str = "no GPU is visible"


def look_at_gpus() -> Machine:
    """The GPUs of this machine that this process may use."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        if torch.version.cuda is None and torch.version.hip is None:
            return Machine(problem=f"torch {torch.__version__} was built for CPUs")
        # CUDA tells of a driver that is too old in a warning.
        return Machine(problem=first_line(caught[0].message) if caught else "no GPU is visible")
    gpus = []
    for device in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(device)
        free, _ = torch.cuda.mem_get_info(device)
        capability = (properties.major, properties.minor)
        gpus.append(GPU(properties.name, capability, free / 2**20, properties.total_memory / 2**20))
    return Machine(tuple(gpus), tuple(torch.cuda.get_arch_list()))


def built_for(capability: tuple[int, int], architectures: Iterable[str]) -> bool:
    """Whether a torch with code for ``architectures`` runs on such a GPU.

    Code for `sm_80` runs on 8.0 and what follows within 8; `compute_80` is compiled for whatever follows.
    """
    numbers = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name) for name in architectures]
    built = [(match[1], (int(match[2]), int(match[3]))) for match in numbers if match]
    return not built or any(
        code <= capability and (kind == "compute" or code[0] == capability[0]) for kind, code in built
    )


def gpu_findings(
    runs: Runs,
    machine: Machine,
    models: Mapping[str, ModelEntry],
    folder: Path,
    importable: Callable[[str], str | None],
) -> list[Finding]:
    """What the runs that train on GPUs ask for, beside what the machine has.

    Args:
        models: the table of base models.
        folder: of the prepared models.
        importable: from a package's name to why it cannot be used on this machine; None where it can.
    """
    runs = {name: run for name, run in runs.items() if run.training.gpus}
    if not runs:
        return []
    most = max(run.training.gpus for run in runs.values())
    asking = _named(name for name, run in runs.items() if run.training.gpus > len(machine.gpus))
    found = ", ".join(gpu.name for gpu in machine.gpus) or machine.problem
    if asking:
        there = f"there is only {found}" if machine.gpus else machine.problem
        fault = f"training.gpus is up to {most} for {asking}, but {there}: {_instead(runs.values())}"
        return [Finding("GPUs", str(most), found, fault)]
    findings = [Finding("GPUs", str(most), found)]
    # Trainings take those that no other job holds, which are likely the emptiest.
    machine = replace(machine, gpus=tuple(sorted(machine.gpus, key=lambda gpu: -gpu.free_mb)[:most]))
    least = min(gpu.capability for gpu in machine.gpus)
    findings.append(_capability(least, machine.architectures))
    findings += _bfloat16(runs, least)
    findings += _memory(runs, machine, models, folder)
    if compiling := [name for name, run in runs.items() if uses_triton(run)]:
        findings.append(_package(COMPILER, compiling, importable, WITHOUT_COMPILER))
    if quantised := [name for name, run in runs.items() if uses_bitsandbytes(run)]:
        advice = "install it, or set model.quantization to 'none' and training.optim to 'adamw_torch'"
        findings.append(_package("bitsandbytes", quantised, importable, advice))
    if unsloth := [name for name, run in runs.items() if uses_unsloth(run)]:
        findings.append(_package("unsloth", unsloth, importable, WITHOUT_UNSLOTH))
    return findings


def uses_bitsandbytes(run: Any) -> bool:
    """Whether a run keeps its weights in 4 bits or its optimiser's states in 8."""
    return getattr(run.model, "quantization", "none") == "nf4" or "8bit" in getattr(run.training, "optim", "")


def uses_triton(run: Any) -> bool:
    """Whether a run compiles kernels as it trains."""
    return uses_unsloth(run) or getattr(run.training, "torch_compile", False)


def _instead(runs: Iterable[Any]) -> str:
    """How these runs train without a GPU."""
    runs = list(runs)
    changes = ["training.gpus to 0"]
    if any(map(uses_unsloth, runs)):
        changes.append("backend to 'transformers'")
    if any("float16" in precisions(run).values() for run in runs):
        changes.append("model.compute_dtype or training.precision from 'float16' to 'bfloat16'")
    return f"set {' and '.join(changes)} to train on the CPU"


def precisions(run: Any) -> dict[str, str]:
    """Key to value of what a run says of the type of its matrix products."""
    if hasattr(run.model, "compute_dtype"):
        return {"model.compute_dtype": run.model.compute_dtype}
    return {"training.precision": run.training.precision}


def _capability(least: tuple[int, int], architectures: tuple[str, ...]) -> Finding:
    found = "{}.{}".format(*least)
    fault = None
    if not built_for(least, architectures):
        fault = f"this torch has no code for compute capability {found}; use a newer GPU, or {ON_THE_CPU}"
    return Finding("compute capability", f"one of {' '.join(architectures)}" if architectures else "any", found, fault)


def _bfloat16(runs: Runs, least: tuple[int, int]) -> list[Finding]:
    using = {name: key for name, run in runs.items() for key, value in precisions(run).items() if value == "bfloat16"}
    if not using:
        return []
    fault = None
    if least < BFLOAT16_CAPABILITY:
        keys = " and ".join(sorted(set(using.values())))
        fault = f"this GPU has no bfloat16, which {_named(using)} use: set {keys} to 'float16', or {ON_THE_CPU}"
    return [Finding("bfloat16", _counted(using), "no" if fault else "yes", fault)]


def _memory(runs: Runs, machine: Machine, models: Mapping[str, ModelEntry], folder: Path) -> list[Finding]:
    """Runs whose model or data has no known shape yet are left out."""
    estimates = {name: mb for name, run in runs.items() if (mb := _device_mb(run, models, folder)) is not None}
    if not estimates:
        return []
    free = min(gpu.free_mb for gpu in machine.gpus)
    most = max(estimates, key=estimates.get)
    large = [name for name, megabytes in estimates.items() if megabytes > USABLE * free]
    fault = None
    if large:
        of_language_models = (
            ", set training.gradient_checkpointing to true or model.quantization to 'nf4'"
            if any(hasattr(runs[name], "base_model") for name in large)
            else ""
        )
        fault = (
            f"{_named(large)} will need up to {estimates[most] / 1024:.1f} GB, and {free / 1024:.1f} GB are free: "
            "lower training.per_device_train_batch_size or the length of a row"
            f"{of_language_models}, or {ON_THE_CPU}"
        )
    total = min(gpu.total_mb for gpu in machine.gpus)
    found = f"{free / 1024:.1f} of {total / 1024:.1f} GB free"
    return [Finding("memory of a GPU", f"{estimates[most] / 1024:.1f} GB ({most})", found, fault)]


def _device_mb(run: Any, models: Mapping[str, ModelEntry], folder: Path) -> float | None:
    """MB of a GPU that a training needs, beside the share that `USABLE` leaves for gaps; None where it is not known."""
    if hasattr(run, "base_model"):
        estimate = needed(run, models[run.base_model], folder)
        return estimate and estimate.total
    data = data_shape(run.dataset, folder.parent / "prepared" / run.dataset / "summary.json")
    # `device_mb` has the gaps already.
    return data and USABLE * device_mb(run, data)


def _package(name: str, users: list[str], importable: Callable[[str], str | None], advice: str) -> Finding:
    problem = importable(name)
    fault = f"{name}, which {_named(users)} use, does not work here ({problem}): {advice}"
    return Finding(name, _counted(users), "no" if problem else "works", fault if problem else None)


#: What shows that a package works on a GPU.
TRIALS = {
    "bitsandbytes": "import torch, bitsandbytes.functional as f; f.quantize_4bit(torch.ones(64, 64, device='cuda'))",
    "unsloth": "import unsloth",
    COMPILER: "import os, shutil, sysconfig\n"
    "assert os.environ.get('CC') or any(map(shutil.which, ('gcc', 'clang'))), 'no gcc, no clang, and no CC'\n"
    "assert os.path.exists(sysconfig.get_path('include') + '/Python.h'), 'no Python.h'",
}


def trial(package: str) -> str | None:
    """Why a package cannot be used on this machine's GPU, tried in a process of its own; None where it can."""
    result = subprocess.run([sys.executable, "-c", TRIALS[package]], capture_output=True, text=True)
    lines = result.stderr.strip().splitlines()
    return None if result.returncode == 0 else (lines[-1] if lines else f"exit code {result.returncode}")


def disk_finding(
    datasets: Mapping[str, DatasetEntry],
    models: Mapping[str, ModelEntry],
    data: Path,
    free: int | None = None,
    checkpoints: Mapping[str, int] | None = None,
) -> Finding:
    """The space that is left beside what is still to be fetched and the largest checkpoints, as far as sizes are known.

    Args:
        datasets: those that a study uses and does not have.
        models: likewise.
        data: the folder that takes them; it need not exist yet.
        free: bytes; None looks.
        checkpoints: training -> bytes of its checkpoints, beside the data. They go when it ends.
    """
    wanted = sum(map(dataset_bytes, datasets.values())) + sum(model_bytes(name, models[name]) for name in models)
    largest = max(checkpoints or {}, key=lambda name: checkpoints[name], default=None)
    wanted += checkpoints[largest] if largest else 0
    if free is None:
        free = shutil.disk_usage(next(folder for folder in (data, *data.absolute().parents) if folder.exists())).free
    fault = None
    if wanted > free:
        fault = (
            f"{_named([*datasets, *models, *([f'checkpoints of {largest}'] if largest else [])])} will take about "
            f"{wanted / GB:.1f} GB in {data}/{' and checkpoints/' if largest else ''}, where {free / GB:.1f} GB "
            "are free: make room, or run in a folder of a larger disk: snakemake --directory <folder>"
        )
    return Finding("disk space", f"about {wanted / GB:.1f} GB", f"{free / GB:.1f} GB", fault)


def dataset_bytes(entry: DatasetEntry) -> int:
    """Bytes on disk of a data set, from its archive's; 0 where that is not known."""
    sizes = [source.size for source in entry.sources if isinstance(source, FileSource) and source.size]
    return UNPACKED * sizes[0] if sizes else 0


def model_bytes(name: str, entry: ModelEntry) -> int:
    """Bytes on disk of a model; 0 where its number of weights is not known, or small."""
    if any(isinstance(source, RandomSource) for source in entry.sources):
        return 0
    weights = entry.parameters or (base_parameters(SimpleNamespace(**SHAPES[name])) if name in SHAPES else 0)
    return BYTES_A_WEIGHT * weights


def memory_finding(needs: Mapping[str, int], limit_mb: int, by_user: bool) -> Finding:
    """The memory that the largest job needs, beside the limit of all jobs that run at the same time.

    Args:
        needs: MB (2^20 bytes) of each job to come, by its name.
        limit_mb: the limit.
        by_user: whether the user has set it, by --resources mem_mb; or it is what the machine has free.
    """
    largest = max(needs, key=needs.__getitem__, default="")
    most = needs.get(largest, 0)
    fault = None
    if most > limit_mb:
        others = sum(need > limit_mb for need in needs.values()) - 1
        more = f" (and {others} more job{'s' * (others > 1)} too much)" if others else ""
        found = f"--resources mem_mb={limit_mb} allows less" if by_user else f"only {limit_mb} MB are free here"
        fault = (
            f"{largest} needs about {most} MB of memory{more}, but {found}: "
            + ("raise it, " if by_user else "end other programs, ")
            + "lower per_device_train_batch_size or evaluation.batch_size, take a smaller base_model"
            + ("" if by_user else f", or try it all the same with --resources mem_mb={most}")
        )
    return Finding("memory of a job", f"{most} MB ({largest})" if needs else "0 MB", f"{limit_mb} MB", fault)


def token_findings(models: Mapping[str, ModelEntry]) -> list[Finding]:
    """Whether there is an access token for each gated model among those that are still to be fetched."""
    messages = {name: missing_token(entry) for name, entry in models.items() if entry.gated}
    return [
        Finding("access token", name, "no" if message else "yes", message and f"config/models.yaml: {name}: {message}")
        for name, message in messages.items()
    ]


def unsloth_finding(users: list[str]) -> Finding:
    """Whether unsloth is there for runs whose environment is this Python's."""
    found = find_spec("unsloth") is not None
    fault = f"unsloth, with which {_named(users)} train, is not installed here: {WITHOUT_UNSLOTH}"
    return Finding("unsloth", _counted(users), "yes" if found else "no", None if found else fault)


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _counted(names: Collection[str]) -> str:
    return f"{len(names)} run{'s' * (len(names) != 1)}"


def as_table(findings: Iterable[Finding]) -> str:
    """The findings as aligned text."""
    rows = [("", "needed", "found", "")]
    rows += [(f.what, f.needed, f.found, "NO" if f.fault else "ok") for f in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def demand(findings: Iterable[Finding]) -> None:
    """Raise what is wrong, all of it.

    Raises:
        FrugalError: a finding has a fault.
    """
    faults = [finding.fault for finding in findings if finding.fault]
    if faults:
        raise FrugalError("\nerror: ".join(faults))

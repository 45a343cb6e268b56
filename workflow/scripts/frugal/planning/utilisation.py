"""The share of a device's matmul peak that a job reaches: as measured in finished runs, or a stated default."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from frugal.config.devices import Device
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.kinds import LANGUAGE_MODELING, PREFERENCE, RECOMMENDATION
from frugal.planning.work import Job, family, language_model_slowdown
from frugal.run.outputs import load_run

#: Adapters of language models on GPUs: torchtune's README (December 2024) has .44 for Llama 3.2 3B on an A100, trained
#: as a whole on packed rows, and .56 compiled.
LANGUAGE_MODELS_ON_GPUS = 0.45
#: On CPUs, by kind and instruction set: in the laptop study, texts of Wikipedia, as the README has them, and
#: preferences, whose rows are short. The latter on AVX2 were not measured.
LANGUAGE_MODELS_ON_CPUS = {
    LANGUAGE_MODELING.name: {"AVX2": 0.61, "AVX-512 BF16": 0.53, "AMX": 0.21},
    PREFERENCE.name: {"AVX2": 0.45, "AVX-512 BF16": 0.38, "AMX": 0.11},
}
#: Recommenders: the share for each unit of the blocks' width, and at most. Measured with AVX-512 BF16: .08 at a width
#: of 16 and .39 at 80 (the laptop study), .60 at 768 (docs/explanation/benchmarks.md). On GPUs nothing was measured.
RECOMMENDERS_FOR_WIDTH, RECOMMENDERS_AT_MOST = 0.005, 0.6
#: Of that share, what trainings of adapters alone reach: the laptop study's `lora` and `ilora`, .20 to .23 for .32.
ADAPTERS_OF_RECOMMENDERS = 0.65
RECOMMENDERS_ON_GPUS = 0.3
#: A model with more times as many weights, or as few, tells nothing of another.
FARTHEST = 4


@dataclass(frozen=True)
class Share:
    """Of the matmul peak, without what slows a step down; and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Measured:
    """What a finished training reached.

    Attributes:
        run: its folder.
        hardware: the GPU's name, or the CPU's instruction set.
        share: as in its record, times its slowdown.
    """

    run: str
    kind: str
    family: str
    weights: int
    hardware: str
    share: float


def measured_runs(root: Path) -> list[Measured]:
    """The finished trainings below ``root``/results; files that cannot be read count for nothing.

    A run's metrics.json has its training record, training.json, and the hardware.
    """
    found = []
    for file in sorted(root.glob("results/*/*/*/metrics.json")):
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError, FrugalError):
            record = read_json(file)
            training, hardware = record["training"], record["provenance"]["hardware"]
            run = load_run(file.parent / "config.yaml")
            of_recommender = run.kind == RECOMMENDATION.name
            share = float(training["matmul_peak_share"])
            if not 0 < share < math.inf:
                continue
            on_gpu = training.get("device", "cuda" if run.training.gpus else "cpu") != "cpu"
            found.append(
                Measured(
                    run=str(file.parent.relative_to(root)),
                    kind=run.kind,
                    family=family(run),
                    weights=int(training["parameters"]),
                    hardware=hardware["gpus"][0]["name"] if on_gpu else hardware["instructions"],
                    share=share * (1.0 if of_recommender else language_model_slowdown(run)),
                )
            )
    return found


def share_of(job: Job, width: int, device: Device, runs: Sequence[Measured]) -> Share:
    """The share that a job is expected to reach.

    Of finished trainings of the same kind and family on such a device those count that are nearest in their number of
    weights, within a factor of `FARTHEST`, and of several the median.

    Args:
        width: of a recommender's blocks.
    """
    same = [one for one in runs if (one.kind, one.family) == (job.kind, job.family) and _is(one.hardware, device)]
    distances = {one.run: abs(math.log(one.weights / job.weights)) for one in same}
    least = min(distances.values(), default=math.inf)
    if least <= math.log(FARTHEST):
        nearest = [one for one in same if distances[one.run] <= least + 0.02]
        return Share(median(one.share for one in nearest), f"measured: {', '.join(one.run for one in nearest)}")
    adapter = ADAPTERS_OF_RECOMMENDERS if job.family.endswith("lora") else 1.0
    return Share(adapter * default_share(job.kind, width, device), "default")


def default_share(kind: str, width: int, device: Device) -> float:
    """The share that is expected where nothing was measured; of recommenders, in training all of their weights."""
    gpu, recommender = device.kind == "gpu", kind == RECOMMENDATION.name
    if gpu:
        return RECOMMENDERS_ON_GPUS if recommender else LANGUAGE_MODELS_ON_GPUS
    if recommender:
        return min(RECOMMENDERS_AT_MOST, RECOMMENDERS_FOR_WIDTH * width)
    known: Mapping[str, float] = LANGUAGE_MODELS_ON_CPUS[kind]
    return known.get(device.recognised_by, min(known.values()))


def _is(hardware: str, device: Device) -> bool:
    """Whether a record's hardware is this device: an L4 is no L40S, and AVX-512 no AVX-512 BF16."""
    if device.kind == "cpu":
        return hardware == device.recognised_by
    words = hardware.replace("-", " ").split()
    wanted = device.recognised_by.replace("-", " ").split()
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words)))

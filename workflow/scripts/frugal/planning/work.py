"""One job of a study, and the time that it takes on a device."""

from dataclasses import dataclass, field
from typing import Any

from frugal.config.devices import Device
from frugal.planning.amounts import Unplannable
from frugal.run.gpus import AUTO

#: Seconds that a GPU needs to be given the kernels of one decoder layer, forward and backward: some 200 of 10 us. An
#: estimate; it decides where batches are small.
LAUNCH_SECONDS = 2e-3
#: Seconds of a process before its first step and after its last: libraries, model, saving. Measured on the laptop
#: study, AVX-512 BF16: 10 to 14.
START_SECONDS = 11.0
#: Share of a device's bandwidth that reading all weights for each generated token reaches. An estimate.
READING_SHARE = 0.6
#: Seconds of ranking for each score, beside the matmul: measured on one core of AVX-512 BF16, and an estimate on GPUs.
RANKING_SECONDS = {"cpu": 5e-8, "gpu": 5e-10}
#: How much longer a step takes with NF4 weights, which are dequantised at each use (torchtune's README, December 2024:
#: 1.28 on an RTX 4090, 1.02 on an A100), and with recomputation (the same: 1.27; `frugal.config.llm` for selective).
NF4_SLOWDOWN = 1.15
RECOMPUTATION_SLOWDOWN = {False: 1.0, True: 1.27, "selective": 1.15}


@dataclass(frozen=True)
class Work:
    """What a job computes.

    Attributes:
        flops: dtype -> FLOPs of its matmuls.
        slowdown: factor on their time.
        launches: decoder layers that one device is given, forward and backward.
        read_bytes: weights that are read for generated tokens.
        scores: that are ranked.
    """

    flops: dict[str, float]
    slowdown: float = 1.0
    launches: float = 0.0
    read_bytes: float = 0.0
    scores: float = 0.0


@dataclass(frozen=True)
class Job:
    """A training or an evaluation.

    Attributes:
        name: `<experiment>/<variant>`, of trainings of recommenders with their seed.
        stage: "training" or "evaluation".
        kind: of the experiment.
        family: of the model: only runs of the same one tell what share of a peak to expect.
        weights: number of the model's.
        after: names of jobs that come first, with their stages.
        devices: GPUs, or cores, that it uses.
        memory_mb, disk_mb: MB (2^20 bytes) of a device at the peak, on a CPU of the process; and of files.
        problem: why there is no plan for it; the rest is then empty.
    """

    name: str
    stage: str
    kind: str
    family: str
    weights: int = 0
    after: tuple[tuple[str, str], ...] = ()
    devices: int = 1
    work: Work = field(default_factory=lambda: Work({}))
    memory_mb: float = 0.0
    disk_mb: float = 0.0
    problem: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What `after` names."""
        return self.name, self.stage


def seconds(work: Work, device: Device, devices: int, share: float) -> tuple[float, float]:
    """Expected time of a job's loop, and of all of it with its start.

    Args:
        devices: GPUs or cores that share the work evenly.
        share: of the matmul peak that it reaches.
    """
    peaks = {dtype: device.peak_tflops[dtype] * 1e12 * devices for dtype in work.flops}
    loop = sum(flops / peaks[dtype] for dtype, flops in work.flops.items()) * work.slowdown / share
    if device.kind == "gpu":
        loop += work.launches * LAUNCH_SECONDS
    loop += work.read_bytes / (READING_SHARE * device.bandwidth_gb_s * 1e9 * devices)
    loop += work.scores * RANKING_SECONDS[device.kind] / devices
    return loop, loop + START_SECONDS


def language_model_slowdown(run: Any) -> float:
    """Factor on a training step's time that the run's savings of memory cost."""
    nf4 = NF4_SLOWDOWN if run.model.quantization == "nf4" else 1.0
    return nf4 * RECOMPUTATION_SLOWDOWN[run.training.gradient_checkpointing]


def dtype_on(setting: str, device: Device, key: str, narrow: bool = False) -> str:
    """The dtype of matmuls that a setting stands for on a device, as `frugal.run.device` chooses it.

    Args:
        key: of the setting, for the message.
        narrow: a recommender that gains nothing from bfloat16 on a CPU.

    Raises:
        Unplannable: the device does not compute in it.
    """
    peaks = device.peak_tflops
    if setting == "auto":
        if device.kind == "gpu":
            return "bfloat16" if "bfloat16" in peaks else "float16"
        return "bfloat16" if "bfloat16" in peaks and not narrow else "float32"
    if setting in peaks:
        return setting
    if device.kind == "cpu" and setting == "bfloat16":
        return "float32"  # emulated: computed so
    other = "float16" if device.kind == "gpu" else "bfloat16"
    raise Unplannable(f"{key} is {setting}, which {device.title} does not compute in: set it to '{other}' or 'auto'")


def on_device(run: Any, device: Device) -> Any:
    """The run with `training.gpus` as on this device: at least one of a GPU, none on a CPU."""
    asked = 1 if run.training.gpus == AUTO else run.training.gpus
    gpus = max(1, asked) if device.kind == "gpu" else 0
    return run.model_copy(update={"training": run.training.model_copy(update={"gpus": gpus})})


def family(run: Any) -> str:
    """What runs that reach a like share of the peak have in common: of a recommender architecture, layers, adapter."""
    if hasattr(run, "base_model"):
        return "decoder"
    layers = f"+{run.model.layers}" if run.model.layers != "transformer" else ""
    return run.model.architecture + layers + (f"+{run.adapter.method}" if run.adapter.method != "none" else "")

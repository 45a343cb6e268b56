"""The table of devices, config/devices.yaml: what `make plan` reckons with."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from frugal.config.base import Settings
from frugal.config.errors import nearest, validate
from frugal.config.originals import project_file
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError

DEVICES_FILE = Path("config/devices.yaml")

Positive = Annotated[float, Field(gt=0)]
Dtype = Literal["float32", "bfloat16", "float16"]


class Device(Settings):
    """A GPU, or one core of a class of CPUs."""

    title: str = Field(min_length=1)
    kind: Literal["gpu", "cpu"] = Field(description="What the other values are of: a GPU, or one core of a CPU.")
    peak_tflops: dict[Dtype, Positive] = Field(
        description="10^12 floating-point operations a second of dense matmuls, by dtype. A dtype that is not there is "
        "emulated on a CPU, in float32, and refused on a GPU."
    )
    memory_gb: Positive | None = Field(None, description="Of a GPU, in 2^30 bytes. Of a CPU it is the machine's.")
    bandwidth_gb_s: Positive = Field(description="10^9 bytes a second that are read from memory.")
    power_w: Positive = Field(description="Watts at full load.")
    recognised_by: str = Field(
        min_length=1,
        description="How a training record names it: a part of the GPU's name, or the CPU's instruction set.",
    )
    source: str = Field(min_length=1, description="Where the values come from.")

    @model_validator(mode="after")
    def _has_what_every_plan_needs(self) -> Self:
        if "float32" not in self.peak_tflops:
            raise ValueError("peak_tflops needs float32")
        if self.kind == "gpu" and self.memory_gb is None:
            raise ValueError("a GPU needs memory_gb")
        if self.kind == "cpu" and "float16" in self.peak_tflops:
            raise ValueError("peak_tflops: no training on a CPU uses float16; leave it out")
        return self


class DeviceTable(Settings):
    """The whole file."""

    devices: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")], Device] = Field(min_length=1)


def load_devices(file: Path | str | None = None) -> dict[str, Device]:
    """Name to device, in the file's order.

    Args:
        file: None: the project's own.

    Raises:
        FrugalError: the file cannot be read, or is faulty; one line for each fault.
    """
    file = project_file(DEVICES_FILE) if file is None else file
    return validate(DeviceTable, read_yaml(file), file=str(file)).devices


def find_device(devices: dict[str, Device], name: str) -> Device:
    """The device of this name, in capitals or not.

    Raises:
        FrugalError: there is none; the nearest names are offered, and then all.
    """
    if name.lower() not in devices:
        near = nearest(name.lower(), list(devices), "known")
        known = "" if near.startswith("; known") else f" Known: {', '.join(devices)}"
        raise FrugalError(f"{DEVICES_FILE}: there is no device '{name}'{near}{known}")
    return devices[name.lower()]

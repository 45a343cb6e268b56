"""What a study will take, before anything is downloaded: FLOPs, memory, disk, hours, energy and cost on a device."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from frugal.config.devices import Device, find_device, load_devices
from frugal.config.study import read_study
from frugal.errors import FrugalError, run_script
from frugal.files import write_json
from frugal.llm.memory.plan import USABLE
from frugal.planning.gpu_memory import gpu_memory, memory_lines
from frugal.planning.study import Plan, as_json, disk_of_inputs, plan_study
from frugal.planning.text import aligned, devices_table, jobs_table, size, totals_text
from frugal.planning.utilisation import measured_runs
from frugal.run.gpus import resolve_gpus
from frugal.run.resources import usable_cores

#: Class of CPU that is taken where the table has none for this machine's.
OTHER_CPUS = "cpu-avx2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config/full.yaml"), help="the study")
    parser.add_argument(
        "--device", default="", help="a name of config/devices.yaml; else the smallest GPU that fits, or this CPU"
    )
    parser.add_argument("--gpus", default="1", help="GPUs side by side")
    parser.add_argument("--cores", default="all", help="of a CPU; all: as many as this process may use")
    parser.add_argument("--price", default="", help="of a GPU's or core's hour, in any currency")
    parser.add_argument("--power", default="", help="watts of a GPU or core, instead of the table's")
    parser.add_argument("--json", type=Path, help="output: the same as JSON")
    args = parser.parse_args()
    price = number("--price", args.price, lambda value: value >= 0, "0 or more") if args.price else None
    power = number("--power", args.power, lambda value: value > 0, "above 0") if args.power else None
    gpus = whole("--gpus", args.gpus)
    cores = usable_cores() if args.cores == "all" else whole("--cores", args.cores)

    study, devices = read_study(args.configfile), load_devices()
    runs = measured_runs(Path())
    if power:
        devices = {name: device.model_copy(update={"power_w": power}) for name, device in devices.items()}
    on_gpus = any(resolve_gpus(run).training.gpus for one in study.experiments.values() for run in one.runs.values())

    def plan_on(device: Device) -> Plan:
        return plan_study(study, device, cores, runs, Path(), price)

    plans = {}
    if on_gpus and not args.device:
        plans = {name: plan_on(device) for name, device in devices.items() if device.kind == "gpu"}
        # Those that run most, of these the one with the least memory.
        name = min(plans, key=lambda one: (_impossible(plans[one]), devices[one].memory_gb))
        plan = plans[name]
    else:
        name = args.device or this_cpu(devices)
        plan, name = plan_on(find_device(devices, name)), name.lower()
    device = plan.device
    of_gpus = device.kind == "gpu"
    totals = plan.totals(gpus if of_gpus else cores)

    print(f"{study.name} on {name} ({device.title}, {device.power_w:g} W): expected, not measured.")
    print("share: of the matmul peak; from: measured in finished runs, or a stated default (docs/how-to/plan.md).\n")
    print(jobs_table(plan, price is not None))
    print(f"\n{totals_text(plan, totals, 'GPUs' if of_gpus else 'cores')}")
    inputs, unknown = disk_of_inputs(study)
    without = f", without {', '.join(unknown)}, whose sizes are not stated" if unknown else ""
    print(f"Data sets and base models take about {size(inputs / 2**20)} on disk{without}.")
    if of_gpus != on_gpus:
        print(f"The study itself trains on {'GPUs' if on_gpus else 'the CPU'}: set training.gpus for this device.")
    if plans:
        print(f"\nThe same study on each GPU of config/devices.yaml:\n\n{devices_table(plans, gpus)}")
    rows = gpu_memory(study, Path("data/models"))
    if rows:
        about = "Peak memory of trainings of language models on the study's devices, in GB of 2^30 bytes"
        print(f"\n{about}; one fits where it leaves {1 - USABLE:.0%} free.\n\n{aligned(memory_lines(rows), words=4)}")
    if args.json:
        write_json(args.json, as_json(plan, totals) | {"study": study.name, "name": name, "gpu_memory": rows})


def _impossible(plan: Plan) -> int:
    return len(plan.too_large) + len(plan.unplanned)


def this_cpu(devices: dict[str, Device]) -> str:
    """The entry for this machine's class of CPU."""
    from frugal.run.device import cpu_capabilities  # imports torch

    found = cpu_capabilities().instructions
    same = [name for name, device in devices.items() if device.kind == "cpu" and device.recognised_by == found]
    if not same:
        print(f"config/devices.yaml has no CPU with {found}, as this one: the plan is for {OTHER_CPUS}.")
    return same[0] if same else OTHER_CPUS


def number(option: str, text: str, fits: Callable[[float], bool], words: str) -> float:
    """A finite number.

    Raises:
        FrugalError: it is none, or does not fit.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and fits(value)):
        raise FrugalError(f"{option}: must be a number {words}, got '{text}'")
    return value


def whole(option: str, text: str) -> int:
    """A whole number from 1 to 100,000.

    Raises:
        FrugalError: it is none.
    """
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    if not 1 <= value <= 100_000:
        raise FrugalError(f"{option}: must be a whole number from 1 to 100000, got '{text}'")
    return value


if __name__ == "__main__":
    run_script(main)

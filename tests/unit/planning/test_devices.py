"""The table of devices: what it may say, and what is said of names that it does not have."""

from pathlib import Path

import pytest
import yaml

from frugal.config.devices import find_device, load_devices
from frugal.errors import FrugalError

DEVICES = load_devices()
T4 = yaml.safe_load(Path("config/devices.yaml").read_text())["devices"]["t4"]


def test_the_shipped_table_has_what_the_documentation_names():
    wanted = {"t4", "rtx-3090", "rtx-4090", "l4", "a100", "h100", "h200", "cpu-avx2", "cpu-avx512-bf16", "cpu-amx"}
    assert wanted <= DEVICES.keys()
    # A dtype of 16 bits is faster than float32, and a CPU's core weaker than any GPU.
    for device in DEVICES.values():
        assert all(peak >= device.peak_tflops["float32"] for peak in device.peak_tflops.values())
        assert (device.peak_tflops["float32"] < 1) == (device.kind == "cpu")
    assert "bfloat16" not in DEVICES["t4"].peak_tflops  # compute capability 7.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power_w": -70}, r"devices\.t4\.power_w: must be greater than 0, got -70"),
        ({"power_w": 0}, r"devices\.t4\.power_w: must be greater than 0, got 0"),
        ({"memory_gb": None}, r"devices\.t4: a GPU needs memory_gb"),
        ({"peak_tflops": {"float16": 65}}, r"devices\.t4: peak_tflops needs float32"),
        ({"peak_tflops": {"float32": 8, "int4": 1}}, r"devices\.t4\.peak_tflops\.int4.*must be 'float32'"),
        ({"kind": "cpu"}, r"devices\.t4: peak_tflops: no training on a CPU uses float16"),
        ({"powr": 70}, r"devices\.t4\.powr: unknown key; did you mean 'power_w'\?"),
    ],
)
def test_a_faulty_entry_is_named(tmp_path, change, message):
    file = tmp_path / "devices.yaml"
    file.write_text(yaml.safe_dump({"devices": {"t4": T4 | change}}))
    with pytest.raises(FrugalError, match=rf"devices\.yaml: {message}"):
        load_devices(file)


def test_an_unknown_device_is_refused_with_the_nearest_names():
    assert find_device(DEVICES, "H100") is DEVICES["h100"]
    with pytest.raises(FrugalError, match=r"there is no device 'h10O'; did you mean 'h100'\? Known: t4, "):
        find_device(DEVICES, "h10O")
    with pytest.raises(FrugalError, match=r"there is no device 'abacus'; known: t4, "):
        find_device(DEVICES, "abacus")

"""What a study asks of a machine, beside machines that torch describes as a test likes."""

import re
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import check_machine
from frugal import preflight
from frugal.config.base import plain
from frugal.config.registry import load_datasets, load_models
from frugal.config.study import dump_yaml, resolve
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.preflight import GPU, Finding, Machine, as_table, built_for, demand, gpu_findings, look_at_gpus
from frugal.run.hardware import memory_in_use

FULL = read_yaml("config/full.yaml")
MODELS = load_models("config/models.yaml")
DATASETS = load_datasets("config/datasets.yaml")
HOPPER = GPU("NVIDIA H200", (9, 0), 140000, 143000)
BUILT = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120", "compute_120")


def run(experiment, variant, **changes):
    """A run of the full study, with changes to its sections."""
    settings = resolve(FULL, experiment, variant, "full.yaml")
    return settings.model_copy(
        update={
            name: getattr(settings, name).model_copy(update=value) if isinstance(value, dict) else value
            for name, value in changes.items()
        }
    )


def findings(machine, runs, importable=lambda package: None):
    """Name of each line to the line."""
    found = gpu_findings(runs, machine, MODELS, Path("no-models"), importable)
    return {finding.what: finding for finding in found}


RUNS = {
    "movie_preference/tuned": run("movie_preference", "tuned"),
    "climate/tuned": run("climate", "tuned"),
    "bert4rec/85m": run("bert4rec", "85m"),
}


def test_a_machine_that_has_everything():
    found = findings(Machine((HOPPER,), BUILT), RUNS)
    assert [*found][:4] == ["GPUs", "compute capability", "bfloat16", "memory of a GPU"]
    assert [*found][4:] == ["C compiler", "bitsandbytes", "unsloth"]
    assert not [finding.fault for finding in found.values() if finding.fault]
    assert found["GPUs"].found == "NVIDIA H200"
    assert found["bfloat16"].needed == "2 runs"  # climate trains in float16, as its original did
    assert found["memory of a GPU"].needed.endswith("GB (movie_preference/tuned)")
    assert found["memory of a GPU"].found == "136.7 of 139.6 GB free"


def test_runs_on_the_cpu_ask_for_nothing():
    assert findings(Machine(), {"climate/tuned": run("climate", "tuned", training={"gpus": 0})}) == {}


def test_no_gpu_names_the_keys_and_the_way_without():
    machine = Machine(problem="torch 2.13.0+cpu was built for CPUs")
    (found,) = findings(machine, RUNS).values()
    assert found.fault == (
        "training.gpus is up to 1 for bert4rec/85m, climate/tuned, movie_preference/tuned, but torch 2.13.0+cpu was "
        "built for CPUs: set training.gpus to 0 and backend to 'transformers' and model.compute_dtype or "
        "training.precision from 'float16' to 'bfloat16' to train on the CPU"
    )
    (found,) = findings(machine, {"bert4rec/85m": RUNS["bert4rec/85m"]}).values()
    assert found.fault.endswith("set training.gpus to 0 to train on the CPU")


def test_too_few_gpus():
    runs = {"bert4rec/85m": run("bert4rec", "85m", training={"gpus": 2}), "climate/tuned": RUNS["climate/tuned"]}
    (found,) = findings(Machine((HOPPER,), BUILT), runs).values()
    assert found.needed == "2"
    assert "training.gpus is up to 2 for bert4rec/85m, but there is only NVIDIA H200: set training.gpus" in found.fault


@pytest.mark.parametrize(
    ("capability", "architectures", "runs_on_it"),
    [
        ((8, 6), ("sm_80",), True),
        ((8, 0), ("sm_86",), False),
        ((9, 0), ("sm_80",), False),
        ((9, 0), ("compute_80",), True),
        ((7, 0), BUILT, False),
        ((12, 1), BUILT, True),
        ((9, 0), ("sm_90a",), True),
        ((9, 0), (), True),  # torch does not say
        ((9, 4), ("gfx942",), True),  # AMD's are named otherwise
    ],
)
def test_code_for_an_architecture_runs_on_what_follows_it(capability, architectures, runs_on_it):
    assert built_for(capability, architectures) == runs_on_it


def test_an_old_gpu():
    found = findings(Machine((GPU("Tesla V100", (7, 0), 32000, 32500),), BUILT), RUNS)
    assert found["compute capability"].fault == (
        "this torch has no code for compute capability 7.0; use a newer GPU, or set training.gpus to 0 to train on the "
        "CPU"
    )
    assert found["bfloat16"].fault == (
        "this GPU has no bfloat16, which bert4rec/85m, movie_preference/tuned use: set model.compute_dtype and "
        "training.precision to 'float16', or set training.gpus to 0 to train on the CPU"
    )


def test_too_little_memory_is_held_against_what_is_free():
    small = GPU("NVIDIA RTX 4060", (8, 9), 7500, 8188)
    fault = findings(Machine((small,), BUILT), RUNS)["memory of a GPU"].fault
    assert fault.startswith("movie_preference/tuned will need up to ")
    assert "7.3 GB are free: lower training.per_device_train_batch_size" in fault
    assert "climate/tuned" not in fault
    taken = GPU("NVIDIA H200", (9, 0), 2000, 143000)
    assert "climate/tuned, movie_preference/tuned" in findings(Machine((taken,), BUILT), RUNS)["memory of a GPU"].fault


def test_gpus_that_no_training_takes_do_not_count():
    small = GPU("NVIDIA T400", (7, 5), 1500, 2000)
    found = findings(Machine((HOPPER, small), BUILT), RUNS)
    assert found["GPUs"].found == "NVIDIA H200, NVIDIA T400"
    assert not [finding.fault for finding in found.values() if finding.fault]
    taken = GPU("NVIDIA H200", (9, 0), 2000, 143000)  # by another study; trainings take the other one
    found = findings(Machine((taken, HOPPER), BUILT), RUNS)
    assert not [finding.fault for finding in found.values() if finding.fault]


def test_a_recommender_of_430_million_weights_needs_some_20_gb():
    """Weights with their states 6.4 GB, activations of 22 layers in 16 bits 14 GB, and what CUDA takes."""
    large = {"bert4rec/430m": run("bert4rec", "430m"), "bert4rec/85m": RUNS["bert4rec/85m"]}
    card = GPU("NVIDIA RTX 4090", (8, 9), 24000, 24564)
    found = findings(Machine((card,), BUILT), large)["memory of a GPU"]
    assert found.fault is None
    assert 20 < float(found.needed.split()[0]) < 23
    fault = findings(Machine((GPU("NVIDIA RTX 4080", (8, 9), 16000, 16376),), BUILT), large)["memory of a GPU"].fault
    assert fault.startswith("bert4rec/430m will need up to ")
    assert fault.endswith(
        "lower training.per_device_train_batch_size or the length of a row, or set training.gpus to 0 to train on the "
        "CPU"
    )


def test_memory_is_not_estimated_where_model_or_data_has_no_known_shape():
    mine = {"mine": MODELS["llama-3-8b"], **MODELS}
    unknown = run("climate", "tuned", base_model="mine")
    found = gpu_findings(
        {"climate/tuned": unknown, "bert4rec/85m": run("bert4rec", "85m", dataset="mine")},
        Machine((HOPPER,), BUILT),
        mine,
        Path("no-models"),
        lambda package: None,
    )
    assert "memory of a GPU" not in {finding.what for finding in found}


def test_packages_that_do_not_work():
    found = findings(Machine((HOPPER,), BUILT), RUNS, lambda package: f"No module named '{package}'")
    assert found["bitsandbytes"].fault == (
        "bitsandbytes, which climate/tuned, movie_preference/tuned use, does not work here (No module named "
        "'bitsandbytes'): install it, or set model.quantization to 'none' and training.optim to 'adamw_torch'"
    )
    assert "unsloth, which movie_preference/tuned use, does not work here" in found["unsloth"].fault
    assert "or set backend to 'transformers'" in found["unsloth"].fault


def test_only_packages_that_are_used_are_tried():
    plain_run = run("climate", "tuned", model={"quantization": "none"}, training={"optim": "adamw_torch", "gpus": 1})
    assert not {"bitsandbytes", "unsloth"} & set(findings(Machine((HOPPER,), BUILT), {"climate/tuned": plain_run}))
    eight_bits = run("climate", "tuned", model={"quantization": "none"})
    assert "bitsandbytes" in findings(Machine((HOPPER,), BUILT), {"climate/tuned": eight_bits})


def test_a_package_is_tried_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setitem(preflight.TRIALS, "unsloth", "import a_package_that_is_not_there")
    assert preflight.trial("unsloth") == "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"
    monkeypatch.setitem(preflight.TRIALS, "unsloth", "raise SystemExit(3)")
    assert preflight.trial("unsloth") == "exit code 3"
    monkeypatch.setitem(preflight.TRIALS, "unsloth", "import json")
    assert preflight.trial("unsloth") is None


class Cuda:
    """A stand-in for torch.cuda with these GPUs."""

    def __init__(self, *gpus):
        self.gpus = gpus

    def is_available(self):
        return bool(self.gpus)

    def device_count(self):
        return len(self.gpus)

    def get_device_properties(self, device):
        return self.gpus[device]

    def mem_get_info(self, device):
        return 2**30, self.gpus[device].total_memory

    def get_arch_list(self):
        return ["sm_90"]


def test_looking_at_gpus(monkeypatch):
    properties = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=2**31)
    monkeypatch.setattr(torch, "cuda", Cuda(properties, properties))
    assert look_at_gpus() == Machine((GPU("NVIDIA H200", (9, 0), 1024, 2048),) * 2, ("sm_90",))


def test_why_there_is_no_gpu(monkeypatch):
    class TooOld(Cuda):
        def is_available(self):
            warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old\nmore", stacklevel=1)
            return False

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch, "cuda", Cuda())
    assert look_at_gpus() == Machine(problem=f"torch {torch.__version__} was built for CPUs")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert look_at_gpus() == Machine(problem="no GPU is visible")
    monkeypatch.setattr(torch, "cuda", TooOld())
    assert look_at_gpus().problem == "CUDA initialization: The NVIDIA driver on your system is too old"


def test_disk_space_by_hand():
    models = {name: MODELS[name] for name in ("llama-3.2-1b", "smollm2-135m-instruct", "tiny-random-llama")}
    datasets = {name: DATASETS[name] for name in ("movielens-20m", "climate-reports")}
    wanted = 4 * (1_235_814_400 + 134_515_008) + 6 * 198_702_078  # the reports' size is not known
    enough = preflight.disk_finding(datasets, models, Path("data"), free=wanted)
    assert enough == Finding("disk space", "about 6.2 GB", "6.2 GB")
    fault = preflight.disk_finding(datasets, models, Path("data"), free=wanted - 1).fault
    assert fault == (
        "climate-reports, llama-3.2-1b, movielens-20m, smollm2-135m-instruct, tiny-random-llama will take about 6.2 GB "
        "in data/, where 6.2 GB are free: make room, or run in a folder of a larger disk: "
        "snakemake --directory <folder>"
    )


def test_the_largest_checkpoints_count_for_disk_space():
    checkpoints = {"train_recommender bert4rec/430m/1": 15 * 2**30, "train_recommender bert4rec/5m/1": 2**28}
    found = preflight.disk_finding({}, {}, Path("data"), free=14 * 2**30, checkpoints=checkpoints)
    assert found.needed == "about 15.0 GB"
    assert found.fault.startswith(
        "checkpoints of train_recommender bert4rec/430m/1 will take about 15.0 GB in data/ and che"
    )
    assert preflight.disk_finding({}, {}, Path("data"), free=15 * 2**30, checkpoints=checkpoints).fault is None


def test_a_compiler_is_tried(monkeypatch):
    assert preflight.trial("C compiler") in (None, "AssertionError: no Python.h")
    monkeypatch.setenv("PATH", "/nothing")
    monkeypatch.delenv("CC", raising=False)
    assert preflight.trial("C compiler") == "AssertionError: no gcc, no clang, and no CC"


def test_disk_space_is_looked_up_where_the_folder_will_be(tmp_path):
    free = shutil.disk_usage(tmp_path).free / 2**30
    found = preflight.disk_finding({}, {}, tmp_path / "not" / "there")
    assert float(found.found.removesuffix(" GB")) == pytest.approx(free, abs=1)
    assert found.fault is None


def test_tokens(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    models = {name: MODELS[name] for name in ("llama-3-8b", "tiny-random-llama")}
    (found,) = preflight.token_findings(models)
    assert (found.needed, found.found) == ("llama-3-8b", "no")
    assert found.fault.startswith("config/models.yaml: llama-3-8b: Llama 3 8B is gated")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert preflight.token_findings(models) == [Finding("access token", "llama-3-8b", "yes")]


def test_unsloth_in_this_python(monkeypatch):
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    fault = preflight.unsloth_finding(["movie_preference/tuned"]).fault
    assert fault == (
        "unsloth, with which movie_preference/tuned train, is not installed here: run Snakemake with --sdm conda, or "
        "set backend to 'transformers'"
    )
    monkeypatch.setattr(preflight, "find_spec", lambda name: name)
    assert preflight.unsloth_finding(["movie_preference/tuned"]).fault is None


def test_the_table_and_the_error():
    lines = [
        Finding("GPUs", "2", "none", "no GPU"),
        Finding("disk space", "1 GB", "20 GB"),
        Finding("x", "", "", "no x"),
    ]
    assert as_table(lines).splitlines() == [
        "            needed  found",
        "GPUs        2       none   NO",
        "disk space  1 GB    20 GB  ok",
        "x                          NO",
    ]
    with pytest.raises(FrugalError, match=r"^no GPU\nerror: no x$"):
        demand(lines)
    demand(lines[1:2])


@pytest.fixture
def check(monkeypatch, tmp_path):
    """Run the script on runs of the full study; returns the table that it wrote."""

    def call(*names):
        paths = []
        for name in names:
            paths.append(tmp_path / "results" / name / "config.yaml")
            paths[-1].parent.mkdir(parents=True)
            paths[-1].write_text(dump_yaml(plain(run(*name.split("/")))))
        output = tmp_path / "machine.txt"
        monkeypatch.setattr(sys, "argv", ["check_machine.py", "--runs", *map(str, paths), "--output", str(output)])
        check_machine.main()
        return output.read_text()

    return call


def test_the_script_writes_the_table(check, monkeypatch, capsys):
    monkeypatch.setattr(check_machine, "look_at_gpus", lambda: Machine((HOPPER,), BUILT))
    monkeypatch.setattr(check_machine, "trial", lambda package: None)
    text = check("climate/tuned", "bert4rec/85m")
    assert text == capsys.readouterr().out
    assert "memory of a GPU" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_script_stops_where_a_gpu_is_missing(check, tmp_path, capsys):
    with pytest.raises(FrugalError, match=r"training\.gpus is up to 1 for climate/tuned, but "):
        check("climate/tuned")
    assert "NO" in capsys.readouterr().out
    assert not (tmp_path / "machine.txt").exists()


@pytest.mark.parametrize("fault", [ModuleNotFoundError("nvidia-ml-py"), RuntimeError("no driver"), Exception("MIG")])
def test_training_goes_on_where_the_utilisation_is_not_known(monkeypatch, fault):
    def utilization():
        raise fault

    cuda = SimpleNamespace(is_available=lambda: True, memory_reserved=lambda: 3 * 2**20, utilization=utilization)
    monkeypatch.setattr(torch, "cuda", cuda)
    assert {name: value for name, value in memory_in_use().items() if name != "rss_mb"} == {"device_mb": 3.0}
    cuda.utilization = lambda: 87
    assert memory_in_use()["device_utilization"] == 87


def test_without_a_gpu_the_process_memory_alone_is_logged(monkeypatch):
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: False))
    assert [*memory_in_use()] == ["rss_mb"]


@pytest.mark.parametrize("path", [Path("Snakefile"), *sorted(Path("rules").glob("*.smk"))], ids=str)
def test_rules_write_by_snakemakes_logger_alone(path):
    """It may write from a thread of its own (the plugin `rich` does): `print` would write into its lines."""
    assert not re.search(r"\bprint\(|\bsys\.std(out|err)\b", path.read_text(encoding="utf-8"))


def test_the_memory_of_the_largest_job():
    needs = {"train_language_model climate/tuned": 2400, "train_recommender ssept/ssept/1": 560}
    assert preflight.memory_finding(needs, 2400, False).fault is None
    assert preflight.memory_finding({}, 100, False) == Finding("memory of a job", "0 MB", "100 MB")
    finding = preflight.memory_finding(needs, 2399, False)
    assert (finding.needed, finding.found) == ("2400 MB (train_language_model climate/tuned)", "2399 MB")
    assert finding.fault == (
        "train_language_model climate/tuned needs about 2400 MB of memory, but only 2399 MB are free here: end other "
        "programs, lower per_device_train_batch_size or evaluation.batch_size, take a smaller base_model, or try it "
        "all the same with --resources mem_mb=2400"
    )


def test_a_limit_of_the_users_that_several_jobs_pass():
    needs = {"a": 2400, "b": 560, "c": 501}
    assert preflight.memory_finding(needs, 500, True).fault == (
        "a needs about 2400 MB of memory (and 2 more jobs too much), but --resources mem_mb=500 allows less: raise it, "
        "lower per_device_train_batch_size or evaluation.batch_size, take a smaller base_model"
    )

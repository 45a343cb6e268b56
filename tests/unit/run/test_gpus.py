"""The number of GPUs that `gpus: auto` stands for, and the devices that jobs take, without a GPU."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from snakemake.resources import Resources

from frugal.config.errors import validate
from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.recommendation import RecommendationRun
from frugal.errors import FrugalError
from frugal.run import gpus, hardware, scheduler
from frugal.run.gpus import DECIDED, VISIBLE, auto_gpus, gpu_problem, reserve, resolve_gpus
from frugal.run.hardware import visible_gpus

SCRIPTS = Path("workflow/scripts")
#: Where a device is chosen and libraries are imported.
CHOOSING = ["frugal/llm/training.py", "frugal/recsys/command.py", "measure_memory.py", "measure_efficiency.py"]
CHOOSING += ["evaluate_language_model.py", "evaluate_preference.py", "evaluate_recommender.py", "rank_candidates.py"]
CHOOSING += ["frugal/recsys/recommending.py"]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine with a driver and a PyTorch for CUDA, whose trial succeeds, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in (VISIBLE, DECIDED, "SLURM_JOB_ID", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpus.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(gpus.metadata, "version", lambda name: "2.13.0+cu130")
    monkeypatch.setattr(gpus, "TRIAL", "pass")
    gpus._trial_problem.cache_clear()
    yield
    gpus._trial_problem.cache_clear()
    while gpus.HELD:
        os.close(gpus.HELD.pop())


def run(kind=LanguageModelingRun, training=None, **settings):
    data = {"dataset": "synthetic", "base_model": "synthetic", **settings}
    if kind is RecommendationRun:
        data.pop("base_model")
    return validate(kind, {**data, "training": {"gpus": "auto", **(training or {})}}, file="study.yaml")


def test_a_gpu_that_computes_is_usable():
    assert gpu_problem() is None
    assert auto_gpus() == 1


def test_why_none_is_usable(monkeypatch):
    monkeypatch.setattr(gpus, "TRIAL", "import sys; sys.exit('RuntimeError: The NVIDIA driver is too old')")
    assert gpu_problem() == "RuntimeError: The NVIDIA driver is too old"
    assert gpu_problem(same_python=False) is None
    gpus._trial_problem.cache_clear()
    monkeypatch.setattr(gpus.metadata, "version", lambda name: "2.13.0+cpu")
    assert gpu_problem() == "torch 2.13.0+cpu was built for CPUs"
    monkeypatch.setenv(VISIBLE, "-1")
    assert gpu_problem() == "CUDA_VISIBLE_DEVICES hides all GPUs"
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)
    monkeypatch.setattr(gpus, "Path", lambda path: SimpleNamespace(exists=lambda: False))
    assert gpu_problem() == "there is no NVIDIA driver"
    assert auto_gpus() == 0


def test_snakemake_decides_for_its_jobs(monkeypatch):
    monkeypatch.setenv(DECIDED, "0")
    assert auto_gpus() == 0
    monkeypatch.setattr(gpus, "gpu_problem", lambda: "none")
    monkeypatch.setenv(DECIDED, "1")
    assert auto_gpus() == 1


@pytest.mark.parametrize("kind", [LanguageModelingRun, RecommendationRun])
def test_auto_becomes_a_number_and_numbers_stay(kind):
    auto = run(kind)
    assert [resolve_gpus(auto, usable).training.gpus for usable in (0, 1, 2)] == [0, 1, 1]
    assert resolve_gpus(auto).training.gpus == 1
    assert auto.model_dump(mode="json")["training"]["gpus"] == "auto"  # what files and hashes have
    two = run(kind, {"gpus": 2})
    assert resolve_gpus(two, 0) is two


def test_weights_of_8_bits_stay_on_the_cpu():
    assert resolve_gpus(run(model={"quantization": "int8"}), 1).training.gpus == 0


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (LanguageModelingRun, {"training": {"gpus": "one"}}, "training.gpus: must be a number from 0 to 64, or 'auto'"),
        (LanguageModelingRun, {"training": {"gpus": True}}, "must be a number from 0 to 64, or 'auto', got True"),
        (LanguageModelingRun, {"training": {"nodes": 2}}, "gpus 'auto' is for one machine: with nodes 2, set gpus to"),
        (LanguageModelingRun, {"model": {"compute_dtype": "float16"}}, "or training.gpus to 1"),
        (RecommendationRun, {"training": {"precision": "float16"}}, "precision 'float16' needs a GPU: .*gpus to 1"),
        (LanguageModelingRun, {"backend": "unsloth"}, "backend 'unsloth' needs a GPU: set training.gpus to 1"),
    ],
)
def test_what_auto_does_not_fit(kind, settings, message):
    with pytest.raises(FrugalError, match=message):
        run(kind, **settings)


def flow(nodes=None, deploys=(), **limits):
    """Snakemake's workflow as the rules are read."""
    return SimpleNamespace(
        resource_settings=SimpleNamespace(cores=2, nodes=nodes),
        global_resources=Resources.parse(
            [f"{name}={value}" for name, value in limits.items()], allow_expressions=False
        ),
        deployment_settings=SimpleNamespace(deployment_method=deploys),
    )


def test_snakemakes_limit_of_gpus_counts(monkeypatch):
    asked = []
    monkeypatch.setattr(scheduler, "gpu_problem", lambda same_python: asked.append(same_python))
    assert [scheduler.gpus_of_auto(flow(**limits)) for limits in ({}, {"gpu": 1}, {"gpu": 4})] == [1, 1, 1]
    assert scheduler.gpus_of_auto(flow(gpu=0)) == scheduler.gpus_of_auto(flow(nodes=100)) == 0
    assert asked == [True, True, True]
    assert scheduler.gpus_of_auto(flow(deploys=["conda"])) == 1
    assert asked[-1] is False
    monkeypatch.setattr(scheduler, "gpu_problem", lambda same_python: "no driver")
    assert scheduler.gpus_of_auto(flow(gpu=1)) == 0


@pytest.mark.parametrize(
    ("value", "names"),
    [("0,1", ["0", "1"]), (" 2 , 0", ["2", "0"]), ("GPU-5,-1,3", ["GPU-5"]), ("", []), ("-1", [])],
)
def test_what_is_visible(monkeypatch, value, names):
    monkeypatch.setenv(VISIBLE, value)
    assert visible_gpus() == names


def test_without_a_choice_of_the_users_all_gpus_are_visible(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert visible_gpus() == ["0", "1", "2"]


def test_jobs_take_gpus_that_no_other_holds(monkeypatch):
    """A second lock of one process is refused like that of another process."""
    assert reserve(1, ["0", "1", "2"]) == ["0"]
    assert reserve(2, ["0", "1", "2"]) == ["1", "2"]
    assert reserve(1, ["0", "1", "2"]) == ["0"]  # all are held: two jobs share one, as the user has asked for
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # where "0" is another device
    assert reserve(1, ["0"]) == ["0"]
    assert len(gpus.HELD) == 4
    assert reserve(2, ["0"]) == ["0"]


def test_half_of_the_gpus_are_held():
    reserve(1, ["1"])
    assert reserve(2, ["0", "1", "2"]) == ["0", "2"]
    assert reserve(2, ["0", "1", "2", "3"]) == ["0", "3"]


def test_without_a_cache_the_first_are_taken(monkeypatch):
    monkeypatch.setattr(gpus, "user_cache", lambda name: None)
    assert reserve(1, ["0", "1"]) == reserve(1, ["0", "1"]) == ["0"]


def test_a_command_keeps_its_gpus(monkeypatch):
    """The inner command runs while the outer process, which has become a shell, still lives."""
    monkeypatch.setenv(VISIBLE, "3,4")
    own = f"{sys.executable} {SCRIPTS / 'reserve_gpus.py'} 1"
    show = f"sh -c 'echo ${VISIBLE}'"
    inner = f"echo ${VISIBLE}; {VISIBLE}=3,4 {own} {show}; echo done"
    result = subprocess.run([*own.split(), "sh", "-c", inner], capture_output=True, text=True)
    assert result.stdout.split() == ["3", "4", "done"], result.stderr
    result = subprocess.run([*own.split()[:-1], "3", "true"], capture_output=True, text=True)
    assert result.stderr == (
        "error: training.gpus is 3, but 2 GPUs are visible here; lower training.gpus, or set it to 0 to train on the "
        "CPU\n"
    )


@pytest.fixture
def cuda(monkeypatch):
    """torch.cuda of a machine with two GPUs, which sees what is visible when it is first asked."""
    started = []

    def count():
        if VISIBLE not in os.environ:
            return 2
        started[:] = started or [len([name for name in os.environ[VISIBLE].split(",") if name])]
        return started[0]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count() > 0)
    monkeypatch.setattr(torch.cuda, "device_count", count)
    return started


def test_two_jobs_take_two_gpus(cuda, monkeypatch):
    for name in ("0", "1"):
        assert hardware.choose_device(1) == "cuda:0"
        assert os.environ[VISIBLE] == name
        monkeypatch.delenv(VISIBLE)
        cuda.clear()


def test_the_gpu_of_the_scheduler_is_taken(cuda, monkeypatch):
    monkeypatch.setenv(VISIBLE, "1")
    assert hardware.choose_device(1) == "cuda:0"
    assert os.environ[VISIBLE] == "1"


def test_processes_of_torchrun_share_what_was_reserved_for_them(cuda, monkeypatch):
    monkeypatch.setenv(VISIBLE, "4,6")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert hardware.choose_device(2) == "cuda:1"
    assert (os.environ[VISIBLE], gpus.HELD) == ("4,6", [])


def test_cuda_that_was_used_too_early_is_noticed(cuda, monkeypatch):
    cuda.append(2)  # the trainer would put the model on both (DataParallel)
    monkeypatch.setenv(VISIBLE, "0,1")
    with pytest.raises(FrugalError, match="CUDA was in use before this process chose 1 of 2 GPUs; set CUDA_VISI"):
        hardware.choose_device(1)


def test_a_finished_model_is_asked_without_a_gpu(cuda, monkeypatch, capsys):
    monkeypatch.setenv(VISIBLE, "0")
    assert hardware.choose_any_device(1) == "cuda:0"
    assert hardware.choose_any_device(0) == "cpu"
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(VISIBLE, "")
    assert hardware.choose_any_device(1) == "cpu"
    assert "CUDA_VISIBLE_DEVICES hides all GPUs: the CPU computes the answers" in capsys.readouterr().err


def test_too_few_gpus(cuda, monkeypatch):
    monkeypatch.setenv(VISIBLE, "0")
    with pytest.raises(FrugalError, match=r"training\.gpus is 2, but 1 GPU is visible here"):
        hardware.choose_device(2)


@pytest.mark.parametrize("script", CHOOSING)
def test_the_device_is_chosen_before_libraries_are_imported(script):
    tree = ast.parse((SCRIPTS / script).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    calls = [(n.lineno, getattr(n.func, "id", "")) for n in nodes if isinstance(n, ast.Call)]
    chosen = [line for line, name in calls if name in ("choose_device", "choose_any_device")]
    imported = [n.lineno for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    imported += [line for line, name in calls if name == "load_trained"]  # which imports PEFT
    function = next(f for f in functions if f.lineno < chosen[0] <= f.end_lineno)
    assert chosen[0] < min(line for line in imported if function.lineno < line <= function.end_lineno)


def test_importing_the_scripts_uses_no_cuda():
    """Of what is imported before the device is chosen: each call of torch.cuda is counted."""
    count = """
import json, sys, torch
calls = []
def counted(name, function):
    return lambda *args, **kwargs: calls.append(name) or function(*args, **kwargs)
for module, names in [
    (torch.cuda, "is_available device_count init _lazy_init get_device_capability get_device_properties"),
    (torch._C, "_cuda_init _cuda_getDeviceCount"),
]:
    for name in names.split():
        if hasattr(module, name):
            setattr(module, name, counted(name, getattr(module, name)))
torch.cuda.is_available()
for name in sys.argv[1:]:
    __import__(name)
print(json.dumps(calls))
"""
    scripts = ["train_preference", "train_recommender", "train_language_model", "rank_candidates", "measure_memory"]
    scripts += ["evaluate_language_model", "evaluate_preference", "evaluate_recommender", "climb_memory_ladder"]
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS.resolve())}
    command = [sys.executable, "-c", count, *scripts, "measure_efficiency"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    calls = json.loads(result.stdout or "[]")
    # The first is the test's own, which shows that calls are counted.
    assert [name for name in calls if name != "_cuda_getDeviceCount"] == ["is_available"], result.stderr
    assert calls.count("_cuda_getDeviceCount") <= 1

"""What starts a training on several GPUs and machines, and what it asks the executor for."""

import re
import shlex

import pytest

pytestmark = pytest.mark.workflow
TARGETS = {
    "train_language_model": "results/{study}/climate/tuned/adapter",
    "train_preference": "results/{study}/movie_preference/tuned/adapter",
    "train_recommender": "results/{study}/ssept/ssept/seeds/1/model",
}


def planned(checkout, study: str, **training) -> dict[str, tuple[str, str]]:
    """Rule -> the resources and the command of its training in a study with such settings."""

    def change(experiments):
        for experiment in ("climate", "movie_preference", "ssept"):
            experiments[experiment]["training"] = {**experiments[experiment]["training"], **training}

    path = checkout.study(study, change)
    targets = [target.format(study=study) for target in TARGETS.values()]
    options = ("--dry-run", "--printshellcmds", "--resources", "gpu=4", "--configfile", path)
    result = checkout.snakemake(*options, "--", *targets)
    found = {}
    for rule in TARGETS:
        (job,) = re.findall(rf"^rule {rule}:\n(.*?\nShell command: .*?)$", result.stdout + result.stderr, re.M | re.S)
        found[rule] = re.search(r"resources: (.*)", job)[1], re.search(r"Shell command: (.*)", job)[1]
    return found


def test_one_process(checkout):
    for resources, command in planned(checkout, "one", gpus=1).values():
        assert "gpu=1" in resources
        assert not re.search("nodes=|tasks=|mpi=|gres=", resources)
        assert re.match(r"OMP_NUM_THREADS=\d+ python workflow/scripts/train_", command)


def test_a_process_for_each_gpu(checkout):
    for resources, command in planned(checkout, "four", gpus=4).values():
        assert "gpu=4" in resources
        assert re.search(r"(^|, )nodes=1(,|$)", resources)  # SLURM would spread --gpus=4 over several
        launched = " python workflow/scripts/reserve_gpus.py 4 torchrun --standalone --nproc_per_node=4 "
        assert f"{launched}workflow/scripts/train_" in command


def test_a_torchrun_on_each_machine(checkout):
    for resources, command in planned(checkout, "machines", gpus=4, nodes=2).values():
        for resource in ("nodes=2", "tasks=2", "mpi=srun", "gres=gpu:4", "gpu=0"):
            assert re.search(rf"(^|, ){resource}(,|$)", resources), resource
        assert " srun --nodes=2 --ntasks-per-node=1 " in command
        assert " torchrun --nnodes=2 --nproc_per_node=4 " in command


def test_several_machines_need_slurm(smoke):
    def change(experiments):
        experiments["ssept"]["variants"] = {"ssept": {"training": {"nodes": 2}}}

    study = smoke.study("nobody", change)
    result = smoke.snakemake("--configfile", study, "--", "results/nobody/ssept/ssept/seeds/1/model", check=False)
    assert result.returncode == 1
    assert "training.nodes above 1 needs SLURM: --workflow-profile profiles/slurm" in result.stdout + result.stderr


def test_a_path_with_a_blank_stays_one(checkout):
    weights = checkout.folder / "my weights/it's.safetensors"
    weights.parent.mkdir()
    weights.touch()

    def change(experiments):
        experiments["ssept"]["variants"] = {"ssept": {"warm_start": {"path": f"{weights.parent.name}/{weights.name}"}}}

    study = checkout.study("warm", change)
    plan = checkout.snakemake("-n", "-p", "--configfile", study, "--", "results/warm/ssept/ssept/seeds/1/model")
    (command,) = re.findall(r"^Shell command: (.*train_\w+\.py.*)$", plan.stdout + plan.stderr, re.M)
    words = shlex.split(command)
    assert words[words.index("--warm-start") + 1] == "my weights/it's.safetensors"

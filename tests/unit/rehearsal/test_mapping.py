"""A rehearsal is the study in other sizes: what is mapped, what stays, and what it cannot show."""

import pytest

from frugal.config.study import load_study, read_study
from frugal.config.yaml_files import read_yaml
from frugal.kinds import BASE
from frugal.rehearsal.mapping import first_and_last, map_experiments, narrow, not_rehearsed, on_cpu

FULL = "config/full.yaml"
WORKSTATION = "config/workstation.yaml"


@pytest.fixture(scope="module")
def full():
    return read_study(FULL)


@pytest.fixture(scope="module")
def mapped(full):
    return map_experiments(full, read_yaml(FULL))


@pytest.mark.parametrize(("width", "narrowed"), [(768, 48), (1152, 72), (100, 8), (160, 8), (256, 16), (8, 8)])
def test_a_width_is_a_sixteenth_that_heads_can_cut(width, narrowed):
    assert narrow(width) == narrowed


def test_a_list_keeps_its_ends():
    assert first_and_last(["a", "b", "c"]) == ["a", "c"]
    assert first_and_last(["a"]) == ["a"]


@pytest.mark.parametrize(
    ("mode", "there"),
    [
        ("float16", "bfloat16"),
        ("float16+compile", "bfloat16"),
        ("bfloat16+ilora", "bfloat16+ilora"),
        ("float32", "float32"),
    ],
)
def test_modes_of_a_gpu_become_those_of_a_cpu(mode, there):
    assert on_cpu(mode) == there


@pytest.mark.parametrize("file", [FULL, WORKSTATION])
def test_the_mapped_study_is_valid_and_has_the_same_runs(file):
    study = read_study(file)
    experiments, _ = map_experiments(study, read_yaml(file))
    rehearsal = load_study({"study": "r", "experiments": experiments}, "r.yaml")
    for name, experiment in study.experiments.items():
        other = rehearsal.experiments[name]
        assert list(other.runs) == list(experiment.runs)
        assert other.script == experiment.script
        for run in other.runs.values():
            assert (run.training.gpus, run.training.nodes) == (0, 1)
    assert {tuple(run.seeds) for run in rehearsal.experiments["bert4rec"].runs.values()} == {(1, 2)}  # of 1, 2, 3


def test_every_change_is_recorded_with_what_was_before(full, mapped):
    changes = {change.key: (change.before, change.after) for change in mapped[1]}
    assert changes["experiments.movie_preference.backend"] == ("unsloth", "transformers")
    assert changes["experiments.climate.model.compute_dtype"] == ("float16", "auto")
    assert changes["experiments.climate.training.optim"] == ("paged_adamw_8bit", "adamw_8bit")
    assert changes["experiments.bert4rec.training.torch_compile"] == (True, False)
    assert changes["experiments.bert4rec.variants.430m.model.num_hidden_layers"] == (22, 2)
    assert changes["experiments.bert4rec.efficiency.sizes.430m.hidden_size"] == (1152, 72)
    assert changes["experiments.bert4rec.variants.lora.training.num_train_epochs"] == (20, 2)
    assert changes["experiments.bert4rec.efficiency.modes"][1] == ["float32", "bfloat16+ilora"]
    assert changes["experiments.climate.ladder.rungs"][1] == ["full", "chunked_loss"]
    assert changes["experiments.wikitext.corpus.max_train_tokens"] == (None, 32_768)
    # Every run differs from the study's by these alone.
    rehearsal = load_study({"study": "r", "experiments": mapped[0]}, "r.yaml")
    for name, experiment in full.experiments.items():
        for variant, run in experiment.runs.items():
            keys = [f"experiments.{name}", f"experiments.{name}.variants.{variant}"]
            recorded = {key.removeprefix(f"{start}.") for start in keys for key in changes if key.startswith(start)}
            assert differences(run.model_dump(), rehearsal.experiments[name].runs[variant].model_dump()) <= recorded


def differences(one: dict, other: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in one.items():
        if isinstance(value, dict) and isinstance(other[key], dict):
            found |= differences(value, other[key], f"{prefix}{key}.")
        elif value != other[key]:
            found.add(f"{prefix}{key}")
    return found


def test_layers_that_a_llama_has_not_become_all_its_linear_layers():
    phi = {"kind": "language_modeling", "title": "Phi", "dataset": "climate-chapters"}
    phi |= {"base_model": "tiny-random-llama"}
    data = {"study": "s", "experiments": {"phi": phi | {"lora": {"target_modules": ["qkv_proj", "o_proj"]}}}}
    experiments, changes = map_experiments(load_study(data, "s.yaml"), data)
    assert experiments["phi"]["lora"]["target_modules"] == "all-linear"
    assert data["experiments"]["phi"]["lora"]["target_modules"] == ["qkv_proj", "o_proj"]
    assert "experiments.phi.lora.target_modules" in {change.key for change in changes}


def test_what_cannot_be_rehearsed_is_what_the_study_asks_for(full):
    sentences = " ".join(not_rehearsed(full))
    for word in ("GPUs", "unsloth", "float16", "bfloat16", "Paged", "torch.compile", "access token"):
        assert word in sentences
    for word in ("NCCL", "trackers", "rating sheets"):
        assert word not in sentences
    smoke = " ".join(not_rehearsed(read_study("config/smoke.yaml")))
    for word in ("GPUs", "unsloth", "torch.compile", "float16:"):
        assert word not in smoke.replace("bfloat16:", "")
    assert BASE in full.experiments["wikitext"].runs

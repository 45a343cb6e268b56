"""`make plan`: which GPU each run needs, before anything is downloaded."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

import plan_memory
from frugal.errors import FrugalError
from frugal.files import read_json
from plan_memory import as_text, plan

MINE = {"mine": {"title": "Mine", "sources": [{"path": "/models/mine"}]}}


@pytest.fixture
def full_study(tmp_path):
    """The full study with changes to `movie_preference`."""

    def write(**changes):
        data = yaml.safe_load(Path("config/full.yaml").read_text())
        data["experiments"]["movie_preference"].update(changes)
        data["models"] = MINE
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return write


def row_of(rows, run="movie_preference/tuned"):
    (row,) = (row for row in rows if row["run"] == run)
    return row


def training(**changes):
    """The full study's settings of the training of `movie_preference`, with all logits at once, changed."""
    settings = yaml.safe_load(Path("config/full.yaml").read_text())["experiments"]["movie_preference"]["training"]
    return {**settings, "loss_chunk_tokens": None, **changes}


def test_the_full_study_is_planned_without_any_model(full_study, tmp_path):
    rows = plan(full_study(training=training(per_device_train_batch_size=1)), tmp_path / "no-models")
    assert all("unknown" not in row for row in rows)
    row = row_of(rows)
    assert (row["model"], row["method"], row["batch_size"], row["sequence_length"]) == ("llama-3-8b", "QLoRA", 1, 2048)
    # By hand: 6,979,321,856 linear weights at 4.127 bits, 1,050,939,392 others at 16, 41,943,040 adapters at 32:
    # 3.353 + 1.958 + 0.156 GB.
    assert row["gb"]["weights"] == pytest.approx(5.467, abs=0.006)
    assert row["gb"]["logits"] == pytest.approx(12 * 2048 * 128256 / 2**30, abs=0.006)
    assert row["fits"] == {"16": True, "24": True, "40": True, "80": True}


def test_a_larger_batch_does_not_fit_the_smaller_gpus(full_study, tmp_path):
    study = full_study(training=training(per_device_train_batch_size=8))
    row = row_of(plan(study, tmp_path))
    total = row["gb"]["total"]
    assert row["fits"] == {str(size): total <= 0.95 * size for size in (16, 24, 40, 80)}
    assert row["fits"]["80"]
    assert not row["fits"]["24"]


def test_a_prepared_model_is_read_from_its_folder(full_study, tmp_path, tiny_model_folder):
    (tmp_path / "mine").mkdir()
    shutil.copy(tiny_model_folder / "config.json", tmp_path / "mine")
    row = row_of(plan(full_study(base_model="mine"), tmp_path))
    assert row["gb"]["weights"] < 0.01
    # The same shape, drawn at random and not prepared yet
    assert row_of(plan(full_study(base_model="tiny-random-llama"), tmp_path))["gb"] == row["gb"]


def test_an_unknown_shape_is_a_row_that_says_how_to_get_it(full_study, tmp_path):
    rows = plan(full_study(base_model="mine"), tmp_path)
    assert row_of(rows)["unknown"] == "the shape of mine is not known before it is fetched: snakemake models"
    assert "mine is not known before it is fetched: snakemake models" in as_text(rows)


def test_a_model_that_no_table_has_is_named(full_study, tmp_path):
    with pytest.raises(FrugalError, match=r"movie_preference\.base_model: there is no model 'lama'"):
        plan(full_study(base_model="lama"), tmp_path)


def test_a_broken_configuration_is_named(full_study, tmp_path):
    (tmp_path / "llama-3-8b").mkdir()
    (tmp_path / "llama-3-8b" / "config.json").write_text("{")
    with pytest.raises(FrugalError, match=r"llama-3-8b/config\.json: not a model's configuration"):
        plan(full_study(), tmp_path)


def test_the_table_is_aligned():
    parts = dict.fromkeys(plan_memory.PARTS, 1.5)
    shared = {"method": "LoRA", "device": "GPU", "batch_size": 1, "sequence_length": 512}
    known = {"run": "wikitext/tuned", "model": "m", **shared, "gb": parts}
    known["fits"] = {"16": False, "24": True, "40": True, "80": True}
    other = {"run": "a/b", "model": "longer", **shared, "unknown": "its shape is not known"}
    head, first, second = as_text([known, other]).splitlines()
    assert first.startswith("wikitext/tuned  m       LoRA    GPU")
    assert second.startswith("a/b             longer  LoRA    GPU")
    assert head.index("16 GB") + len("16 GB") == first.index(" no") + len(" no")  # numbers stand right
    assert first.split()[-4:] == ["no", "fits", "fits", "fits"]


def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    output = tmp_path / "plan.json"
    monkeypatch.setattr(sys, "argv", ["plan_memory.py", "--models", str(tmp_path), "--json", str(output)])
    plan_memory.main()
    printed = capsys.readouterr().out
    assert "movie_preference/tuned" in printed
    assert "5% free" in printed
    assert read_json(output) == plan(Path("config/full.yaml"), tmp_path)

"""The training command of the language models, with everything faked that takes time."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from transformers import TrainerState

import train_climate
import train_language_model
import train_movie_preference
import train_wikitext
from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.llm import ModelSettings
from frugal.errors import FrugalError
from frugal.files import read_json, write_json, write_text
from frugal.llm import loading
from frugal.llm import training as training_module
from frugal.llm.loading import load_tokenizer
from frugal.preference.prompts import encode_example
from frugal.preference.records import to_jsonl
from frugal.run.checkpoints import EXIT_DEADLINE, DeadlineReached
from frugal.run.device import Capabilities

RECORDS = [{"instruction": "Choose.", "input": f"Liked: {n}.", "output": "Option A."} for n in range(3)]
BLOCKS = [{"input_ids": [1, 2, 3], "segment_lengths": [2, 1]}, {"input_ids": [4, 5, 6], "segment_lengths": [3]}]
SET = {"compute_dtype_reason": "set in the configuration"}
HEAVY = {"torch", "transformers", "trl", "peft", "unsloth"}


class Saved:
    """A model or tokenizer whose files are nothing but there."""

    def save_pretrained(self, folder, **options):
        Path(folder).mkdir(exist_ok=True)
        write_json(Path(folder) / "adapter_config.json", {"target_modules": ["v_proj", "q_proj"]})


class Command:
    """Runs a training script; ``calls`` are the arguments that `train_adapter` was given."""

    def __init__(self, folder: Path, monkeypatch, tokenizer):
        self.folder, self.monkeypatch, self.calls, self.reached = folder, monkeypatch, [], None
        monkeypatch.setattr(training_module, "keep_freed_memory", lambda keep: None)
        monkeypatch.setattr(training_module, "choose_device", lambda gpus: "cpu")
        monkeypatch.setattr(training_module, "train_adapter", self.train_adapter)
        monkeypatch.setattr(loading, "load_base_model", lambda *_: "model")
        monkeypatch.setattr(loading, "load_tokenizer", lambda *_: tokenizer)
        (folder / "base").mkdir()
        write_text(folder / "base/config.json", "{}")
        write_text(folder / "train.jsonl", to_jsonl(RECORDS))
        pd.DataFrame(BLOCKS).to_parquet(folder / "train.parquet")
        pd.DataFrame(BLOCKS[:1]).to_parquet(folder / "validation.parquet")

    def train_adapter(self, model, tokenizer, rows, run, checkpoints, name, validation):
        self.calls.append(
            {"rows": rows, "run": run, "checkpoints": checkpoints, "name": name, "validation": validation}
        )
        if self.reached:
            raise self.reached
        state = SimpleNamespace(log_history=[{"step": 1, "loss": 2.5}, {"step": 1, "train_runtime": 9.0}])
        return SimpleNamespace(model=Saved(), state=state), {"steps": 1, "examples": len(rows)}

    def run(self, script, run, *parts: str) -> int | None:
        write_json(self.folder / "config.yaml", run.model_dump(mode="json"))  # JSON is YAML too
        options = {"--config": "config.yaml", "--base-model": "base", "--checkpoints": "checkpoints"}
        options |= {"--adapter": "mine/tuned/adapter", "--history": "history.csv", "--training": "training.json"}
        options |= {f"--{part.partition('.')[0]}": part for part in parts}
        arguments = [str(part) for option, path in options.items() for part in (option, self.folder / path)]
        self.monkeypatch.setattr(sys, "argv", ["train", *arguments])
        return script.main()


@pytest.fixture
def training(tmp_path, monkeypatch, tiny_model_folder):
    tokenizer = load_tokenizer(tiny_model_folder)
    monkeypatch.setattr(type(tokenizer), "save_pretrained", Saved.save_pretrained)
    return Command(tmp_path, monkeypatch, tokenizer)


@pytest.fixture
def language_run():
    model = ModelSettings(compute_dtype="float32")
    return LanguageModelingRun(dataset="synthetic", base_model="tiny-random-llama", seed=3, model=model)


def test_pairs_become_rows_of_tokens(training, tiny_model_folder, make_run):
    assert training.run(train_movie_preference, make_run(), "train.jsonl") is None
    (call,) = training.calls
    tokenizer = load_tokenizer(tiny_model_folder)
    assert call["rows"] == [encode_example(tokenizer, record, 512) for record in RECORDS]
    assert (call["validation"], call["run"].seed) == (None, 3)
    assert call["name"] == "mine/tuned"
    counts = {"examples": 3, "shortened_histories": 0}
    assert read_json(training.folder / "training.json") == {"steps": 1, **counts, **SET}
    (line,) = (training.folder / "history.csv").read_text().splitlines()[1:]  # what has no loss is left out
    assert line.startswith("1,,2.5,")
    saved = read_json(training.folder / "mine/tuned/adapter/adapter_config.json")
    assert saved == {"target_modules": ["q_proj", "v_proj"]}  # PEFT keeps a set, in another order each time
    assert not (training.folder / "checkpoints").exists()


@pytest.mark.parametrize("script", [train_language_model, train_wikitext, train_climate])
def test_blocks_are_rows_of_tokens(training, language_run, script):
    assert training.run(script, language_run, "train.parquet", "validation.parquet") is None
    (call,) = training.calls
    assert (call["rows"], call["validation"]) == (BLOCKS, BLOCKS[:1])
    assert call["name"] == "mine/tuned"
    assert read_json(training.folder / "training.json") == {"steps": 1, "blocks": 2, **SET}


def test_only_blocks_have_a_part_for_validation(training, language_run, make_run, capsys):
    with pytest.raises(SystemExit):
        training.run(train_wikitext, language_run, "train.parquet")
    assert "required: --validation" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        training.run(train_movie_preference, make_run(), "train.jsonl", "validation.parquet")
    assert "unrecognized arguments: --validation" in capsys.readouterr().err


def test_lengths_beyond_the_models_positions_are_refused_before_training(training, language_run, make_run):
    write_json(training.folder / "base/config.json", {"max_position_embeddings": 256})
    with pytest.raises(FrugalError, match=r"model\.max_length is 512, but the model in .* has 256 positions"):
        training.run(train_movie_preference, make_run(), "train.jsonl")
    blocks = language_run.corpus.model_copy(update={"block_length": 128})
    whole = language_run.model_copy(update={"corpus": blocks})  # its windows have the 512 tokens of the default
    write_json(training.folder / "run.yaml", whole.model_dump(mode="json"))
    with pytest.raises(FrugalError, match=r"evaluation\.context_length is 512, but the model in .* has 256 positions"):
        training.run(train_wikitext, language_run, "train.parquet", "validation.parquet", "run.yaml")
    assert not training.calls


def test_unsloth_does_not_cut_blocks(training, language_run):
    model = language_run.model.model_copy(update={"max_length": 2})
    run = language_run.model_copy(update={"model": model, "backend": "unsloth"})
    training.monkeypatch.setattr(training_module, "load_run", lambda *_: run)
    with pytest.raises(
        FrugalError, match=r"model\.max_length is 2, and backend 'unsloth' would cut blocks of 3 tokens"
    ):
        training.run(train_wikitext, run, "train.parquet", "validation.parquet")


def test_a_deadline_has_its_own_exit_code_and_leaves_the_checkpoints(training, make_run, capsys):
    training.reached = DeadlineReached("SIGTERM", TrainerState(global_step=1, max_steps=4))
    assert training.run(train_movie_preference, make_run(), "train.jsonl") == EXIT_DEADLINE
    first, second = capsys.readouterr().err.splitlines(keepends=True)
    assert first == "mine/tuned: computes in float32 (set in the configuration)\n"
    assert second == "stopped by SIGTERM: saved at step 1 of 4; run again to continue\n"
    assert (training.folder / "checkpoints").is_dir()
    assert not (training.folder / "training.json").exists()


def test_settings_that_change_the_weights_name_the_checkpoints(training, make_run):
    for changes in ({}, {"logging_steps": 5, "save_steps": 7, "deadline_minutes": 1}, {"learning_rate": 0.02}):
        training.run(train_movie_preference, make_run(training=changes), "train.jsonl")
    first, watched, faster = (call["checkpoints"] for call in training.calls)
    assert first == watched != faster
    assert first.parent == training.folder / "checkpoints"


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_settled_where_the_training_runs(training, language_run, monkeypatch, native, dtype):
    """A checkpoint of one CPU is not continued on another one that computes in another type."""
    cpu = Capabilities("a CPU", native_bfloat16=native, native_int8=native)
    monkeypatch.setattr("frugal.run.device.cpu_capabilities", lambda: cpu)
    auto = language_run.model_copy(update={"model": ModelSettings(compute_dtype="auto")})
    for run in (auto, language_run):
        training.run(train_wikitext, run, "train.parquet", "validation.parquet")
    of_auto, of_float32 = training.calls
    assert of_auto["run"].model.compute_dtype == dtype
    assert (of_auto["checkpoints"] == of_float32["checkpoints"]) == (dtype == "float32")


def test_a_run_without_kernels_says_so_and_has_its_own_checkpoints(training, language_run, monkeypatch, capsys):
    training.run(train_wikitext, language_run, "train.parquet", "validation.parquet")
    monkeypatch.setenv("FRUGAL_KERNELS", "off")
    training.run(train_wikitext, language_run, "train.parquet", "validation.parquet")
    with_kernels, without = (call["checkpoints"] for call in training.calls)
    assert with_kernels != without
    assert "without kernels (FRUGAL_KERNELS=off)" in capsys.readouterr().err
    assert read_json(training.folder / "training.json")["kernels"] == "off"


@pytest.mark.parametrize(
    "script", ["train_movie_preference", "train_preference", "train_wikitext", "train_climate", "train_language_model"]
)
def test_nothing_is_imported_that_unsloth_patches(script):
    code = f"import sys, {script}; print(*sorted({HEAVY} & set(sys.modules)))"
    folder = Path(training_module.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""

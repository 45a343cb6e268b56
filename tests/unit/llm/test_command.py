"""The training command of the language models, with everything faked that takes time."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from transformers import TrainerState

import frugal.llm.training
import train_climate
import train_movie_preference
import train_wikitext
from frugal.config.language_modeling import LanguageModelingRun
from frugal.data.preference import to_jsonl
from frugal.files import read_json, write_json, write_text
from frugal.llm import command
from frugal.llm.loading import load_tokenizer
from frugal.llm.prompts import encode_example
from frugal.training import EXIT_DEADLINE, DeadlineReached

RECORDS = [{"instruction": "Choose.", "input": f"Liked: {n}.", "output": "Option A."} for n in range(3)]
BLOCKS = [{"input_ids": [1, 2, 3], "segment_lengths": [2, 1]}, {"input_ids": [4, 5, 6], "segment_lengths": [3]}]
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
        monkeypatch.setattr(command, "keep_freed_memory", lambda keep: None)
        monkeypatch.setattr(command, "choose_device", lambda gpus: "cpu")
        monkeypatch.setattr(frugal.llm.training, "load_for_run", lambda *_: ("model", tokenizer, "lora"))
        monkeypatch.setattr(frugal.llm.training, "train_adapter", self.train_adapter)
        monkeypatch.setattr(frugal.llm.training, "history_csv", lambda trainer: "step\n")
        (folder / "base").mkdir()
        write_text(folder / "base/config.json", "{}")
        write_text(folder / "train.jsonl", to_jsonl(RECORDS))
        pd.DataFrame(BLOCKS).to_parquet(folder / "train.parquet")
        pd.DataFrame(BLOCKS[:1]).to_parquet(folder / "validation.parquet")

    def train_adapter(self, model, tokenizer, rows, lora, training, settings, seed, checkpoints, name, **options):
        self.calls.append({"rows": rows, "seed": seed, "checkpoints": checkpoints, "name": name, **options})
        if self.reached:
            raise self.reached
        return SimpleNamespace(model=Saved()), {"steps": 1, "examples": len(rows)}

    def run(self, script, run, *parts: str) -> int | None:
        write_json(self.folder / "config.yaml", run.model_dump(mode="json"))  # JSON is YAML too
        options = {"--config": "config.yaml", "--base-model": "base", "--checkpoints": "checkpoints"}
        options |= {"--adapter": "tuned/adapter", "--history": "history.csv", "--training": "training.json"}
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
    return LanguageModelingRun(dataset="made-up", base_model="tiny-random-llama", seed=3)


def test_pairs_become_rows_of_tokens(training, tiny_model_folder, make_run):
    assert training.run(train_movie_preference, make_run(), "train.jsonl") is None
    (call,) = training.calls
    tokenizer = load_tokenizer(tiny_model_folder)
    assert call["rows"] == [encode_example(tokenizer, record, 512) for record in RECORDS]
    assert (call["validation"], call["packed"], call["seed"]) == (None, True, 3)
    assert call["name"] == "movie_preference/tuned"
    assert read_json(training.folder / "training.json") == {"steps": 1, "examples": 3}
    assert (training.folder / "history.csv").read_text() == "step\n"
    saved = read_json(training.folder / "tuned/adapter/adapter_config.json")
    assert saved == {"target_modules": ["q_proj", "v_proj"]}  # PEFT keeps a set, in another order each time
    assert not (training.folder / "checkpoints").exists()


@pytest.mark.parametrize(("script", "experiment"), [(train_wikitext, "wikitext"), (train_climate, "climate")])
def test_blocks_are_rows_of_tokens(training, language_run, script, experiment):
    assert training.run(script, language_run, "train.parquet", "validation.parquet") is None
    (call,) = training.calls
    assert (call["rows"], call["validation"]) == (BLOCKS, BLOCKS[:1])
    assert call["name"] == f"{experiment}/tuned"
    assert read_json(training.folder / "training.json") == {"steps": 1, "blocks": 2}


def test_only_blocks_have_a_part_for_validation(training, language_run, make_run, capsys):
    with pytest.raises(SystemExit):
        training.run(train_wikitext, language_run, "train.parquet")
    assert "required: --validation" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        training.run(train_movie_preference, make_run(), "train.jsonl", "validation.parquet")
    assert "unrecognized arguments: --validation" in capsys.readouterr().err


def test_a_deadline_has_its_own_exit_code_and_leaves_the_checkpoints(training, make_run, capsys):
    training.reached = DeadlineReached("SIGTERM", TrainerState(global_step=1, max_steps=4))
    assert training.run(train_movie_preference, make_run(), "train.jsonl") == EXIT_DEADLINE
    assert capsys.readouterr().err == "stopped by SIGTERM: saved at step 1 of 4; run again to continue\n"
    assert (training.folder / "checkpoints").is_dir()
    assert not (training.folder / "training.json").exists()


def test_what_is_learnt_names_the_checkpoints(training, make_run):
    for changes in ({}, {"logging_steps": 5, "save_steps": 7, "deadline_minutes": 1}, {"learning_rate": 0.02}):
        training.run(train_movie_preference, make_run(training=changes), "train.jsonl")
    first, watched, faster = (call["checkpoints"] for call in training.calls)
    assert first == watched != faster
    assert first.parent == training.folder / "checkpoints"


@pytest.mark.parametrize("script", ["train_movie_preference", "train_wikitext", "train_climate"])
def test_nothing_is_imported_that_unsloth_patches(script):
    code = f"import sys, {script}; print(*sorted({HEAVY} & set(sys.modules)))"
    folder = Path(command.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""

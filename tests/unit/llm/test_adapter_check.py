"""A saved adapter gives the loss that training had, in another process and by plain PEFT, or it is refused."""

import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import evaluate_language_model
import pack_blocks
import train_language_model
from frugal.config.llm import PROJECTIONS
from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.llm.adapter_check import check_adapter
from frugal.llm.evaluation import load_for_evaluation
from frugal.llm.loading import load_base_model, load_tokenizer
from frugal.llm.training import save_adapter, train_adapter

PLAIN = """
import sys, json, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, training = sys.argv[1:]
ids = torch.tensor([json.load(open(training))["check"]["tokens"]])
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
with torch.no_grad():
    print(model(input_ids=ids, labels=ids).loss.item())
"""


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """The folders of the adapters that were trained, by their settings: most tests need the same one."""
    folders = {}

    def trained(base, run):
        key = run.model_dump_json()
        if key not in folders:
            folder = tmp_path_factory.mktemp("trained")
            torch.manual_seed(0)  # few different tokens, so that the adapter learns something
            texts = [torch.randint(3, 9, (300,)).tolist() for _ in range(8)]
            rows = [{"input_ids": ids, "segment_lengths": [200, 100]} for ids in texts]
            model, tokenizer = load_base_model(base, run.model, "cpu"), load_tokenizer(base)
            trainer, record = train_adapter(model, tokenizer, rows, run, folder / "checkpoints", "test")
            save_adapter(trainer.model, tokenizer, folder / "adapter")
            write_json(folder / "training.json", record)
            assert record["check"]["tokens"] == rows[0]["input_ids"][:256]
            folders[key] = folder
        return folders[key]

    return trained


@pytest.fixture
def train(trainings, tiny_model_folder, make_run, tmp_path):
    """Train and save an adapter; the run, and a copy of the adapter's folder and of the training record's file."""

    def run_training(**changes):
        lora = {"target_modules": ["q_proj", "o_proj", "down_proj"]}
        run = make_run(lora=lora, training={"num_train_epochs": 6, "learning_rate": 0.03}, **changes)
        shutil.copytree(trainings(tiny_model_folder, run), tmp_path, dirs_exist_ok=True)
        return run, tmp_path / "adapter", tmp_path / "training.json"

    return run_training


def check(base, run, adapter, training):
    model, _, _ = load_for_evaluation(base, adapter, run, "cpu")
    return check_adapter(model, run.model, adapter, training)


@pytest.mark.parametrize(
    ("quantization", "compute_dtype", "layers"),
    [
        ("none", "float32", "transformers and peft"),
        ("none", "bfloat16", "transformers and peft"),
        ("nf4", "bfloat16", "transformers and peft"),
        ("int8", "float32", "frugal's 8-bit layers below peft"),
    ],
)
def test_the_adapter_that_was_trained_passes(train, tiny_model_folder, quantization, compute_dtype, layers):
    run, adapter, training = train(model={"quantization": quantization, "compute_dtype": compute_dtype})
    found = check(tiny_model_folder, run, adapter, training)
    assert (found["tokens"], found["layers"]) == (256, layers)
    assert abs(found["plain_loss"] - found["training_loss"]) <= found["tolerance"]
    # Otherwise the check would pass without any adapter.
    assert found["loss_without_adapter"] - found["plain_loss"] > 2 * found["tolerance"]


def test_plain_peft_in_another_process_gives_the_loss_of_training(train, tiny_model_folder):
    _, adapter, training = train()
    command = [sys.executable, "-c", PLAIN, tiny_model_folder, adapter, training]
    printed = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    assert float(printed) == pytest.approx(read_json(training)["check"]["loss"], rel=5e-5)


def scaled(weights, config):
    weights[next(name for name in weights if "down_proj.lora_B" in name)] *= 3


def exchanged(weights, config):
    first, second = [name for name in weights if "down_proj.lora_B" in name]
    weights[first], weights[second] = weights[second], weights[first]


def one_layer_untrained(weights, config):
    for name in [name for name in weights if "layers.1." in name and "lora_B" in name]:
        weights[name] = torch.zeros_like(weights[name])


def one_layer_missing(weights, config):
    for name in [name for name in weights if "layers.1." in name]:
        del weights[name]
    config["layers_to_transform"] = [0]  # so that no tensor is missing of what the configuration names


def other_alpha(weights, config):
    config["lora_alpha"] *= 2


@pytest.mark.parametrize("fault", [scaled, exchanged, one_layer_untrained, one_layer_missing, other_alpha])
def test_another_adapter_is_refused(train, tiny_model_folder, fault):
    run, adapter, training = train()
    file = adapter / "adapter_model.safetensors"
    weights, config = load_file(file), read_json(adapter / "adapter_config.json")
    fault(weights, config)
    save_file(weights, file, metadata={"format": "pt"})
    write_json(adapter / "adapter_config.json", config)
    expected = read_json(training)["check"]["loss"]
    with pytest.raises(FrugalError) as error:
        check(tiny_model_folder, run, adapter, training)
    text = str(error.value)
    assert text.startswith(f"{adapter}: is not the adapter that was trained: on 256 tokens its loss is ")
    assert f"in plain PEFT and was {expected:.5f} in training" in text


def test_a_record_without_a_loss_says_so(train, tiny_model_folder):
    run, adapter, training = train()
    record = read_json(training)
    del record["check"]
    write_json(training, record)
    assert check(tiny_model_folder, run, adapter, training) == {
        "left_out": "the training recorded no loss to compare with"
    }
    assert check_adapter(None, run.model, None, None) is None


def test_the_scripts_record_the_check_and_stop_before_they_score(tiny_model_folder, tmp_path, monkeypatch):
    run = {
        "kind": "language_modeling",
        "dataset": "synthetic",
        "base_model": "tiny-random-llama",
        "corpus": {"block_length": 32, "max_test_tokens": 40, "test_documents": 0.4, "validation_documents": 0.2},
        "model": {"quantization": "none", "compute_dtype": "float32"},
        "lora": {"r": 2, "target_modules": "all-linear"},
        "training": {"optim": "adamw_torch", "learning_rate": 0.03, "num_train_epochs": 4},
        "evaluation": {"context_length": 16, "stride": 8, "bootstrap_samples": 100},
    }
    write_json(tmp_path / "config.yaml", run)  # JSON is YAML too
    texts = [f"Text {n} has some words, and the words are few." for n in range(10)]
    columns = {"document": [f"d{n}" for n in range(10)], "text": texts, "split": [None] * 10}
    pd.DataFrame(columns).to_parquet(tmp_path / "documents.parquet")
    blocks, files = tmp_path / "blocks", tmp_path / "mine/tuned"

    def call(script, **options):
        monkeypatch.setattr(script, "keep_freed_memory", lambda: None, raising=False)
        options = {"config": tmp_path / "config.yaml", **options}
        parts = [str(part) for name, path in options.items() for part in (f"--{name.replace('_', '-')}", path)]
        monkeypatch.setattr(sys, "argv", ["script", *parts])
        assert script.main() is None

    monkeypatch.setattr("frugal.llm.training.keep_freed_memory", lambda keep: None)
    call(pack_blocks, documents=tmp_path / "documents.parquet", tokenizer=tiny_model_folder, output=blocks)
    trained = {"adapter": files / "adapter", "training": files / "training.json"}
    parts = {part: blocks / f"{part}.parquet" for part in ("train", "validation")}
    call(
        train_language_model,
        base_model=tiny_model_folder,
        checkpoints=tmp_path / "checkpoints",
        history=files / "history.csv",
        **parts,
        **trained,
    )
    outputs = {"metrics": files / "metrics.json", "documents": files / "documents.parquet"}
    evaluation = {"base_model": tiny_model_folder, "test": blocks / "test.parquet", **outputs, **trained}
    call(evaluate_language_model, answers=files / "answers.jsonl", **evaluation)
    found = read_json(files / "metrics.json")["training"]
    assert found["check"]["tokens"] == 32  # the first block
    assert found["check"]["plain_loss"] == pytest.approx(found["check"]["training_loss"], rel=5e-5)
    assert found["adapted_modules"] == found["linear_modules"] == dict.fromkeys(sorted(PROJECTIONS), 2)

    (files / "metrics.json").unlink()
    config = read_json(files / "adapter/adapter_config.json")
    write_json(files / "adapter/adapter_config.json", config | {"lora_alpha": 2 * config["lora_alpha"]})
    with pytest.raises(FrugalError, match="adapter: is not the adapter that was trained: on 32 tokens its loss is"):
        call(evaluate_language_model, answers=files / "answers.jsonl", **evaluation)
    assert not (files / "metrics.json").exists()

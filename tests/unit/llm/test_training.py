"""Training: its loss tokens, its output, and that an interruption changes nothing."""

import csv
import gc
import io
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from frugal.config.llm import LoraSettings
from frugal.errors import FrugalError
from frugal.files import atomic_path, sha256_file, write_json
from frugal.llm.loading import load_adapter, load_base_model, load_tokenizer
from frugal.llm.trainer import lora_config
from frugal.llm.training import HISTORY, train_adapter
from frugal.preference.prompts import encode_example
from frugal.run.checkpoints import SEAL, DeadlineReached, format_seconds, last_good_checkpoint, write_history
from frugal.run.hardware import choose_device

RECORDS = [{"instruction": "Choose.", "input": f"Liked: {n}.", "output": f"Option {'AB'[n % 2]}."} for n in range(16)]


@pytest.fixture
def train(tiny_model_folder, make_run):
    """Train the tiny model; returns the trainer and its record."""

    def run_training(checkpoints, validate=False, **changes):
        run = make_run(**changes)
        model = load_base_model(tiny_model_folder, run.model, choose_device(run.training.gpus))
        tokenizer = load_tokenizer(tiny_model_folder)
        examples = [encode_example(tokenizer, record, run.model.max_length) for record in RECORDS]
        return train_adapter(
            model, tokenizer, examples, run, checkpoints, "test", validation=examples[:2] if validate else None
        )

    return run_training


def adapter_weights(trainer, folder):
    with atomic_path(folder) as temporary:
        trainer.model.save_pretrained(temporary)
    return load_file(folder / "adapter_model.safetensors")


MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not list what a process has mapped")
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_quantised_weights_do_not_keep_the_file_in_memory(tiny_model_folder, make_run, quantization, compute_dtype):
    settings = make_run(model={"quantization": quantization, "compute_dtype": compute_dtype}).model
    before = MAPS.read_text().count(f"{tiny_model_folder}/")
    model = load_base_model(tiny_model_folder, settings, "cpu")
    gc.collect()
    assert MAPS.read_text().count(f"{tiny_model_folder}/") == before
    assert model.get_input_embeddings().weight.dtype == getattr(torch, compute_dtype)


def test_record_and_history_by_hand(train, tmp_path):
    trainer, record = train(tmp_path / "checkpoints")
    assert record["steps"] == 4  # 16 examples, 2 at a time, 2 accumulated
    assert record["examples"] == 16
    # r x (in + out) for q_proj (64 -> 64) and v_proj (64 -> 32), in 2 layers
    assert record["trainable_parameters"] == 2 * 2 * ((64 + 64) + (64 + 32))
    assert record["adapted_modules"] == {"q_proj": 2, "v_proj": 2}
    prompt_and_response = [
        len(f"### Instruction:\nChoose.\n\n### Input:\nLiked: {n}.\n\n### Response:\nOption A.") + 1 for n in range(16)
    ]
    assert record["tokens"] == sum(prompt_and_response)
    assert record["tokens_per_second"] == pytest.approx(record["tokens"] / record["seconds"], rel=0.05)
    assert 0 < record["matmul_peak_share"] < 1
    rows = list(csv.DictReader(io.StringIO(write_history(trainer.state.log_history[:4], HISTORY))))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[0]["loss"]) == pytest.approx(5.5, abs=1)  # ln 258, the loss of a random model
    assert int(rows[-1]["num_input_tokens_seen"]) == record["tokens"]


def test_only_the_adapter_is_trained(train, tmp_path, tiny_model_folder):
    trainer, _ = train(tmp_path / "checkpoints")
    base = load_file(tiny_model_folder / "model.safetensors")
    for name, weight in trainer.model.get_base_model().named_parameters():
        if "lora" in name:
            assert weight.requires_grad
        elif (key := name.replace(".base_layer", "")) in base:
            assert torch.equal(weight.detach(), base[key].float()), name


@pytest.mark.parametrize(
    ("optim", "model"),
    [
        ("adamw_torch", {}),
        ("adamw_8bit", {}),
        ("adamw_torch", {"quantization": "nf4"}),
        ("adamw_torch", {"quantization": "int8", "compute_dtype": "bfloat16"}),
        ("adamw_8bit", {"quantization": "nf4", "compute_dtype": "bfloat16"}),
    ],
)
def test_resumed_equals_uninterrupted(train, tmp_path, optim, model):
    whole, _ = train(tmp_path / "whole", model=model, training={"optim": optim})
    late = {"optim": optim, "deadline_minutes": 1e-9}
    with pytest.raises(DeadlineReached, match="step 1 of 4"):
        train(tmp_path / "pieces", model=model, training=late)
    with pytest.raises(DeadlineReached, match="step 2 of 4"):
        train(tmp_path / "pieces", model=model, training=late)
    pieces, record = train(tmp_path / "pieces", model=model, training={"optim": optim})
    first, second = adapter_weights(whole, tmp_path / "a"), adapter_weights(pieces, tmp_path / "b")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert record["steps"] == 4


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_short_walltimes_in_a_row_equal_one_long_one(train, tmp_path, monkeypatch, strategy):
    """Also in later epochs, whose order of rows and dropout are drawn again as they would have been."""
    changes = {"lora": {"lora_dropout": 0.2}, "training": {"num_train_epochs": 2, "train_sampling_strategy": strategy}}
    whole, _ = train(tmp_path / "whole", **changes)
    monkeypatch.setattr("frugal.run.checkpoints.seconds_left", lambda: 50)
    for step in range(1, 8):
        with pytest.raises(DeadlineReached, match=f"stopped by the job's time limit: saved at step {step} of 8"):
            train(tmp_path / "pieces", **changes)
    pieces, record = train(tmp_path / "pieces", **changes)
    first, second = adapter_weights(whole, tmp_path / "a"), adapter_weights(pieces, tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert record["tokens"] == whole.state.num_input_tokens_seen


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_validation_changes_nothing(train, tmp_path, quantization):
    model = {"quantization": quantization, "compute_dtype": "bfloat16"}
    plain, _ = train(tmp_path / "plain", model=model)
    validated, record = train(tmp_path / "validated", validate=True, model=model, training={"eval_steps": 1})
    first, second = adapter_weights(plain, tmp_path / "a"), adapter_weights(validated, tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [entry["eval_loss"] for entry in validated.state.log_history if "eval_loss" in entry]
    assert losses == sorted(set(losses), reverse=True)  # it learns from step to step
    assert record["best_eval_loss"] == record["final_eval_loss"] == losses[-1]


def test_a_broken_checkpoint_is_set_aside(train, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    whole, _ = train(checkpoints)
    assert last_good_checkpoint(checkpoints).name == "checkpoint-4"
    optimizer = checkpoints / "checkpoint-4" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:50])
    assert last_good_checkpoint(checkpoints).name == "checkpoint-2"
    assert list(checkpoints.glob("broken-checkpoint-4-*"))
    resumed, _ = train(checkpoints)
    first, second = adapter_weights(whole, tmp_path / "a"), adapter_weights(resumed, tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_any_damage_to_a_checkpoint_is_found(train, tmp_path, capsys):
    train(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved/checkpoint-4").iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json", SEAL} <= names
    for name in sorted(names):
        for kind in ("truncated", "flipped", "missing"):
            folder = tmp_path / f"{kind}-{name}"
            shutil.copytree(tmp_path / "saved", folder)
            file = folder / "checkpoint-4" / name
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content if kind == "flipped" else content[: len(content) // 2])
            if kind == "missing":
                file.unlink()
            assert last_good_checkpoint(folder).name == "checkpoint-2", (kind, name)
    assert "checkpoint-4 is unusable (adapter_model.safetensors is damaged); set aside" in capsys.readouterr().err


def test_a_checkpoint_is_worth_no_more_than_its_best_model(tmp_path):
    for step in (1, 2):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "rng_state.pth").write_text("")
        write_json(checkpoint / "trainer_state.json", {"best_model_checkpoint": str(tmp_path / "checkpoint-1")})
        write_json(checkpoint / SEAL, {path.name: sha256_file(path) for path in checkpoint.iterdir()})
    assert last_good_checkpoint(tmp_path).name == "checkpoint-2"
    assert last_good_checkpoint(tmp_path, processes=2) is None
    for path in tmp_path.iterdir():
        path.rename(tmp_path / path.name.removeprefix("broken-")[: len("checkpoint-1")])
    (tmp_path / "checkpoint-1/rng_state.pth").write_text("x")
    assert last_good_checkpoint(tmp_path) is None


@pytest.mark.parametrize("checkpointing", [True, "selective"])
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_recomputation_changes_nothing(train, tmp_path, compute_dtype, checkpointing):
    model = {"compute_dtype": compute_dtype}
    kept, _ = train(tmp_path / "kept", model=model)
    recomputed, _ = train(tmp_path / "recomputed", model=model, training={"gradient_checkpointing": checkpointing})
    assert [row["loss"] for row in recomputed.state.log_history if "loss" in row] == [
        row["loss"] for row in kept.state.log_history if "loss" in row
    ]
    expected = adapter_weights(kept, tmp_path / "adapter-kept")
    for name, weight in adapter_weights(recomputed, tmp_path / "adapter-recomputed").items():
        torch.testing.assert_close(weight, expected[name])


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_four_bit_training_on_the_cpu(train, tmp_path):
    trainer, record = train(
        tmp_path / "checkpoints",
        model={"quantization": "nf4", "compute_dtype": "bfloat16"},
        training={"optim": "paged_adamw_8bit", "gradient_checkpointing": True},
    )
    kinds = {type(module).__name__ for module in trainer.model.modules()}
    assert "Linear4bit" in kinds
    assert record["parameters"] > record["trainable_parameters"]
    assert record["final_loss"] == record["final_loss"]


def test_adapter_loads_in_plain_peft(train, tmp_path, tiny_model_folder, make_run):
    trainer, _ = train(tmp_path / "checkpoints")
    adapter_weights(trainer, tmp_path / "adapter")
    base = load_base_model(tiny_model_folder, make_run().model, "cpu")
    loaded = load_adapter(base, tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        expected = trainer.model.eval()(input_ids=ids).logits
        assert torch.allclose(loaded(input_ids=ids).logits, expected, atol=1e-5)


def test_errors_say_what_to_do(tmp_path, make_run):
    with pytest.raises(FrugalError, match=r"no config\.json; make the model again"):
        load_base_model(tmp_path, make_run().model, "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FrugalError, match="not a usable model"):
        load_base_model(tmp_path, make_run().model, "cpu")
    with pytest.raises(FrugalError, match=r"no usable tokenizer: .*; make the model again"):
        load_tokenizer(tmp_path)
    with pytest.raises(FrugalError, match=r"no adapter_config\.json; train the variant first"):
        load_adapter(None, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_asking_for_an_absent_gpu_names_the_key():
    with pytest.raises(FrugalError, match=r"training\.gpus is 1, but no GPU is visible here; set training\.gpus to 0"):
        choose_device(1)


def test_lora_settings_are_peft_keys():
    config = lora_config(LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj"], use_dora=True))
    assert (config.r, config.lora_alpha, config.use_dora, set(config.target_modules)) == (
        4,
        8,
        True,
        {"q_proj"},
    )


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (75, "1:15"), (3700, "1:01:40")])
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_a_loss_that_is_no_number_stops_the_run(tiny_model_folder, make_run, tmp_path):
    run = make_run()
    model, tokenizer = load_base_model(tiny_model_folder, run.model, "cpu"), load_tokenizer(tiny_model_folder)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    examples = [encode_example(tokenizer, record, 200) for record in RECORDS]
    with pytest.raises(FrugalError, match=r"test: the loss is nan at step 1; lower training\.learning_rate"):
        train_adapter(model, tokenizer, examples, run, tmp_path, "test")


def test_the_loss_is_the_responses_alone(train, tmp_path, tiny_model_folder, make_run):
    """The first step's loss, worked out from the base model's own log-probabilities."""
    _, record = train(tmp_path, training={"max_steps": 1, "gradient_accumulation_steps": 8})
    model = load_base_model(tiny_model_folder, make_run().model, "cpu").eval()
    tokenizer = load_tokenizer(tiny_model_folder)
    losses = []
    for example in (encode_example(tokenizer, r, 200) for r in RECORDS):
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([example["input_ids"]])).logits[0].log_softmax(-1)
        losses += [-scores[place - 1, label].item() for place, label in enumerate(example["labels"]) if label != -100]
    assert len(losses) == 16 * len("Option A.") + 16
    assert record["final_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)

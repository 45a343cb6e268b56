"""Adapters on layers of other names than Llama's: trained, saved, counted, estimated."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from frugal.config.llm import LoraSettings
from frugal.files import write_json
from frugal.llm.adapter_check import check_adapter
from frugal.llm.evaluation import load_for_evaluation
from frugal.llm.kernels.layers import FusedLayer, fused_layers
from frugal.llm.loading import load_base_model, load_tokenizer, without_adapter
from frugal.llm.memory.estimate import adapter_sizes
from frugal.llm.training import save_adapter, train_adapter

OTHER_SIZES = {"gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4}}
PHI3 = {"qkv_proj": 2, "o_proj": 2, "gate_up_proj": 2, "down_proj": 2}
GPT2 = {"c_attn": 2, "c_proj": 4, "c_fc": 2}


@pytest.fixture
def base_model(small_sizes, tiny_model_folder, tmp_path):
    """The folder of a random model of a type, with the tiny model's tokenizer."""

    def make(model_type):
        torch.manual_seed(0)
        sizes = small_sizes | {"vocab_size": 258, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        config = AutoConfig.for_model(model_type, **sizes | OTHER_SIZES.get(model_type, {}))
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
        load_tokenizer(tiny_model_folder).save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return make


@pytest.mark.parametrize(
    ("model_type", "targets", "adapted", "linear"),
    [
        ("phi3", ["qkv_proj", "mlp.down_proj"], {"qkv_proj": 2, "down_proj": 2}, PHI3),
        ("phi3", "all-linear", PHI3, PHI3),
        ("gpt2", ["c_attn", "h.1.mlp.c_fc"], {"c_attn": 2, "c_fc": 1}, GPT2),
        ("gpt2", "all-linear", GPT2, GPT2),
        ("llama", "all-linear", dict.fromkeys(LoraSettings().target_modules, 2), None),
    ],
)
def test_all_adapters_are_trained_saved_and_counted(
    base_model, make_run, tmp_path, model_type, targets, adapted, linear
):
    folder, run = base_model(model_type), make_run(lora={"target_modules": targets}, training={"max_steps": 2})
    rows = [{"input_ids": torch.randint(3, 258, (24,)).tolist(), "segment_lengths": [20, 4]} for _ in range(8)]
    model, tokenizer = load_base_model(folder, run.model, "cpu"), load_tokenizer(folder)
    trainer, record = train_adapter(model, tokenizer, rows, run, tmp_path / "checkpoints", "test")
    assert record["steps"] == 2
    assert record["adapted_modules"] == dict(sorted(adapted.items()))
    assert record["linear_modules"] == dict(sorted((linear or adapted).items()))

    save_adapter(trainer.model, tokenizer, tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter/adapter_model.safetensors")
    ups = [weight for name, weight in weights.items() if "lora_B" in name]
    assert len(ups) == sum(adapted.values()) == len(weights) / 2
    assert all(weight.abs().max() > 0 for weight in ups)  # they begin at zero

    write_json(tmp_path / "training.json", record)
    loaded, _, _ = load_for_evaluation(folder, tmp_path / "adapter", run, "cpu")
    found = check_adapter(loaded, run.model, tmp_path / "adapter", tmp_path / "training.json")
    assert found["plain_loss"] == pytest.approx(record["check"]["loss"], rel=5e-5)

    with fused_layers(without_adapter(trainer.model), False):
        fused = any(isinstance(module, FusedLayer) for module in trainer.model.modules())
    assert fused == (model_type == "llama")


def test_an_estimate_is_exact_for_known_names_and_no_less_for_others(base_model):
    config = AutoConfig.from_pretrained(base_model("phi3"))
    sizes = {name: sum(adapter_sizes(config, LoraSettings(r=2, target_modules=[name]))) for name in PHI3}
    # r x (inputs + outputs), 2 layers: 4 heads and 2 of keys and values of 8, an MLP of 48
    assert sizes == {
        "qkv_proj": 4 * (32 + 64),
        "o_proj": 4 * (32 + 32),
        "gate_up_proj": 4 * (32 + 96),
        "down_proj": 4 * (48 + 32),
    }
    assert sum(adapter_sizes(config, LoraSettings(r=2, target_modules=["c_fc"]))) == 4 * (48 + 48)
    everything = adapter_sizes(config, LoraSettings(r=2, target_modules="all-linear"))
    assert everything == adapter_sizes(config, LoraSettings(r=2))

"""Tiny random models of many architectures: trained and scored as the library computes them, or refused."""

from contextlib import contextmanager

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from frugal.config.llm import PROJECTIONS, ModelSettings
from frugal.errors import FrugalError
from frugal.llm.forward_check import check_scoring, check_training
from frugal.llm.kernels import attention
from frugal.llm.kernels.layers import fused_layers
from frugal.llm.packed import packed_batches
from frugal.llm.perplexity import window_logits
from frugal.llm.trainer import check_targets
from frugal.preference.scoring import prompt_logits

ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
WINDOW = {"sliding_window": 8}
ARCHITECTURES = {
    "llama": {},
    "llama 3.2": {"rope_parameters": ROPE | {"original_max_position_embeddings": 16}},
    "mistral": WINDOW,
    "qwen2": WINDOW | {"use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {},
    "gemma2": WINDOW | {"query_pre_attn_scalar": 8, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
    "gemma3_text": WINDOW | {"query_pre_attn_scalar": 8},
    "phi3": WINDOW,
    "phi": {},  # its output layer has a bias
    "granite": {"logits_scaling": 4.0, "attention_multiplier": 0.5, "residual_multiplier": 0.3},
    "cohere": {"logit_scale": 0.3},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "olmo": {"clip_qkv": 0.5},
    "mixtral": {},  # its loss function is called with the size of the vocabulary
    "stablelm": {},
}
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256}
SIZES |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IDS = torch.randint(3, 64, (100,), generator=torch.Generator().manual_seed(0)).tolist()
ROWS = [{"input_ids": IDS}]


def tiny(name, dtype="float32", **changes):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name.split()[0], **SIZES | ARCHITECTURES[name] | changes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager" if name == "gemma2" else "sdpa")
    for parameter in model.parameters():  # biases are zero at first, and norms one
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.to(getattr(torch, dtype)).eval()


def settings(dtype):
    return ModelSettings(quantization="none", compute_dtype=dtype)


def checked_training(model, dtype="float32", chunk=64):
    @contextmanager
    def mode():
        with fused_layers(model, False), packed_batches(model, chunk):
            yield

    check_training(model, settings(dtype), ROWS, mode, "cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_and_scoring_compute_what_the_library_does(name, dtype):
    model = tiny(name, dtype)
    for logits_of in (window_logits, prompt_logits):
        check_scoring(model, settings(dtype), [IDS], logits_of)
    if name == "stablelm":
        with pytest.raises(FrugalError, match="StableLmAttention: its attention does not receive the segments"):
            checked_training(model, dtype)
        return
    for chunk in (None, 64):
        checked_training(model, dtype, chunk)


@pytest.mark.parametrize("name", ["mistral", "qwen2", "gemma3_text", "phi3"])
def test_a_window_that_is_not_followed_stops_training(monkeypatch, name):
    monkeypatch.setattr(attention, "attend", lambda *args, window=None: attention.library_attention(*args[:6]))
    monkeypatch.setattr("frugal.llm.kernels.layers.attend", lambda *a, window=None: attention.library_attention(*a))
    with pytest.raises(FrugalError, match=rf"{name}: the forward pass of training differs .*sliding_window"):
        checked_training(tiny(name))


def test_a_soft_cap_that_is_not_followed_stops_training(monkeypatch):
    monkeypatch.setattr(attention, "plain_attention", lambda *args: attention.library_attention(*args[:7]))
    with pytest.raises(FrugalError, match=r"gemma2: the forward pass of training differs .*attn_logit_softcapping"):
        checked_training(tiny("gemma2"))


@pytest.mark.parametrize("name", ["phi", "cohere", "granite", "gemma2"])
def test_an_output_layer_without_its_bias_scaling_or_cap_stops_scoring(name):
    def bare(model, ids):
        return model.base_model(input_ids=ids[None]).last_hidden_state[0] @ model.get_output_embeddings().weight.t()

    with pytest.raises(FrugalError, match=f"{name}: the forward pass of scoring differs"):
        check_scoring(tiny(name), settings("float32"), [IDS], bare)


def test_targets_that_no_module_has_are_named():
    check_targets(tiny("llama"), PROJECTIONS)
    check_targets(tiny("llama"), ["mlp.down_proj", "layers.0.self_attn.q_proj"])
    check_targets(tiny("gpt2"), ["all-linear"])
    phi3 = "Phi3ForCausalLM has no q_proj, k_proj, v_proj, gate_proj, up_proj that can get an adapter; set it to names "
    phi3 += "of its linear layers, down_proj, gate_up_proj, o_proj, qkv_proj, or to all-linear"
    with pytest.raises(FrugalError, match=phi3):
        check_targets(tiny("phi3"), PROJECTIONS)
    for name in ("lm_head", "embed_tokens", "self_attn", "proj"):  # no linear layer of the decoder, or half a name
        with pytest.raises(FrugalError, match=f"LlamaForCausalLM has no {name} that can get an adapter"):
            check_targets(tiny("llama"), ["q_proj", name])
    with pytest.raises(FrugalError, match=r"GPT2LMHeadModel has no q_proj .* layers, c_attn, c_fc, c_proj, or"):
        check_targets(tiny("gpt2"), ["q_proj"])

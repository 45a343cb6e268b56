"""Small models with adapters, for the tests of what replaces their layers."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM


@pytest.fixture
def small_sizes():
    return {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }


@pytest.fixture
def with_adapter():
    """Adds an adapter to a model, in float32 and not at zero."""

    def add(model, **lora):
        torch.manual_seed(1)
        options = {"r": 2, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "init_lora_weights": False}
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options | lora)).train()
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
        return model

    return add


@pytest.fixture
def small_model(small_sizes, with_adapter):
    """Makes a random model of a type, its frozen weights in ``kind``, with an adapter."""

    def make(model_type="llama", kind=torch.float32, **lora):
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, **small_sizes)
        return with_adapter(AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(kind), **lora)

    return make

"""FLOPs from shapes are those that a training record counts on the model itself."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from frugal.config.recommendation import ModelSettings
from frugal.llm.measurement import training_flops as counted_on_language_model
from frugal.planning.flops import FORWARD, WITH_BACKWARD, language_model_flops, recommender_flops
from frugal.recsys.training import build_model
from frugal.recsys.training_record import training_flops as counted_on_recommender

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize("tied", [True, False])
def test_of_a_language_model(tied):
    config = AutoConfig.for_model("llama", **SIZES, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = SimpleNamespace(**SIZES, head_dim=8, tie_word_embeddings=tied)
    assert language_model_flops(shape, 100, 30, WITH_BACKWARD) == counted_on_language_model(model, 100, 30)
    # By hand: a layer has 32 x 32 x 2 + 32 x 16 x 2 + 3 x 32 x 48 linear weights and two norms of 32, and there is one
    # more norm: 2 x (7,680 + 64) + 32 = 15,520 for each token, and 64 x 32 for each one with logits.
    assert language_model_flops(shape, 100, 30, FORWARD) == 2 * (15_520 * 100 + 2_048 * 30)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("sasrec", {}),
        ("ssept", {"user_embedding_size": 8}),
        ("bert4rec", {}),
        ("bert4rec", {"output_projection": False}),
        ("sasrec", {"layers": "ligr"}),
        ("sasrec", {"layers": "hstu", "positions": "relative"}),
    ],
)
@pytest.mark.parametrize("trainable", [True, False])
def test_of_a_recommender(architecture, changes, trainable):
    settings = ModelSettings(architecture=architecture, hidden_size=16, intermediate_size=24, max_length=10, **changes)
    model = build_model(settings, 50, 20, 0)
    counted = counted_on_recommender(model, 1000, 200, 7.5, trainable)
    flops = recommender_flops(settings, 1000, 200, 7.5, 50, 3 if trainable else 2)
    assert {"blocks": flops.blocks, "loss": flops.scores} == pytest.approx(counted)

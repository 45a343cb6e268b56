"""Selective recomputation: the same loss and gradients as without it, for every kind of model that it takes."""

from contextlib import nullcontext

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from frugal.errors import FrugalError
from frugal.llm.kernels.recompute import MODEL_TYPES, SelectiveLayer, selective_recomputation
from frugal.llm.packed import collate, forward_arguments, packed_batches

MODULES = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]


def loss_and_gradients(model, selective: bool):
    base = model.get_base_model()
    rows = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(1)).tolist()
    batch = collate({"input_ids": row, "segment_lengths": [10, 14]} for row in rows)
    torch.manual_seed(2)  # dropout's
    with packed_batches(base, 16), selective_recomputation(base) if selective else nullcontext():
        loss = model(**forward_arguments(batch)).loss
        loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    model.zero_grad()
    return loss.item(), gradients


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_loss_and_gradients_are_those_without_it(small_model, model_type, dropout):
    model = small_model(model_type, target_modules=MODULES, lora_dropout=dropout)
    loss, gradients = loss_and_gradients(model, selective=False)
    selective_loss, recomputed = loss_and_gradients(model, selective=True)
    assert selective_loss == loss
    assert len(gradients) == 2 * 2 * len(MODULES)
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(recomputed[name], gradient)


def test_the_layers_are_as_before_afterwards(small_model):
    model = small_model("llama")
    base = model.get_base_model()
    layers, parameters = list(base.model.layers), [name for name, _ in base.named_parameters()]
    with selective_recomputation(base):
        assert all(isinstance(layer, SelectiveLayer) for layer in base.model.layers)
        assert [name for name, _ in base.named_parameters()] == parameters
    assert list(base.model.layers) == layers


def test_a_model_with_other_layers_is_refused(small_sizes):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma2", **small_sizes, head_dim=8))
    with pytest.raises(FrugalError, match=r"'selective' knows .* not of gemma2"), selective_recomputation(model):
        pass

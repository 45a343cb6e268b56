"""iLoRA: where it equals plain LoRA, what its gate sees, and its files."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.recsys.ilora import ExpertWeights, Gate, ILoraLinear, add_ilora, load_ilora, save_ilora

KINDS = ["sasrec", "ssept", "bert4rec"]
NAMES = ["query_key_value", "attention_output", "up", "down"]
USERS, HISTORIES = np.array([0, 1]), [np.array([1, 2, 3]), np.array([4, 6])]


@pytest.fixture
def make_ilora(make_model):
    """A model with an adapter, all of whose weights differ from zero, also the gate's unless it is uniform."""

    def make(kind="bert4rec", r=4, experts=2, uniform=False, names=NAMES, **changes):
        model = add_ilora(make_model(kind, **changes), r, 8, experts, names)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad and not (uniform and name.startswith("on_embedded")):
                    weight.normal_()
        return model

    return make


def test_layer_by_hand():
    # Rank 2 in two experts of rank 1: A1 = (1, 0), A2 = (0, 1), B = ((1, 10), (0, 2)), lora_alpha / r = 3.
    base = nn.Linear(2, 2)
    nn.init.eye_(base.weight)
    nn.init.zeros_(base.bias)
    layer = ILoraLinear(base, 2, 6.0, ExpertWeights(torch.tensor([[[0.25, 0.75]]])))
    with torch.no_grad():
        layer.lora_A.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        layer.lora_B.copy_(torch.tensor([[1.0, 10.0], [0.0, 2.0]]))
    # x = (4, 8): A x = (4, 8), weighed (1, 6), times B (61, 12), times 3 (183, 36), plus x (187, 44).
    assert layer(torch.tensor([[[4.0, 8.0]]])).tolist() == [[[187, 44]]]


def test_gate_by_hand():
    # The projection's second output is the first coordinate, its first is 0: w = softmax(0, mean).
    weights = ExpertWeights()
    gate = Gate(width=2, r=4, experts=2, causal=False, weights=weights)
    with torch.no_grad():
        gate.projection.weight[1, 0] = 1
    embedded = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [100.0, 5.0]]])
    # Two of three are real, their mean is 2: w = (1, e^2) / (1 + e^2), each for a block of two rows of A.
    gate(embedded, torch.tensor([2]))
    second = np.exp(2) / (1 + np.exp(2))
    assert weights.by_rank[0, 0].tolist() == pytest.approx([1 - second, 1 - second, second, second])
    # Causal: means 1, 2 and 104 / 3 up to each position.
    gate.causal = True
    gate(embedded, torch.tensor([3]))
    expected = [np.exp(m) / (1 + np.exp(m)) for m in (1, 2, 104 / 3)]
    assert weights.by_rank[0, :, 3].tolist() == pytest.approx(expected)


def test_new_adapter_changes_nothing(make_model):
    for kind in KINDS:
        plain = make_model(kind)
        before = plain.score(USERS, HISTORIES)
        assert torch.equal(add_ilora(plain, 4, 8, 2, NAMES).score(USERS, HISTORIES), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("r", "experts"), [(4, 1), (4, 2), (4, 4)])
def test_uniform_gate_is_plain_lora_with_its_scale_divided(make_model, make_ilora, kind, r, experts):
    # A uniform gate gives each expert 1 / K: the update is 8 / r / K times B A. With K = 1 it always is.
    ilora = make_ilora(kind, r, experts, uniform=experts > 1)
    lora = get_peft_model(make_model(kind), LoraConfig(r=r, lora_alpha=8 / experts, target_modules=NAMES))
    with torch.no_grad():
        for name, layer in ilora.named_modules():
            if isinstance(layer, ILoraLinear):
                twin = lora.base_model.model.get_submodule(name)
                twin.lora_A["default"].weight.copy_(layer.lora_A)
                twin.lora_B["default"].weight.copy_(layer.lora_B)
    plain = lora.base_model.model.eval()
    torch.testing.assert_close(ilora.score(USERS, HISTORIES), plain.score(USERS, HISTORIES))


def test_instances_differ_and_do_not_mix(make_ilora):
    model = make_ilora()
    model.score(USERS, HISTORIES)
    first, second = model.on_embedded.weights.by_rank
    assert not torch.allclose(first, second)
    assert first.sum().item() == pytest.approx(2)  # each of two experts has two of four rows
    together = model.score(USERS, HISTORIES)
    # An instance has the same scores alone, and none of what was computed before.
    for user in (1, 0):
        alone = model.score(USERS[[user]], [HISTORIES[user]])
        torch.testing.assert_close(alone[0], together[user])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_the_gate(make_ilora, kind):
    model = make_ilora(kind)
    arguments = {"lengths": torch.tensor([2]), "user_ids": torch.tensor([1])}
    short = model(input_ids=torch.tensor([[1, 2]]), **arguments).hidden_states
    for padding in ([0, 0], [5, 6]):
        padded = model(input_ids=torch.tensor([[1, 2, *padding]]), **arguments).hidden_states
        torch.testing.assert_close(padded[:, :2], short)


@pytest.mark.parametrize("kind", ["sasrec", "ssept"])
def test_gate_of_a_causal_model_does_not_see_what_comes(make_ilora, kind):
    model = make_ilora(kind)
    arguments = {"lengths": torch.tensor([3]), "user_ids": torch.tensor([1])}
    one = model(input_ids=torch.tensor([[1, 2, 3]]), **arguments).hidden_states
    other = model(input_ids=torch.tensor([[1, 2, 6]]), **arguments).hidden_states
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert not torch.allclose(one[:, 2], other[:, 2])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_trains_the_adapter_and_nothing_else(make_model, make_batch, kind, precision):
    quiet = {"hidden_dropout_prob": 0} | (
        {"sse_user_probability": 0, "sse_item_probability": 0} if kind == "ssept" else {}
    )
    model = add_ilora(make_model(kind, **quiet), 4, 8, 2, NAMES).train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=0.02)
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = model(**make_batch([1, 2, 3, 4], [5, 6, 0])).loss
        loss.backward()
        for name, weight in model.named_parameters():
            # DistributedDataParallel waits for a gradient of every trainable weight, zero or not.
            assert (weight.grad is not None) == weight.requires_grad, name
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.rsplit(".", 1)[-1] for name in changed} == {"lora_A", "lora_B", "weight", "bias"}
    assert {name for name in changed if "lora" not in name} == {
        "on_embedded.projection.weight",
        "on_embedded.projection.bias",
    }


def test_number_of_weights_by_hand(make_model):
    # Width 4, inner width 8, r = 2, K = 2. A layer of n inputs and m outputs gets 2 (n + m) weights:
    # query_key_value 2 (4 + 12) = 32, down 2 (8 + 4) = 24; two blocks 112. The gate has 4 x 2 + 2 = 10.
    model = add_ilora(make_model("sasrec"), 2, 4, 2, ["query_key_value", "down"])
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == 122


def test_saved_and_loaded_adapter_scores_the_same(make_model, make_ilora, tmp_path):
    for kind in KINDS:
        model = make_ilora(kind)
        save_ilora(model, tmp_path / kind)
        assert sorted(path.name for path in (tmp_path / kind).iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        assert read_json(tmp_path / kind / "adapter_config.json") == {
            "method": "ilora",
            "r": 4,
            "lora_alpha": 8,
            "experts": 2,
            "target_modules": NAMES,
        }
        loaded = load_ilora(make_model(kind), tmp_path / kind)
        assert torch.equal(loaded.score(USERS, HISTORIES), model.score(USERS, HISTORIES))


def test_adapter_of_another_model_is_refused(make_model, make_ilora, tmp_path):
    save_ilora(make_ilora(), tmp_path / "adapter")
    with pytest.raises(FrugalError, match="adapter: the adapter belongs to another model"):
        load_ilora(make_model("bert4rec", num_hidden_layers=3), tmp_path / "adapter")
    with pytest.raises(FrugalError, match="belongs to another model"):
        load_ilora(make_model("bert4rec", intermediate_size=16), tmp_path / "adapter")


def test_broken_adapters_are_refused(make_model, make_ilora, tmp_path):
    with pytest.raises(FrugalError, match="nowhere: holds no iLoRA adapter"):
        load_ilora(make_model("bert4rec"), tmp_path / "nowhere")
    folder = tmp_path / "adapter"
    save_ilora(make_ilora(), folder)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights[:-8])
    with pytest.raises(FrugalError, match="holds no iLoRA adapter"):
        load_ilora(make_model("bert4rec"), folder)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 4})
    with pytest.raises(FrugalError, match="holds no iLoRA adapter"):
        load_ilora(make_model("bert4rec"), folder)


def test_cannot_be_merged(make_ilora):
    with pytest.raises(FrugalError, match="cannot be merged"):
        make_ilora().blocks[0].up.merge()


def test_arguments_that_do_not_fit(make_model):
    with pytest.raises(FrugalError, match=r"adapter.r 4 cannot be cut into 3 experts"):
        add_ilora(make_model("sasrec"), 4, 8, 3, NAMES)
    with pytest.raises(FrugalError, match="no linear layer of such a name"):
        add_ilora(make_model("sasrec"), 4, 8, 2, ["norm"])

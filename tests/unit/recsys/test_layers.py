"""Layers other than the plain Transformer's: values by hand, and what each composition with them owes the model."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from frugal.config.base import plain
from frugal.config.recommendation import AdapterSettings, ModelSettings, RecommendationRun
from frugal.errors import FrugalError
from frugal.recsys import memory
from frugal.recsys.adapters import add_adapter, trainable_counts
from frugal.recsys.configuration import SASRecConfig
from frugal.recsys.histories import Histories
from frugal.recsys.hstu import HSTUBlock
from frugal.recsys.layers import LiGRBlock
from frugal.recsys.modeling import LAYERS, MODELS, load_recommender
from frugal.recsys.positions import POSITIONS, RelativePositions, TimePositions
from frugal.recsys.training import build_model
from frugal.recsys.training_record import training_flops

USERS, HISTORIES = np.array([0, 1]), [np.array([1, 2, 3]), np.array([4, 6])]
KINDS = ["sasrec", "ssept", "bert4rec"]
#: Layers and positions that go together.
COMPOSITIONS = [("ligr", "learned"), ("ligr", "rotary"), ("hstu", "learned"), ("hstu", "rotary"), ("hstu", "relative")]


@pytest.fixture(params=COMPOSITIONS, ids="-".join)
def shape(request):
    return dict(zip(("layers", "positions"), request.param, strict=True))


@pytest.fixture(params=KINDS)
def model(make_model, shape, request):
    return make_model(request.param, **shape)


def states(model, items: list[int], length: int | None = None) -> torch.Tensor:
    """(length, width): the states of one sequence of user 0."""
    lengths = torch.tensor([length or len(items)])
    with torch.no_grad():
        return model(torch.tensor([items]), lengths, user_ids=torch.tensor([0])).hidden_states[0]


def test_ligr_by_hand():
    # One item, width 2, inner width 1. The output of attention is its bias (4, 8), the first gate sigmoid(log 3) =
    # 3/4: x = (-2, -8) becomes (1, -2). Its norm is (1, -1), so Wg = (1, 0) gives 1, Wu = (0, -2) gives 2, and
    # silu(1) x 2 = 2 sigmoid(1). Wd = (1, 0), and the second gate is sigmoid(-2 x -log 3 / 2) = 3/4.
    block = LiGRBlock(SASRecConfig(hidden_size=2, intermediate_size=1, num_attention_heads=1)).eval()
    with torch.no_grad():
        for weight in block.parameters():
            weight.zero_()
        for norm in (block.attention_norm, block.feed_forward_norm):
            norm.weight.fill_(1)
        block.attention.attention_output.bias.copy_(torch.tensor([4.0, 8.0]))
        block.attention_gate.bias.fill_(math.log(3))
        block.feed_forward_gate.weight[:, 1] = -math.log(3) / 2
        block.up.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
        block.down.weight.copy_(torch.tensor([[1.0], [0.0]]))
        found = block(torch.tensor([[[-2.0, -8.0]]]), None)
    sigmoid = 1 / (1 + math.exp(-1))
    torch.testing.assert_close(found, torch.tensor([[[1 + 0.75 * 2 * sigmoid, -2.0]]]), rtol=1e-4, atol=1e-4)


def silu(x):
    return x / (1 + math.exp(-x))


@pytest.mark.parametrize("architecture", ["sasrec", "bert4rec"])
def test_hstu_by_hand(architecture):
    """Two items of width 2, one head, and at most n = 4 items."""
    kind = MODELS[architecture].config_class
    config = kind(hidden_size=2, num_attention_heads=1, max_position_embeddings=4, layers="hstu")
    block = HSTUBlock(config).eval()
    with torch.no_grad():
        # Normed states are (s, 1) with s = 1 and -1: u is silu(1) in both places, and q = k = v = (silu(s), 0).
        block.attention_norm.weight.copy_(torch.tensor([1.0, 0.0]))
        block.attention_norm.bias.copy_(torch.tensor([0.0, 1.0]))
        u, qkv = torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
        block.query_key_value.weight.copy_(torch.cat((u, qkv, qkv, qkv)))
        block.attended_norm.forward = lambda attended: attended  # of two numbers it would leave the sign alone
        block.attention_output.weight.copy_(torch.eye(2))
        block.attention_output.bias.zero_()
        hidden = torch.tensor([[[5.0, 3.0], [3.0, 5.0]]])
        bias = torch.tensor([[0.5, 7.0], [0.25, 0.0]])
        mask = None if config.causal else torch.tensor([True, True])[None, None, None]
        added = block(hidden, mask, bias)[0] - hidden[0]
    one, other = silu(1), silu(-1)
    second = (silu(other * one + 0.25) * one + silu(other * other) * other) / 4 * silu(1)
    first = silu(one * one + 0.5) * one / 4 * silu(1)
    if not config.causal:
        first += silu(one * other + 7) * other / 4 * silu(1)
    torch.testing.assert_close(added, torch.tensor([[first, 0.0], [second, 0.0]]), rtol=1e-4, atol=1e-5)


def test_relative_positions_by_hand():
    # Longest 3: the distances -2 to 2 have the rows 0 to 4. Two layers, whose biases are the row's number, and 10 more.
    positions = RelativePositions(SASRecConfig(max_position_embeddings=3, num_hidden_layers=2))
    with torch.no_grad():
        positions.distances.weight.copy_(torch.arange(5.0)[:, None] + torch.tensor([0.0, 10.0]))
        first, second = positions.for_layers(torch.zeros(1, 2, 4), None)
    assert first.tolist() == [[2, 1], [3, 2]]
    assert second.tolist() == [[12, 11], [13, 12]]


def test_time_positions_by_hand():
    # Two items 2 s apart, in a batch with two 2,000 s apart: log 2 / .301 = 2.3 and log 2000 / .301 = 25.25, so the
    # buckets 2 and 25, and 0 for an item and itself. Biases are 100 x bucket, and 0 to 4 for the distances -2 to 2.
    positions = TimePositions(SASRecConfig(max_position_embeddings=3, num_hidden_layers=1))
    with torch.no_grad():
        positions.distances.weight.copy_(torch.arange(5.0)[:, None])
        positions.intervals.weight.copy_(100 * torch.arange(128.0)[:, None])
        (bias,) = positions.for_layers(torch.zeros(2, 2, 4), torch.tensor([[5, 7], [10**9, 10**9 + 2000]]))
        assert bias.tolist() == [[[[2, 201], [203, 2]]], [[[2, 2501], [2503, 2]]]]
        # Later buckets than the last are the last; times that go backwards count as forwards.
        (bias,) = positions.for_layers(torch.zeros(1, 2, 4), torch.tensor([[2**62, 0]]))
        assert bias.max() == 12_703
    with pytest.raises(FrugalError, match=r"positions 'time' need the times of the items: set data\.times to true"):
        positions.for_layers(torch.zeros(1, 2, 4), None)


@pytest.mark.parametrize("kind", ["sasrec", "ssept"])
def test_times_are_read_at_all_places_and_only_from_the_past(make_model, kind):
    model = make_model(kind, layers="hstu", positions="time")
    ids, lengths, users = torch.tensor([[1, 2, 3]]), torch.tensor([3]), torch.tensor([0])

    def states_at(*times: int) -> torch.Tensor:
        with torch.no_grad():
            return model(ids, lengths, user_ids=users, times=torch.tensor([times])).hidden_states[0]

    one = states_at(0, 60, 3600)
    torch.testing.assert_close(states_at(100, 160, 3700), one)
    later = states_at(0, 60, 10**6)
    torch.testing.assert_close(later[:2], one[:2])
    assert not torch.allclose(later[2], one[2])
    # The scores are those of the newest items, here the last six of seven, with their own times.
    history, moments = np.array([5, 1, 2, 3, 4, 0, 6]), np.array([3, 10, 20, 500, 501, 9000, 9100])
    scores = model.score(USERS[:1], [history], [moments])
    assert torch.equal(scores, model.score(USERS[:1], [history[1:]], [moments[1:]]))
    context = Histories.from_pairs(np.zeros(7, int), history, 1, moments)
    assert torch.equal(scores, model.scorer(context)(USERS[:1], [context[0]]))
    assert not torch.allclose(scores, model.score(USERS[:1], [history], [moments // 10]))


def test_what_a_position_sees(model):
    one = states(model, [1, 2, 3, 4])
    later = torch.allclose(states(model, [1, 2, 3, 5])[:3], one[:3], atol=1e-6)
    assert later == model.config.causal
    assert not torch.allclose(states(model, [0, 2, 3, 4])[3], one[3])
    # Order matters.
    assert not torch.allclose(states(model, [2, 1, 3, 4])[3], one[3])


def test_padding_changes_nothing(model):
    bare = states(model, [1, 2, 3])
    for padding in ([0, 0], [6, 5, 4]):
        torch.testing.assert_close(states(model, [1, 2, 3, *padding], length=3)[:3], bare)


@pytest.mark.parametrize("method", ["none", "lora", "ilora"])
def test_selected_positions_have_the_states_of_the_whole(model, method):
    adapted = add_adapter(model, AdapterSettings(method=method, r=4, experts=2), seed=1)
    with torch.no_grad():
        for weight in adapted.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        ids, lengths, users = torch.tensor([[1, 2, 3], [4, 6, 0]]), torch.tensor([3, 2]), torch.tensor([0, 1])
        whole = model.encode(ids, lengths, users)
        # Of six places, row by row: the second row's first, the first row's last, and that once more.
        some = model.encode(ids, lengths, users, torch.tensor([3, 2, 2]))
    torch.testing.assert_close(some, torch.stack([whole[1, 0], whole[0, 2], whole[0, 2]]))


def test_all_weights_learn_in_both_precisions(model, make_batch):
    batch, losses = make_batch([1, 2, 3, 4], [5, 6, 0]), []
    for precise in (True, False):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            losses.append(model(**batch).loss)
        losses[-1].backward()
        assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in model.parameters())
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.03)


def test_saved_and_loaded_model_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(
        load_recommender(tmp_path / "model").eval().score(USERS, HISTORIES), model.score(USERS, HISTORIES)
    )


@pytest.mark.parametrize(("layers", "positions"), [("ligr", "rotary"), ("hstu", "rotary"), ("hstu", "relative")])
def test_compiled_layers_do_the_same(make_model, make_batch, layers, positions):
    """In one graph, and without complex numbers, for which Inductor makes no code. No code is made here."""
    batch, losses, seen = make_batch([1, 2, 3, 4], [5, 6]), [], set()

    def backend(graph, inputs):
        values = (node.meta.get("example_value") for node in graph.graph.nodes)
        seen.update(value.dtype for value in values if isinstance(value, torch.Tensor))
        return graph.forward

    for compiled in (False, True):
        model = make_model("sasrec", hidden_dropout_prob=0.0, layers=layers, positions=positions).train()
        if compiled:
            for block in model.blocks:
                block.compile(backend=backend, dynamic=True, fullgraph=True)
        losses.append(model(**batch).loss)
    torch.testing.assert_close(*losses)
    assert torch.float32 in seen
    assert not any(dtype.is_complex for dtype in seen)


def settings(kind, layers, positions, **changes):
    return ModelSettings(architecture=kind, layers=layers, positions=positions, hidden_size=24, max_length=7, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_counted_weights_are_those_of_the_model(shape, kind):
    with torch.device("meta"):
        model = build_model(settings(kind, **shape), 31, 11, seed=1)
    assert memory.weights(settings(kind, **shape), 31, 11) == model.parameter_counts()["parameters"]


@pytest.mark.parametrize("layers", ["ligr", "hstu"])
def test_counted_weights_of_an_adapter(layers):
    shape, adapter = ModelSettings(layers=layers), AdapterSettings(method="lora", r=4)
    model = add_adapter(build_model(shape, 31, 11, seed=1), adapter, seed=1)
    assert memory.adapter_weights(shape, adapter) == trainable_counts(model)["trainable_parameters"]


def test_counted_weights_of_time_positions():
    shape = settings("sasrec", "hstu", "time")
    assert memory.weights(shape, 31, 11) == build_model(shape, 31, 11, seed=1).parameter_counts()["parameters"]


def test_operations_of_ligr_by_hand():
    # Width 8, inner 16: attention 4 x 64 weights, gates 2 x 64, SwiGLU 3 x 128: 768, of which 64 + 128 + 384 = 576
    # come after attention. 10 positions of which 4 are targets, 4 long; attention as in the plain layer, 3 x 64 each.
    model = build_model(
        ModelSettings(layers="ligr", hidden_size=8, intermediate_size=16, num_hidden_layers=1), 12, 1, 1
    )
    assert training_flops(model, 10, 4, 4, True)["blocks"] == 6 * (10 * 192 + 4 * 576) + 10 * 192


def test_operations_of_hstu_by_hand():
    # Width 8: 5 x 64 weights, of which 64 come after attention.
    model = build_model(ModelSettings(layers="hstu", hidden_size=8, num_hidden_layers=1), 12, 1, seed=1)
    assert training_flops(model, 10, 4, 4, True)["blocks"] == 6 * (10 * 256 + 4 * 64) + 10 * 192


@pytest.mark.parametrize("layers", ["transformer", "ligr"])
def test_relative_positions_without_hstu_are_refused(layers):
    with pytest.raises(ValidationError, match=f"a bias that layers '{layers}' do not take: set layers to 'hstu'"):
        ModelSettings(layers=layers, positions="relative")


def test_time_positions_that_cannot_be_are_refused():
    hstu = {"layers": "hstu", "positions": "time"}
    with pytest.raises(ValidationError, match="which the mask of architecture 'bert4rec' does not have"):
        ModelSettings(architecture="bert4rec", **hstu)
    with pytest.raises(ValidationError, match=r"model\.positions 'time' read .* set data\.times to true"):
        RecommendationRun(dataset="shop", model=hstu)
    assert plain(RecommendationRun(dataset="shop", model=hstu, data={"times": True}))["data"]["times"]


def test_an_adapter_of_what_hstu_lacks_is_refused():
    backbone = {"dataset": "shop", "seeds": [1], "model": {"layers": "hstu"}, "warm_start": {"variant": "base"}}
    with pytest.raises(ValidationError, match=r"target_modules \['up', 'down'\]: layers 'hstu' have none of them"):
        RecommendationRun(**backbone, adapter={"method": "lora", "target_modules": ["up", "down"]})
    RecommendationRun(**backbone, adapter={"method": "lora"})


def test_all_layers_and_positions_of_the_settings_are_there():
    for key, known in (("layers", LAYERS), ("positions", POSITIONS)):
        assert set(ModelSettings.model_fields[key].annotation.__args__) == set(known)

"""The three models: what each position sees, how items are scored, and what training changes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from frugal.errors import FrugalError
from frugal.recsys.ilora import add_ilora
from frugal.recsys.layers import Dropout, attend_to_few, rotary_turns, rotate
from frugal.recsys.losses import GBCE, FullSoftmax, InBatchSoftmax, SampledSoftmax
from frugal.recsys.modeling import SSEPT, load_recommender, shared

KINDS = ["sasrec", "ssept", "bert4rec"]
CAUSAL = ["sasrec", "ssept"]
POSITIONS = ["learned", "rotary"]
USERS, HISTORIES = np.array([0, 1]), [np.array([1, 2, 3]), np.array([4, 6])]


def states(model, items: list[int], lengths: int | None = None, user: int = 0) -> torch.Tensor:
    """(length, width): the states of one sequence."""
    length = torch.tensor([len(items) if lengths is None else lengths])
    with torch.no_grad():
        return model(torch.tensor([items]), length, user_ids=torch.tensor([user])).hidden_states[0]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", CAUSAL)
def test_causal_models_do_not_see_later_items(make_model, kind, positions):
    model = make_model(kind, positions=positions)
    one, other = states(model, [1, 2, 3, 4]), states(model, [1, 2, 5, 6])
    torch.testing.assert_close(one[:2], other[:2])
    assert not torch.allclose(one[2], other[2])
    assert not torch.allclose(states(model, [0, 2, 3, 4])[3], one[3])


@pytest.mark.parametrize("positions", POSITIONS)
def test_bert4rec_sees_both_sides(make_model, positions):
    model = make_model("bert4rec", positions=positions)
    one = states(model, [1, 2, 3, 4])
    assert not torch.allclose(one[0], states(model, [1, 2, 3, 5])[0])
    assert not torch.allclose(one[3], states(model, [0, 2, 3, 4])[3])


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(make_model, kind, positions):
    model = make_model(kind, positions=positions)
    bare = states(model, [1, 2, 3])
    for padding in ([0, 0, 0], [4], [6, 5, 4]):
        torch.testing.assert_close(states(model, [1, 2, 3, *padding], lengths=3)[:3], bare)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_order_matters(make_model, kind, positions):
    model = make_model(kind, positions=positions)
    one, other = model.score(USERS[:1], [np.array([1, 2, 3])]), model.score(USERS[:1], [np.array([2, 1, 3])])
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_users_are_scored_alone_as_in_a_batch(make_model, kind):
    model = make_model(kind)
    together = model.score(USERS, HISTORIES)
    assert together.shape == (2, 7)
    assert together.dtype == torch.float32
    for user in USERS:
        torch.testing.assert_close(model.score(USERS[[user]], [HISTORIES[user]])[0], together[user])


@pytest.mark.parametrize("kind", KINDS)
def test_only_ssept_knows_users(make_model, kind):
    model = make_model(kind)
    one, other = (model.score(np.array([user]), [np.array([1, 2])]) for user in (0, 2))
    assert torch.equal(one, other) == (kind != "ssept")


@pytest.mark.parametrize("kind", CAUSAL)
def test_score_is_the_last_state_times_items_plus_bias(make_model, kind):
    model = make_model(kind)
    last = states(model, [1, 2, 3], user=1)[-1, :4]
    expected = model.item_embedding.weight @ last + model.item_bias
    torch.testing.assert_close(model.score(np.array([1]), [np.array([1, 2, 3])])[0], expected.detach())


def test_bert4rec_scores_a_mask_after_the_history(make_model):
    model = make_model("bert4rec")
    assert model.config.mask_token_id == 7
    last = states(model, [1, 2, 3, 7])[-1]
    head = model.transform_norm(F.gelu(model.transform(last)))
    expected = model.item_embedding.weight[:7] @ head + model.item_bias
    torch.testing.assert_close(model.score(np.array([1]), [np.array([1, 2, 3])])[0], expected.detach())


@pytest.mark.parametrize("kind", KINDS)
def test_cosine_scores(make_model, kind):
    model = make_model(kind, score="cosine", cosine_scale=5.0)
    scores = model.score(USERS, HISTORIES) - model.item_bias.detach()
    # The cosine is at most 1; a longer embedding does not change it, neither as input nor as output.
    assert scores.abs().max() <= 5
    with torch.no_grad():
        model.item_embedding.weight *= 3
    torch.testing.assert_close(model.score(USERS, HISTORIES) - model.item_bias.detach(), scores)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(("kind", "read"), [("sasrec", 6), ("ssept", 6), ("bert4rec", 5)])
def test_of_long_histories_the_newest_items_are_read(make_model, kind, read, positions):
    model = make_model(kind, positions=positions)
    history = np.array([0, 1, 2, 3, 4, 5, 6, 1])
    scores = model.score(USERS[:1], [history])
    assert torch.equal(scores, model.score(USERS[:1], [history[-read:]]))
    assert not torch.equal(scores, model.score(USERS[:1], [history[-read + 1 :]]))


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_cross_entropy_over_the_labelled_positions(make_model, make_batch, kind):
    model = make_model(kind)
    batch = make_batch([1, 2, 3, 4], [5, 6, 0])
    with torch.no_grad():
        output = model(**batch)
        scored = batch["labels"] != -100
        hidden, items = model.output_weights(model(**{**batch, "labels": None}).hidden_states[scored])
        expected = F.cross_entropy(hidden @ items.t() + model.item_bias, batch["labels"][scored])
        assert output.hidden_states is None
        torch.testing.assert_close(output.loss, expected)
        # Five labels here, 20 in the accumulated batch: a quarter of the mean.
        torch.testing.assert_close(model(**batch, num_items_in_batch=20).loss, expected * 5 / 20)
        torch.testing.assert_close(model(**batch, num_items_in_batch=torch.tensor(20)).loss, expected * 5 / 20)


def test_no_loss_without_labels(make_model):
    output = make_model("sasrec")(torch.tensor([[1, 2]]), torch.tensor([2]))
    assert output.loss is None
    assert output.hidden_states.shape == (1, 2, 4)


def test_negatives_choose_the_sampled_loss(make_model, make_batch):
    model, batch = make_model("sasrec"), make_batch([1, 2, 3, 4], [5, 6, 0])
    with torch.no_grad():
        exact = model(**batch).loss.item()
        model.criterion = SampledSoftmax(50_000)
        assert model(**batch).loss.item() == pytest.approx(exact, rel=0.02)
        model.criterion = SampledSoftmax(1)
        assert len({model(**batch).loss.item() for _ in range(5)}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_is_close(make_model, make_batch, kind):
    model, batch = make_model(kind), make_batch([1, 2, 3, 4], [5, 6, 0])
    exact = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.03)
    assert all(weight.grad.dtype == torch.float32 for weight in model.parameters())


def test_users_half_of_the_score_cancels(make_model, make_batch):
    model, batch = make_model("ssept"), make_batch([1, 2, 3, 4], [5, 6, 0])
    with torch.no_grad():
        hidden = model.encode(batch["input_ids"], batch["lengths"], batch["user_ids"])
        users = model.user_embedding(batch["user_ids"])[:, None, None].expand(-1, -1, 7, -1)
        items = model.item_embedding.weight.expand(*users.shape[:3], -1)
        # The paper's score: the whole state against [item ; user], (batch, length, items).
        scores = (hidden[:, :, None] * torch.cat((items, users), -1)).sum(-1) + model.item_bias
        scored = batch["labels"] != -100
        expected = F.cross_entropy(scores[scored], batch["labels"][scored])
        torch.testing.assert_close(model(**batch).loss, expected)


def test_shared_replaces_with_the_stated_frequency():
    torch.manual_seed(0)
    ids = torch.full((100_000,), 3)
    assert torch.equal(shared(ids, 10, 0.0), ids)
    replaced = shared(ids, 10, 0.4)
    # One in ten of those that are replaced gets its own id again: 0.4 x 0.9 differ, and 0.04 have each other id.
    frequencies = torch.bincount(replaced, minlength=10) / len(ids)
    assert frequencies[3].item() == pytest.approx(0.64, abs=0.01)
    assert all(frequencies[other].item() == pytest.approx(0.04, abs=0.005) for other in range(10) if other != 3)


def test_ids_are_replaced_in_training_only(make_model):
    model = make_model("ssept", sse_user_probability=0.5, sse_item_probability=0.25, item_count=1000, user_count=1000)
    seen = {}
    for name in ("item_embedding", "user_embedding"):
        getattr(model, name).register_forward_hook(lambda _, ids, __, name=name: seen.update({name: ids[0]}))
    items, users = torch.full((2000, 6), 4), torch.full((2000,), 5)

    def share_replaced() -> tuple[float, float]:
        model.embed(items, users)
        return tuple(
            (seen[name] != own).float().mean().item() for name, own in (("item_embedding", 4), ("user_embedding", 5))
        )

    assert share_replaced() == (0, 0)
    model.train()
    assert share_replaced() == pytest.approx((0.25, 0.5), abs=0.02)
    # Each position for itself: a row does not have one user for all.
    assert (seen["user_embedding"] == seen["user_embedding"][:, :1]).all(1).float().mean() < 0.1


def test_ssept_needs_users():
    with pytest.raises(FrugalError, match="SSE-PT needs user_count"):
        SSEPT(SSEPT.config_class(item_count=7, user_count=0))


@pytest.mark.parametrize("compiled", [False, True])
def test_dropout_keeps_the_expected_value(compiled):
    dropout, ones = Dropout(0.25), torch.ones(1000, 101)
    if compiled:
        dropout.compile(backend="eager", dynamic=True, fullgraph=True)
    torch.manual_seed(0)
    once, again = dropout(ones), dropout(ones)
    assert once.unique().tolist() == pytest.approx([0, 4 / 3])
    # 101,000 elements: .25, give or take .0014.
    assert (once == 0).float().mean().item() == pytest.approx(0.25, abs=0.006)
    assert once.mean().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(once, again)
    torch.manual_seed(0)
    assert torch.equal(dropout(ones), once)


def test_dropout_in_16_bits_and_in_its_gradient():
    ones = torch.ones(100, 7, dtype=torch.bfloat16, requires_grad=True)
    dropped = Dropout(0.5)(ones)
    dropped.sum().backward()
    assert dropped.dtype == torch.bfloat16
    assert set(dropped.unique().tolist()) == {0, 2}
    assert torch.equal(ones.grad, dropped)


def test_no_dropout_in_evaluation():
    ones = torch.ones(100)
    assert torch.equal(Dropout(0.5).eval()(ones), ones)
    assert torch.equal(Dropout(0.0)(ones), ones)


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_random_by_its_seed(make_model, make_batch, kind):
    model, batch = make_model(kind, hidden_dropout_prob=0.5).train(), make_batch([1, 2, 3, 4], [5, 6, 0])

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return model(**batch).loss.item()

    assert loss(1) == loss(1) != loss(2)


@pytest.fixture(params=["eager", "compiled"])
def arithmetic(request, monkeypatch):
    """Rotation is a product of complex numbers, or of real ones where it is compiled."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: request.param == "compiled")


@pytest.mark.usefixtures("arithmetic")
def test_rotation_by_hand():
    # Vectors of two numbers turn by one radian a position; one sequence of three positions.
    turned = rotate(torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]), rotary_turns(3, 2))
    expected = [[1, 0], [math.cos(1), math.sin(1)], [-math.sin(2), math.cos(2)]]
    torch.testing.assert_close(turned, torch.tensor([expected]))
    # Of four numbers the second pair turns by 100^(-2/4) = 1/10 radian a position.
    turned = rotate(torch.tensor([[[0.0, 0.0, 1.0, 0.0]] * 2]), rotary_turns(2, 4))[0, 1]
    torch.testing.assert_close(turned, torch.tensor([0, 0, math.cos(0.1), math.sin(0.1)]))


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("causal", [True, False])
def test_attention_to_few_is_attention(causal):
    packed = torch.randn(3, 5, 3, 2, 4, requires_grad=True)  # (batch, length, of query, key and value, heads, d)
    query, key, value = packed.transpose(1, 3).unbind(2)
    mask = None if causal else (torch.arange(5) < torch.tensor([5, 1, 3])[:, None])[:, None, None]
    found, gradients = [], []
    for attend in (attend_to_few, F.scaled_dot_product_attention):
        found.append(attend(query, key, value, attn_mask=mask, is_causal=causal))
        gradients += torch.autograd.grad(found[-1].square().sum(), packed, retain_graph=True)
    assert torch.allclose(*found, atol=1e-6)
    assert torch.allclose(*gradients, atol=1e-5)


def test_attention_to_few_by_hand():
    # Scores 2 x ln 3 / sqrt(4) = ln 3 and 0, so weights 3/4 and 1/4; the first position sees itself alone.
    query, key = torch.zeros(2, 1, 1, 2, 4)
    query[..., 0], key[..., 0, 0] = 2.0, math.log(3)
    value = torch.tensor([4.0, 8.0])[:, None].expand(1, 1, 2, 4)
    assert attend_to_few(query, key, value, None, True)[0, 0, :, 0].tolist() == pytest.approx([4.0, 5.0])
    seen = torch.tensor([[[[True, True]]]])
    assert attend_to_few(query, key, value, seen, False)[0, 0, :, 0].tolist() == pytest.approx([5.0, 5.0])


def test_rotated_products_depend_on_the_distance_alone():
    torch.manual_seed(0)
    # (batch, length, heads, d): the same vector at all nine positions.
    query, key = (rotate(torch.randn(1, 1, 2, 8).expand(1, 9, 2, 8), rotary_turns(9, 8)) for _ in range(2))
    products = torch.einsum("bqhd,bkhd->bhqk", query, key)
    torch.testing.assert_close(products[..., 1:, 1:], products[..., :-1, :-1])
    assert not torch.allclose(products[..., 0, 0], products[..., 0, 3])


def test_rotary_attention_sees_distances_and_not_places(make_model):
    # The same two items two positions later, behind items that a mask hides.
    attention = make_model("bert4rec", positions="rotary").blocks[0].attention
    torch.manual_seed(0)
    hidden, turns = torch.randn(1, 4, 4), rotary_turns(4, 2)
    late = torch.tensor([False, False, True, True])[None, None, None]
    moved = torch.cat((torch.randn(1, 2, 4), hidden[:, :2]), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(attention(moved, late, turns)[:, 2:], attention(hidden, ~late, turns)[:, :2])


def test_compiled_blocks_do_the_same_in_real_numbers(make_model, make_batch):
    """Inductor makes no code for complex numbers; what it would get of the blocks has none. No code is made here."""
    batch, seen = make_batch([1, 2, 3, 4], [5, 6]), []

    def backend(graph, inputs):
        values = (node.meta.get("example_value") for node in graph.graph.nodes)
        seen.extend(value.dtype for value in values if isinstance(value, torch.Tensor))
        return graph.forward

    losses, gradients = [], []
    for compiled in (False, True):
        model = make_model("sasrec", positions="rotary", hidden_dropout_prob=0.0).train()
        if compiled:
            for block in model.blocks:
                block.compile(backend=backend, dynamic=True, fullgraph=True)
        losses.append(model(**batch).loss)
        losses[-1].backward()
        gradients.append(model.item_embedding.weight.grad)
    assert torch.float32 in seen
    assert not any(dtype.is_complex for dtype in seen)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_model_is_the_same(make_model, tmp_path, kind, positions):
    model = make_model(kind, positions=positions, score="cosine")
    model.save_pretrained(tmp_path / "model")
    loaded = load_recommender(tmp_path / "model")
    assert type(loaded) is type(model)
    assert torch.equal(loaded.eval().score(USERS, HISTORIES), model.score(USERS, HISTORIES))


def test_what_is_no_recommender_is_refused(make_model, tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(FrugalError, match="model: holds no recommender"):
        load_recommender(folder)
    make_model("sasrec").save_pretrained(folder)
    config = (folder / "config.json").read_text()
    for text in ("{", "{}", config.replace("sasrec", "llama"), config.replace('"item_count": 7', '"item_count": 8')):
        (folder / "config.json").write_text(text)
        with pytest.raises(FrugalError, match="model: holds no recommender"):
            load_recommender(folder)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FrugalError, match="model: holds no recommender"):
        load_recommender(folder)


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_selected_positions_have_the_states_of_the_whole(make_model, kind, adapter):
    model = make_model(kind)
    if adapter:
        add_ilora(model, 4, 8, 2, ["query_key_value", "attention_output", "up", "down"])
        for weight in model.parameters():
            torch.nn.init.normal_(weight)
    input_ids, lengths, users = torch.tensor([[1, 2, 3], [4, 6, 0]]), torch.tensor([3, 2]), torch.tensor([0, 1])
    with torch.no_grad():
        whole = model.encode(input_ids, lengths, users)
        # Of six places, row by row: the second row's first, the first row's last, and that once more.
        some = model.encode(input_ids, lengths, users, torch.tensor([3, 2, 2]))
    torch.testing.assert_close(some, torch.stack([whole[1, 0], whole[0, 2], whole[0, 2]]))


@pytest.mark.parametrize(("blocks", "compiled"), [(1, [True]), (3, [True, True, False])])
def test_the_last_of_several_blocks_is_not_compiled(make_model, blocks, compiled):
    model = make_model("bert4rec", num_hidden_layers=blocks)
    model.compile_blocks()
    assert [block._compiled_call_impl is not None for block in model.blocks] == compiled


@pytest.mark.parametrize(
    "loss", [FullSoftmax(), SampledSoftmax(3), InBatchSoftmax(3, torch.full((7,), 1 / 7)), GBCE(3, 0.75)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_without_a_row_of_a_small_batch_adds_nothing(make_model, kind, loss):
    """All its gradients are there, and zero: the other processes wait for them."""
    model, nothing = make_model(kind).train(), torch.zeros(0, dtype=torch.int64)
    model.criterion = loss
    rows = {"input_ids": nothing.view(0, 4), "labels": nothing.view(0, 4), "lengths": nothing, "user_ids": nothing}
    loss = model(**rows, num_items_in_batch=torch.tensor(7)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_blocks_in_16_bits_are_in_float32(make_model, kind):
    """Else many of them would be equal; as validations on a GPU have it."""
    model = make_model(kind)
    exact = model.score(USERS, HISTORIES)
    model.scoring_dtype = torch.bfloat16
    scores = model.score(USERS, HISTORIES)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, exact)
    torch.testing.assert_close(scores, exact, rtol=0.05, atol=0.2)
    assert not torch.equal(scores, scores.bfloat16().float())

"""What recommenders' jobs declare: counted weights, measured peaks, and what makes a job larger."""

import json

import pytest
import torch

from frugal.config.recommendation import AdapterSettings, EfficiencySettings, ModelSettings, RecommendationRun
from frugal.recsys import memory
from frugal.recsys.adapters import add_adapter, trainable_counts
from frugal.recsys.memory import DataShape, data_shape, training_bytes
from frugal.recsys.training import build_model

MOVIELENS = DataShape(943, 1_682, 100_000)


def run(**changes):
    return RecommendationRun.model_validate({"dataset": "movielens-100k", **changes})


@pytest.mark.parametrize("architecture", ["sasrec", "ssept", "bert4rec"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("projection", [True, False])
def test_weights_are_those_of_the_model(architecture, positions, projection):
    settings = ModelSettings(
        architecture=architecture, positions=positions, output_projection=projection, hidden_size=24, max_length=7
    )
    with torch.device("meta"):
        model = build_model(settings, 31, 11, seed=1)
    assert memory.weights(settings, 31, 11) == model.parameter_counts()["parameters"]


@pytest.mark.parametrize("modules", [["up"], ["query_key_value", "attention_output", "up", "down"]])
def test_adapter_weights_are_those_of_the_adapter(modules):
    settings, adapter = ModelSettings(), AdapterSettings(method="lora", r=4, target_modules=modules)
    model = add_adapter(build_model(settings, 31, 11, seed=1), adapter, seed=1)
    assert memory.adapter_weights(settings, adapter) == trainable_counts(model)["trainable_parameters"]


def held_after_the_loss(model, batch):
    """Bytes of the arrays that autograd keeps for the backward pass, each once; weights are not among them."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**batch).loss.backward()
    return sum(kept.values())


@pytest.mark.parametrize(
    ("architecture", "layers", "positions"),
    [
        ("sasrec", "transformer", "learned"),
        ("ssept", "transformer", "learned"),
        ("bert4rec", "transformer", "learned"),
        ("sasrec", "ligr", "rotary"),
        ("sasrec", "hstu", "relative"),
        ("sasrec", "hstu", "time"),
    ],
)
@pytest.mark.parametrize("length", [40, 80])
def test_activations_cover_what_autograd_keeps(architecture, layers, positions, length):
    """In float32, with dropout, and long enough for both ways to attend."""
    rows, items, users = 8, 50, 20
    settings = ModelSettings(architecture=architecture, layers=layers, positions=positions, max_length=length)
    model = build_model(settings, items, users, seed=1).train()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(items, (rows, length), generator=generator)
    batch = {
        "input_ids": ids,
        "labels": ids,
        "lengths": torch.full((rows,), length),
        "user_ids": torch.arange(rows),
        "times": 1000 * torch.arange(length).expand(rows, -1),
    }
    kept = held_after_the_loss(model, batch)
    states = 4 * 4 * memory.weights(settings, items, users)
    estimated = training_bytes(settings, AdapterSettings(), None, rows, items, users) - states
    assert kept < estimated < 2 * kept


def test_what_makes_a_training_larger():
    def mb(data=MOVIELENS, **changes):
        return memory.training_mb(run(**changes), data)

    base = mb()
    assert mb(training={"per_device_train_batch_size": 256}) > base
    assert mb(model={"hidden_size": 512}) > base
    assert mb(training={"torch_compile": True}) == pytest.approx(memory.PROCESS_MB + memory.COMPILING_MB, rel=0.02)
    assert mb(DataShape(943, 1_682, 20_000_000)) == pytest.approx(base + 50 * 19_900_000 / 2**20)
    assert mb(DataShape(943, 60_000, 100_000)) > base + 4 * 4 * 58_318 * 64 / 2**20  # weights and their states
    assert mb(training={"gpus": 2}) >= 2 * memory.CUDA_HOST_MB
    assert memory.training_mb(run(data={"fraction": 0.5}), MOVIELENS) < base
    lora = run(adapter={"method": "lora"}, warm_start={"variant": "x"})
    assert memory.evaluation_mb(lora, MOVIELENS) == memory.evaluation_mb(run(), MOVIELENS) + memory.PEFT_MB


def test_a_target_is_compared_with_no_more_than_the_batch_or_what_is_drawn():
    def mb(estimate=memory.training_mb, **loss):
        model = {"max_length": 100, "hidden_size": 16, "intermediate_size": 16}
        settings = {"training": {"per_device_train_batch_size": 10}, "evaluation": {"batch_size": 1}}
        return estimate(run(loss=loss, model=model, **settings), MOVIELENS)

    # 10 x 100 positions beside the 1,000 targets of the batch, four arrays of float32.
    most, few = ({"name": "in_batch_softmax", "negatives": count} for count in (10**6, 100))
    assert mb(**most) == mb(**most | {"negatives": 1000})
    assert mb(**most) - mb(**few) == pytest.approx(4 * 4 * 1000 * 900 / 2**20)
    for name in ("gbce", "sampled_softmax"):
        many, few = ({"name": name, "negatives": count} for count in (10**5, 1000))
        assert mb(memory.device_mb, **many) > mb(memory.device_mb, **few) + 2 * 2 * 1000 * 99_000 / 2**20


def test_an_adapter_needs_less_than_all_weights():
    large = {"hidden_size": 256, "num_hidden_layers": 8, "intermediate_size": 1024}
    adapter = {"adapter": {"method": "ilora"}, "warm_start": {"variant": "x"}}
    assert memory.training_mb(run(model=large, **adapter), MOVIELENS) < memory.training_mb(run(model=large), MOVIELENS)


def test_baselines_grow_with_the_square_of_the_catalogue_up_to_where_that_does_not_fit():
    def mb(items, **baselines):
        return memory.baselines_mb(run(baselines=baselines), DataShape(943, items, 100_000), limit_mb=16_000)

    assert mb(30_000) - mb(5_000) == pytest.approx(12 * (30_000**2 - 5_000**2) / 2**20, rel=0.03)
    assert mb(60_000) == mb(60_000, use=["item_knn"]) < mb(30_000)
    assert mb(30_000, ease_neighbours=100) < mb(30_000) / 5
    assert mb(500_000) < 2_000
    pairs = [memory.pair_baselines_mb(DataShape(943, items, 100_000), 16_000) for items in (1_000, 30_000, 60_000)]
    assert pairs[2] < pairs[0] < pairs[1] == pytest.approx(pairs[2] + 12 * 30_000**2 / 2**20)


def test_efficiency_is_that_of_the_largest_size_and_mode():
    def mb(modes, **sizes):
        return memory.efficiency_mb(run(), EfficiencySettings(item_count=1682, modes=modes, sizes=sizes))

    small, large = {}, {"hidden_size": 512, "num_hidden_layers": 8}
    assert mb(["float32"], small=small, large=large) == mb(["float32"], large=large) > mb(["float32"], small=small)
    # Measured on the laptop study's size: 1,086 MB of all processes together, the compiler's 498 among them.
    laptop = {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 512}
    assert 1086 < mb(["float32", "bfloat16+compile"], small=laptop) < 1.2 * 1086


def test_the_shape_of_data(tmp_path):
    summary = tmp_path / "summary.json"
    assert data_shape("mine", summary) is None
    assert data_shape("movielens-1m", summary).users == 6_040
    summary.write_text(json.dumps({"users": 5, "items": 7, "rows_kept": 30}))
    assert data_shape("movielens-1m", summary) == DataShape(5, 7, 30)
    for broken in ("{", "[]", '{"users": null, "items": 1, "rows_kept": 1}', '{"users": 5}'):
        summary.write_text(broken)
        assert data_shape("mine", summary) is None

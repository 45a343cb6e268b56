"""Adapters by name: what is trained, what is saved, and what comes back."""

import numpy as np
import pytest
import torch
from peft import PeftModel

from frugal.config.recommendation import AdapterSettings
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.recsys.adapters import add_adapter, load_trained, save_trained, trainable_counts, unwrap
from frugal.recsys.modeling import load_recommender

KINDS = ["sasrec", "ssept", "bert4rec"]
USERS, HISTORIES = np.array([0, 1]), [np.array([1, 2, 3]), np.array([4, 6])]
FILES = {
    "none": ["config.json", "model.safetensors"],
    "lora": ["adapter_config.json", "adapter_model.safetensors"],
    "ilora": ["adapter_config.json", "adapter_model.safetensors"],
}


def settings(method: str, **changes) -> AdapterSettings:
    return AdapterSettings(method=method, **{"r": 4, "experts": 2, **changes})


def trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def disturb(model: torch.nn.Module) -> None:
    """As if trained."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in trained(model).values():
            weight.add_(torch.randn_like(weight))


@pytest.mark.parametrize("method", ["none", "lora", "ilora"])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_model_scores_the_same(make_model, tmp_path, kind, method):
    make_model(kind).save_pretrained(tmp_path / "backbone")
    model = add_adapter(load_recommender(tmp_path / "backbone"), settings(method), seed=1)
    untrained = unwrap(model).eval().score(USERS, HISTORIES)
    disturb(model)
    scores = unwrap(model).score(USERS, HISTORIES)
    assert not torch.allclose(scores, untrained)
    save_trained(model, settings(method), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES[method]
    loaded = load_trained(tmp_path / "out", settings(method), tmp_path / "backbone")
    assert not loaded.training
    assert torch.equal(loaded.score(USERS, HISTORIES), scores)


@pytest.mark.parametrize("method", ["lora", "ilora"])
def test_initialisation_depends_on_the_seed_alone(make_model, method):
    first = trained(add_adapter(make_model("bert4rec"), settings(method), seed=1))
    backbone = make_model("bert4rec")
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    again = trained(add_adapter(backbone, settings(method), seed=1))
    assert torch.equal(torch.rand(3), expected)  # what is drawn elsewhere stays as it is
    other = trained(add_adapter(make_model("bert4rec"), settings(method), seed=2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("method", ["lora", "ilora"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_trained_weight_has_a_gradient(make_model, make_batch, method, precision):
    model = add_adapter(make_model("ssept"), settings(method), seed=1).train()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        model(**make_batch([1, 2, 3, 4], [5, 6, 0])).loss.backward()
    assert all((weight.grad is not None) == weight.requires_grad for weight in model.parameters())


def test_trainable_counts_by_hand(make_model):
    # SASRec of 7 items: see test_parameter_counts, 411 weights. LoRA with r = 2 on `up` (4 to 8) of two
    # blocks: 2 x 2 (4 + 8) = 48 more. iLoRA has a gate of 4 x 2 + 2 = 10 besides.
    assert trainable_counts(make_model("sasrec")) == {"trainable_parameters": 411, "trainable_share": 1.0}
    for method, count in (("lora", 48), ("ilora", 58)):
        adapter = settings(method, r=2, target_modules=["up"])
        assert trainable_counts(add_adapter(make_model("sasrec"), adapter, seed=1)) == {
            "trainable_parameters": count,
            "trainable_share": count / (411 + count),
        }


def test_unwrap(make_model):
    plain = make_model("sasrec")
    assert unwrap(plain) is plain
    adapted = add_adapter(plain, settings("lora"), seed=1)
    assert isinstance(adapted, PeftModel)
    assert unwrap(adapted) is plain


def test_saved_lora_is_a_plain_peft_adapter_with_the_same_bytes_each_time(make_model, tmp_path):
    model = add_adapter(make_model("bert4rec"), settings("lora"), seed=1)
    for name in ("one", "two"):
        save_trained(model, settings("lora"), tmp_path / name)
    config = read_json(tmp_path / "one" / "adapter_config.json")
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 16)
    assert config["target_modules"] == ["attention_output", "down", "query_key_value", "up"]
    for name in FILES["lora"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("method", ["lora", "ilora"])
def test_what_cannot_be_loaded_is_refused(make_model, tmp_path, method):
    make_model("sasrec").save_pretrained(tmp_path / "backbone")
    make_model("sasrec", intermediate_size=16).save_pretrained(tmp_path / "other")
    save_trained(add_adapter(make_model("sasrec"), settings(method), seed=1), settings(method), tmp_path / "out")
    with pytest.raises(FrugalError, match="out: an adapter needs its backbone"):
        load_trained(tmp_path / "out", settings(method))
    with pytest.raises(FrugalError, match="nowhere: "):
        load_trained(tmp_path / "nowhere", settings(method), tmp_path / "backbone")
    with pytest.raises(FrugalError, match="nowhere: "):
        load_trained(tmp_path / "out", settings(method), tmp_path / "nowhere")
    with pytest.raises(FrugalError, match="out: "):
        load_trained(tmp_path / "out", settings(method), tmp_path / "other")
    weights = tmp_path / "out" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(FrugalError, match="out: holds no"):
        load_trained(tmp_path / "out", settings(method), tmp_path / "backbone")

"""Weights to begin with: what is taken over, and which files are refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from frugal.errors import FrugalError
from frugal.recsys.catalogue import NUMBERS, Catalogue, read_catalogue, write_catalogue
from frugal.recsys.warm_start import by_id, describe, read_weights, warm_start

WEIGHTS = {"item_bias": torch.arange(7.0), "norm.weight": torch.full((4,), 3.0)}


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["sasrec", "ssept", "bert4rec"])
def test_saved_model_starts_another_of_its_kind(make_model, tmp_path, kind):
    source, model = make_model(kind, seed=1), make_model(kind, seed=2)
    source.save_pretrained(tmp_path / "model")
    report = warm_start(model, read_weights(tmp_path / "model"))
    assert same(model.state_dict(), source.state_dict())
    assert sorted(report["loaded"]) == sorted(source.state_dict())
    assert report["skipped"] == report["missing"] == []


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("section", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_torch(tmp_path, suffix, section, prefix):
    content = {prefix + name: weight for name, weight in WEIGHTS.items()}
    torch.save(content if section is None else {section: content, "epoch": 3}, tmp_path / f"model{suffix}")
    assert same(read_weights(tmp_path / f"model{suffix}"), WEIGHTS)


def test_single_safetensors_file(tmp_path):
    save_file(WEIGHTS, tmp_path / "some.safetensors")
    assert same(read_weights(tmp_path / "some.safetensors"), WEIGHTS)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_pickle_that_would_run_code_is_refused(tmp_path, write):
    write({"state_dict": WEIGHTS, "optimizer": Bomb(tmp_path / "touched")}, tmp_path / "bomb.pth")
    with pytest.raises(FrugalError, match=r"bomb\.pth: is not a plain file of weights"):
        read_weights(tmp_path / "bomb.pth")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(WEIGHTS, path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(FrugalError, match=f"model{suffix}: "):
            read_weights(path)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.zeros(2)],
        torch.zeros(2),
        {"norm.weight": 3.0},
        {1: torch.zeros(2)},
        {"state_dict": {"norm.weight": [1.0]}},
        {"norm.weight": torch.eye(2).to_sparse()},
    ],
)
def test_files_without_named_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(FrugalError, match=r"model\.pt: is not a plain file of weights"):
        read_weights(tmp_path / "model.pt")


def test_missing_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(FrugalError, match=r"nowhere\.pth: no such file"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(FrugalError, match=r"model\.safetensors: no such file"):
        read_weights(tmp_path)
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(FrugalError, match=r"weights\.npz: not a kind of file"):
        read_weights(tmp_path / "weights.npz")


def test_other_catalogue_and_users_keep_their_embeddings(make_model):
    source, model = make_model("ssept", seed=1), make_model("ssept", seed=2, item_count=9, user_count=5)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    report = warm_start(model, source.state_dict())
    other = ["item_bias", "item_embedding.weight", "user_embedding.weight"]
    assert sorted(entry["name"] for entry in report["skipped"]) == other
    assert {"name": "item_embedding.weight", "reason": "its size is 7 x 4, the model's is 9 x 4"} in report["skipped"]
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name] if name in other else source.state_dict()[name])


def test_report_names_everything(make_model):
    weights = {
        "norm.weight": torch.full((4,), 3.0, dtype=torch.float64),
        "item_bias": torch.zeros(9),
        "norm.bias": torch.zeros(4, dtype=torch.int64),
        "head.weight": torch.zeros(2),
    }
    model = make_model("sasrec")
    report = warm_start(model, weights)
    assert report["loaded"] == ["norm.weight"]
    assert model.norm.weight.tolist() == [3, 3, 3, 3]
    assert report["skipped"] == [
        {"name": "item_bias", "reason": "its size is 9, the model's is 7"},
        {"name": "norm.bias", "reason": "its type is int64, not floating point"},
        {"name": "head.weight", "reason": "the model has no weights of this name"},
    ]
    assert sorted(report["missing"]) == sorted(model.state_dict().keys() - weights.keys())
    lines = describe(report).splitlines()
    assert lines[0] == "warm start: 1 tensors loaded, 3 skipped"
    assert lines[1] == "  loaded   norm.weight"
    assert lines[2] == "  skipped  item_bias: its size is 9, the model's is 7"
    assert len(lines) == 1 + 1 + 3 + len(report["missing"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_refused(make_model, value):
    # 1e300 is finite in float64, but not in the model's float32.
    model = make_model("sasrec")
    bias = torch.zeros(7, dtype=torch.float64)
    bias[3] = value
    before = model.norm.weight.clone()
    with pytest.raises(FrugalError, match="'item_bias' that are not finite"):
        warm_start(model, {"norm.weight": torch.full((4,), 3.0), "item_bias": bias})
    assert torch.equal(model.norm.weight, before)


def test_another_architecture_is_refused(make_model):
    with pytest.raises(
        FrugalError, match=r"another architecture.*holds conv\.weight \(2 x 3\); expected are item_bias"
    ):
        warm_start(make_model("sasrec"), {"conv.weight": torch.zeros(2, 3)})


def numbered(model, start: float) -> dict[str, torch.Tensor]:
    """The model's weights with the numbers from ``start`` on as its item biases."""
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    state["item_bias"] = torch.arange(start, start + len(state["item_bias"]))
    return state


@pytest.mark.parametrize("kind", ["sasrec", "bert4rec"])
def test_rows_are_those_of_the_same_ids(make_model, kind):
    # Trained on a, c, d, e; now b, d, c, f: the rows 1 and 2 change places.
    source, model = make_model(kind, seed=1, item_count=4), make_model(kind, seed=2, item_count=4)
    before = model.item_embedding.weight.detach().clone()
    old, new = Catalogue(list("acde")), Catalogue(list("bdcf"))
    weights, rows = by_id(model, numbered(source, 10.0), old, new)
    assert rows == {"items": {"copied": 2, "new": 2, "left_out": 2}}
    own = model.item_bias.tolist()
    report = warm_start(model, weights)
    assert model.item_bias.tolist() == pytest.approx([own[0], 12, 11, own[3]])
    assert torch.equal(model.item_embedding.weight[1], source.item_embedding.weight[2])
    assert torch.equal(model.item_embedding.weight[[0, 3]], before[[0, 3]])
    if kind == "bert4rec":  # the row behind the items is the mask's
        assert torch.equal(model.item_embedding.weight[4], source.item_embedding.weight[4])
    assert describe(report | {"rows": rows}).splitlines()[1] == (
        "  items    2 rows copied by id, 2 new here, 2 not in this data"
    )


def test_catalogues_of_other_sizes(make_model):
    source, model = make_model("bert4rec", seed=1, item_count=2), make_model("bert4rec", seed=2, item_count=5)
    weights, rows = by_id(model, source.state_dict(), Catalogue(["x", "e"]), Catalogue(list("abcde")))
    assert rows["items"] == {"copied": 1, "new": 4, "left_out": 1}
    assert warm_start(model, weights)["skipped"] == []
    assert torch.equal(model.item_embedding.weight[4:], source.item_embedding.weight[1:])


@pytest.mark.parametrize(
    ("old", "new", "copied"), [("one", "one", 3), ("one", "two", 0), (None, None, 0), (NUMBERS, NUMBERS, 3)]
)
def test_users_are_copied_where_they_are_known_to_be_the_same(make_model, old, new, copied):
    source, model = make_model("ssept", seed=1), make_model("ssept", seed=2, user_count=5)
    before, items = model.user_embedding.weight.detach().clone(), list("abcdefg")
    weights, rows = by_id(model, source.state_dict(), Catalogue(items, old), Catalogue(items, new))
    assert rows["users"] == {"copied": copied, "new": 5 - copied, "left_out": 3 - copied}
    report = warm_start(model, weights)
    assert report["missing"] == ([] if copied else ["user_embedding.weight"])
    assert torch.equal(model.user_embedding.weight[:copied], source.user_embedding.weight[:copied])
    assert torch.equal(model.user_embedding.weight[copied:], before[copied:])


def test_weights_without_ids_or_with_others_are_refused(make_model):
    model = make_model("sasrec")
    ids = Catalogue(list("abcdefg"))
    with pytest.raises(FrugalError, match=r"no catalogue\.json beside them"):
        by_id(model, model.state_dict(), None, ids)
    with pytest.raises(
        FrugalError, match=r"7 rows in 'item_embedding\.weight', and catalogue\.json beside them lists 3"
    ):
        by_id(model, model.state_dict(), Catalogue(list("abc")), ids)
    # Without embeddings there is no row to be mistaken.
    norm = {"norm.weight": torch.zeros(4)}
    assert by_id(model, norm, None, ids) == (norm, {})


def test_catalogues_come_back(tmp_path):
    assert read_catalogue(tmp_path) is None
    write_catalogue(tmp_path, Catalogue(["é", "1"], "f00"))
    assert read_catalogue(tmp_path) == Catalogue(["é", "1"], "f00")
    for broken in ("{", "[]", '{"items": ["a", "a"]}', '{"items": [1]}', '{"users": "x"}'):
        (tmp_path / "catalogue.json").write_text(broken)
        with pytest.raises(FrugalError, match=r"catalogue\.json: "):
            read_catalogue(tmp_path)

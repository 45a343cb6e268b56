"""What the evaluation scripts share: the model with and without an adapter, its memory, and what it came from."""

from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from frugal.errors import FrugalError
from frugal.files import read_json, sha256_file, sha256_tree, write_json, write_text
from frugal.llm import evaluation
from frugal.llm.evaluation import load_for_evaluation, memory_metrics, write_evaluation
from frugal.run.device import Choice


@pytest.fixture
def adapter(tiny_model_folder, make_run, tmp_path):
    """A folder with an adapter on the tiny model."""
    from peft import LoraConfig, get_peft_model

    from frugal.llm.loading import load_base_model

    model = load_base_model(tiny_model_folder, make_run().model, "cpu")
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_base_models_size_is_without_the_adapter(tiny_model_folder, adapter, make_run):
    base, tokenizer, alone = load_for_evaluation(tiny_model_folder, None, make_run(), "cpu")
    adapted, _, below = load_for_evaluation(tiny_model_folder, adapter, make_run(), "cpu")
    # float32, all weights; rotary frequencies are kept beside them
    assert alone == pytest.approx(sum(4 * weight.numel() for weight in base.parameters()) / 2**20, rel=0.01)
    assert alone == below < adapted.get_memory_footprint() / 2**20
    assert not base.training
    assert not adapted.training
    assert tokenizer.pad_token_id is not None


@pytest.mark.parametrize("fault", ["renamed", "missing", "further"])
def test_an_adapter_whose_tensors_do_not_match_is_refused(tiny_model_folder, adapter, make_run, fault):
    weights = load_file(adapter / "adapter_model.safetensors")
    first = next(iter(weights))
    if fault == "renamed":
        weights = {name.replace("layers", "blocks"): weight for name, weight in weights.items()}
    elif fault == "missing":
        del weights[first]
    else:
        weights[first.replace("layers.0", "layers.7")] = weights[first].clone()
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        FrugalError, match=r"adapter: holds no adapter that fits the model: \d+ tensors are in one of the"
    ):
        load_for_evaluation(tiny_model_folder, adapter, make_run(), "cpu")


def test_devices_count_where_the_run_has_them(monkeypatch):
    monkeypatch.setattr(evaluation, "peak_rss_mb", lambda: 20.04)
    monkeypatch.setattr(evaluation, "peak_device_mb", lambda: 30.06)
    assert memory_metrics(10.04, gpus=0) == {"base_model_mb": 10.0, "peak_rss_mb": 20.0}
    assert memory_metrics(10.04, gpus=1) == {"base_model_mb": 10.0, "peak_rss_mb": 20.0, "peak_device_mb": 30.1}
    monkeypatch.setattr(evaluation, "peak_device_mb", lambda: None)
    assert "peak_device_mb" not in memory_metrics(10.04, gpus=1)


def test_all_that_was_read_is_hashed(tiny_model_folder, adapter, make_run, tmp_path):
    paths = {name: tmp_path / name for name in ("test", "config", "training", "metrics")}
    args = SimpleNamespace(base_model=tiny_model_folder, adapter=adapter, **paths)
    write_text(args.test, "test")
    write_text(args.config, "config")
    write_json(args.training, {"steps": 1})
    write_evaluation(args, make_run(), Choice("float32", "set"), {"accuracy": 0.5}, {"accuracy": [0.4, 0.6]})
    result = read_json(args.metrics)
    assert (result["metrics"], result["intervals"]) == ({"accuracy": 0.5}, {"accuracy": [0.4, 0.6]})
    assert result["training"] == {"steps": 1}
    assert result["provenance"]["seed"] == 3
    assert (result["provenance"]["compute_dtype"], result["provenance"]["compute_dtype_reason"]) == ("float32", "set")
    assert result["provenance"]["inputs"] == {
        "test": sha256_file(args.test),
        "config": sha256_file(args.config),
        "base_model": sha256_tree([tiny_model_folder]),
        "adapter": sha256_file(adapter / "adapter_model.safetensors"),
    }

    args.adapter = args.training = None
    write_evaluation(args, make_run(), Choice("float32", "set"), {}, {})
    result = read_json(args.metrics)
    assert result["training"] is None
    assert set(result["provenance"]["inputs"]) == {"test", "config", "base_model"}

"""Shapes of models, before they are fetched and after, as transformers reads them."""

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, LlamaConfig

from frugal.config.registry import load_models
from frugal.llm.memory.shapes import NEEDED, SHAPES, model_shape

MODELS = load_models("config/models.yaml")
ATTRIBUTES = (*NEEDED, "num_key_value_heads", "head_dim", "tie_word_embeddings", "model_type")


def attributes(config):
    return {name: getattr(config, name) for name in ATTRIBUTES}


@pytest.mark.parametrize("name", SHAPES)
def test_published_shapes(name):
    assert attributes(model_shape(name, MODELS[name], Path("no-models"))) == attributes(LlamaConfig(**SHAPES[name]))


def test_a_prepared_model(tiny_model_folder, tmp_path):
    (tmp_path / "tiny-random-llama").symlink_to(tiny_model_folder)
    expected = attributes(AutoConfig.from_pretrained(tiny_model_folder))
    prepared = model_shape("tiny-random-llama", MODELS["tiny-random-llama"], tmp_path)
    assert attributes(prepared) == expected
    assert attributes(model_shape("tiny-random-llama", MODELS["tiny-random-llama"], Path("no-models"))) == expected


def test_a_folder_of_the_users_is_read_before_it_is_prepared(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**SHAPES["llama-3.2-1b"], "model_type": "mistral"}))
    table = tmp_path / "models.yaml"
    table.write_text(f"models:\n  mine:\n    title: Mine\n    sources: [{{path: {tmp_path}}}]\n")
    shape = model_shape("mine", load_models(table)["mine"], Path("no-models"))
    assert (shape.hidden_size, shape.model_type) == (2048, "mistral")


@pytest.mark.parametrize("config", [[], {}, {"n_embd": 768}, {**SHAPES["llama-3-8b"], "hidden_size": "4096"}])
def test_what_is_not_built_like_llama_has_no_shape(config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text(json.dumps(config))
    assert model_shape("mine", MODELS["llama-3-8b"], tmp_path) is None


def test_what_is_optional_has_llamas_defaults(tmp_path):
    (tmp_path / "mine").mkdir()
    config = {name: SHAPES["llama-3-8b"][name] for name in NEEDED}
    (tmp_path / "mine/config.json").write_text(json.dumps(config))
    assert attributes(model_shape("mine", MODELS["llama-3-8b"], tmp_path)) == attributes(LlamaConfig(**config))

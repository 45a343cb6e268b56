"""Backends of language models: what each accepts, and that all faults are named at once."""

import pytest

from frugal.config.errors import validate
from frugal.config.language_modeling import LanguageModelingRun
from frugal.errors import FrugalError

ON_UNSLOTH = {
    "dataset": "synthetic",
    "base_model": "synthetic",
    "backend": "unsloth",
    "corpus": {"packing": "continuous"},
    "training": {"gpus": 1},
}


def run(**changes) -> LanguageModelingRun:
    data = dict(ON_UNSLOTH)
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return validate(LanguageModelingRun, data, file="study.yaml")


def test_unsloth_accepts_one_gpu():
    assert run().backend == "unsloth"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"gpus": 0}}, r"backend 'unsloth' needs a GPU: set training\.gpus to 1, or backend to"),
        ({"training": {"gpus": 2}}, r"trains on one GPU: set training\.gpus and training\.nodes to 1, or backend to"),
        ({"training": {"nodes": 2}}, r"trains on one GPU: set training\.gpus and training\.nodes to 1, or backend to"),
        ({"training": {"gradient_checkpointing": "selective"}}, r"recomputes in its own way: set training\.gradient_c"),
        ({"lora": {"use_dora": True}}, r"has no DoRA: set lora\.use_dora to false, or backend to"),
        ({"model": {"double_quantization": False}}, r"always quantises doubly: set model\.double_quantization to true"),
        ({"corpus": {"packing": "within_documents"}}, r"lets all tokens of a block see each other: set corpus\.pack"),
    ],
)
def test_what_unsloth_does_not_accept_transformers_does(changes, message):
    with pytest.raises(FrugalError, match=message):
        run(**changes)
    assert run(backend="transformers", **changes).backend == "transformers"


def test_all_faults_are_named_at_once():
    with pytest.raises(FrugalError, match=r"has no DoRA: .*; backend 'unsloth' trains on one GPU: [^;]*$"):
        run(lora={"use_dora": True}, training={"gpus": 2, "nodes": 2})

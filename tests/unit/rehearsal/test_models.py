"""The stand-ins of base models have what the real ones have, and become models by the workflow's own preparation."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from frugal.config.registry import load_models
from frugal.llm.conversion import prepare_model
from frugal.llm.loading import load_tokenizer
from frugal.rehearsal.models import CHAT_SPECIAL, SPECIAL, commit_hash, gguf_model, llama_snapshot

SHIPPED = load_models(Path("config/models.yaml"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepares files as a model's fetched folder."""

    def run(name: str, files: dict[str, bytes]) -> Path:
        folder = tmp_path_factory.mktemp("model")
        for path, content in files.items():
            (folder / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "raw" / path).write_bytes(content)
        prepare_model(SHIPPED[name], folder / "raw", folder / "model")
        return folder / "model"

    return run


@pytest.mark.parametrize(("name", "scaled", "tied"), [("llama-3.2-1b", True, True), ("llama-3-8b", False, False)])
def test_a_llama_of_the_hub(prepared, name, scaled, tied):
    files = llama_snapshot(SHIPPED[name].sources[0].hub)
    folder = prepared(name, files)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    assert len(list(folder.glob("model-0000*.safetensors"))) > 1
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert (model.config.rope_parameters["rope_type"] == "llama3") == scaled
    assert model.config.rope_parameters["rope_theta"] == 500_000
    assert not (folder / "consolidated.00.pth").exists()
    ids = tokenizer("The sea, in 1997.").input_ids
    assert (tokenizer.bos_token, ids[0]) == (SPECIAL[0], tokenizer.bos_token_id)
    assert tokenizer.decode(ids[1:]) == "The sea, in 1997."
    assert tokenizer.convert_tokens_to_ids("<|end_of_text|>") == tokenizer.eos_token_id == tokenizer.pad_token_id
    assert max(ids) < model.config.vocab_size == len(tokenizer)
    # Spelled out in a text, a special token is text.
    assert tokenizer.eos_token_id not in tokenizer("<|end_of_text|>").input_ids


def test_a_chat_model_in_gguf(prepared):
    folder = prepared("smollm2-135m-instruct", {"model.gguf": gguf_model()})
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    assert tokenizer.decode(tokenizer("stone and water").input_ids) == "stone and water"
    assert tokenizer.eos_token == CHAT_SPECIAL[2]
    message = [{"role": "user", "content": "a"}]
    assert "<|im_start|>user" in tokenizer.apply_chat_template(message, tokenize=False)
    assert model.config.vocab_size == len(tokenizer)


def test_the_same_model_has_the_same_commit():
    one, other = llama_snapshot("meta-llama/Llama-3.2-1B"), llama_snapshot("meta-llama/Llama-3.2-1B")
    assert commit_hash(one) == commit_hash(other)
    assert commit_hash(one) != commit_hash(one | {"config.json": b"{}"})

"""A model folder is what it claims: whole weights under the right names, and a tokenizer with all its files."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing
from transformers import AutoModelForCausalLM, GPT2Tokenizer, LlamaConfig

from frugal.config.language_modeling import CorpusSettings, EvaluationSettings
from frugal.config.llm import ModelSettings
from frugal.config.registry import ModelEntry
from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.llm import model_folder
from frugal.llm.blocks import encoder
from frugal.llm.conversion import prepare_model
from frugal.llm.loading import load_base_model, load_tokenizer
from frugal.llm.perplexity import bos_token
from frugal.preference.prompts import encode_example

ENTRY = ModelEntry.model_validate({"title": "t", "licence": "MIT", "sources": [{"path": "there"}]})


@pytest.fixture
def snapshot(tmp_path, tiny_model_folder):
    """A whole snapshot, before it is prepared."""
    shutil.copytree(tiny_model_folder, tmp_path / "raw")
    return tmp_path / "raw"


def change_tensors(folder, change):
    weights = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, **changes):
    write_json(folder / "config.json", read_json(folder / "config.json") | changes)


MLP = "model.layers.1.mlp.down_proj.weight"
NORM = "model.norm.weight"
FAULTS = {
    "prefix": (
        lambda folder: change_tensors(folder, lambda w: {f"_orig_mod.{name}": t for name, t in w.items()}),
        r"lack lm_head\.weight, .*have, but the model has not, _orig_mod\.model\..*names have a prefix",
    ),
    "inner prefix": (
        lambda folder: change_tensors(
            folder, lambda w: {name.replace("model.", "model.language_model."): t for name, t in w.items()}
        ),
        r"have, but the model has not, model\.language_model\..*names have a prefix",
    ),
    "a layer without its MLP": (
        lambda folder: change_tensors(folder, lambda w: {n: t for n, t in w.items() if "layers.1.mlp" not in n}),
        rf"they lack {re.escape(MLP)}, model\.layers\.1\.mlp\.gate_proj\.weight, model\.layers\.1\.mlp\.up_proj",
    ),
    "tied, but said not to be": (
        lambda folder: change_config(folder, tie_word_embeddings=False),
        r"they lack lm_head\.weight\. .*needs tie_word_embeddings: true",
    ),
    "not tied, but said to be": (
        lambda folder: change_tensors(folder, lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"] + 1}),
        r"has tie_word_embeddings: true, but the output layer and the embeddings have different weights",
    ),
    "fewer layers said": (
        lambda folder: change_config(folder, num_hidden_layers=1),
        r"have, but the model has not, model\.layers\.1\.",
    ),
    "another shape": (
        lambda folder: change_tensors(folder, lambda w: w | {NORM: w[NORM][:-1].clone()}),
        r"another shape: model\.norm\.weight \(63,\), not \(64,\)",
    ),
    "a linear layer's shape": (
        lambda folder: change_config(folder, intermediate_size=256),
        r"another shape: model\.layers\.0\.mlp\.down_proj\.weight \(64, 128\), not \(64, 256\)",
    ),
}


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("fault", FAULTS)
def test_other_tensors_than_the_configuration_describes_are_refused(snapshot, fault, quantization):
    change, message = FAULTS[fault]
    change(snapshot)
    with pytest.raises(FrugalError, match=rf"{re.escape(str(snapshot))}: .*{message}"):
        load_base_model(snapshot, ModelSettings(quantization=quantization, compute_dtype="float32"), "cpu")
    if quantization == "none":
        with pytest.raises(FrugalError, match=rf"{re.escape(str(snapshot))}: .*{message}"):
            prepare_model(ENTRY, snapshot, snapshot.with_name("prepared"))


def test_an_output_layer_stored_twice_is_no_fault(snapshot):
    change_tensors(snapshot, lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    prepare_model(ENTRY, snapshot, snapshot.with_name("prepared"))
    load_base_model(snapshot, ModelSettings(quantization="none", compute_dtype="float32"), "cpu")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["m-00001-of-00002.gguf"], r"in 2 parts, without m-00002-of-00002\.gguf; add it"),
        (["m-00002-of-00003.gguf"], r"without m-00001-of-00003\.gguf, m-00003-of-00003\.gguf"),
        (["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], r"llama-gguf-split --merge m-00001-of-00002\.gguf"),
        (["m-Q4.gguf", "m-Q8.gguf"], r"several GGUF files: m-Q4\.gguf, m-Q8\.gguf; leave one"),
    ],
)
def test_a_part_of_a_gguf_model_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(FrugalError, match=message):
        prepare_model(ENTRY, tmp_path, tmp_path / "prepared")


def gguf_llama(path: Path, layers: int, **more: tuple[int, ...]) -> None:
    """A Llama of 2 layers as GGUF, the last of which are left out, and the shapes of more tensors."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(3)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "ab"])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    shapes = {"token_embd": (3, 32), "output_norm": (32,), "output": (3, 32)}
    for n in range(layers):
        shapes |= {f"blk.{n}.{name}": (32, 32) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{n}.{name}": (32,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{n}.ffn_gate": (48, 32), f"blk.{n}.ffn_up": (48, 32), f"blk.{n}.ffn_down": (32, 48)}
    for name, shape in (shapes | more).items():
        writer.add_tensor(f"{name}.weight", torch.ones(shape).numpy())
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()


def test_a_gguf_file_is_read_whole_or_refused(tmp_path):
    for layers in (2, 1):
        (tmp_path / str(layers)).mkdir()
        gguf_llama(tmp_path / str(layers) / "m.gguf", layers)
    prepare_model(ENTRY, tmp_path / "2", tmp_path / "prepared")
    assert load_file(tmp_path / "prepared/model.safetensors")[MLP].shape == (32, 48)
    with pytest.raises(FrugalError, match=r"they lack model\.layers\.1\.input_layernorm\.weight"):
        prepare_model(ENTRY, tmp_path / "1", tmp_path / "none")


def test_a_gguf_file_with_other_rotary_frequencies_is_refused(tmp_path):
    gguf_llama(tmp_path / "m.gguf", 2, rope_freqs=(4,))
    with pytest.raises(FrugalError, match=r"m\.gguf: it scales the frequencies .* take the model's safetensors"):
        prepare_model(ENTRY, tmp_path, tmp_path / "prepared")


LETTERS = {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}


@pytest.fixture
def gpt2_tokenizer_files(snapshot):
    """A snapshot whose tokenizer is a vocabulary and merges, without tokenizer.json."""
    (snapshot / "tokenizer.json").unlink()
    write_json(snapshot / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    (snapshot / "vocab.json").write_text(json.dumps(LETTERS))
    (snapshot / "merges.txt").write_text("#version: 0.2\na b\n")
    return snapshot


def test_a_vocabulary_and_merges_are_a_tokenizer(gpt2_tokenizer_files, tmp_path):
    prepare_model(ENTRY, gpt2_tokenizer_files, tmp_path / "prepared")
    tokenizer = load_tokenizer(tmp_path / "prepared")
    assert isinstance(tokenizer, GPT2Tokenizer)
    assert tokenizer("abb")["input_ids"] == [2, 1]


def test_a_vocabulary_without_merges_is_refused(gpt2_tokenizer_files, tmp_path):
    (gpt2_tokenizer_files / "merges.txt").unlink()
    with pytest.raises(FrugalError, match=r"raw: no usable tokenizer: vocab\.json without merges\.txt"):
        prepare_model(ENTRY, gpt2_tokenizer_files, tmp_path / "prepared")


def test_the_package_that_reads_a_tokenizer_is_named(snapshot, tmp_path, monkeypatch):
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    monkeypatch.setattr("frugal.llm.model_folder._installed", lambda package: package == "protobuf")
    with pytest.raises(FrugalError, match=r"tokenizer\.model needs packages .* not installed here: sentencepiece; "):
        prepare_model(ENTRY, snapshot, tmp_path / "prepared")


def test_a_missing_shard_is_named(snapshot):
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(snapshot)
    AutoModelForCausalLM.from_config(config).save_pretrained(snapshot, max_shard_size="100KB")
    (snapshot / "model.safetensors").unlink()
    shard = sorted(snapshot.glob("model-0000*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FrugalError, match=re.escape(shard.name)):
        prepare_model(ENTRY, snapshot, snapshot.with_name("prepared"))


def with_bos(folder: Path, tokenizer, **settings) -> None:
    """Let a folder's tokenizer put its BOS token before each text, as Llama 3's does, in the same two steps."""
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    bos = tokenizer.bos_token
    template = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = Sequence([ByteLevel(trim_offsets=False), template])
    tokenizer.save_pretrained(folder)
    write_json(folder / "tokenizer_config.json", read_json(folder / "tokenizer_config.json") | settings)


def test_prompts_and_documents_begin_with_the_bos_token_once(snapshot):
    with_bos(snapshot, load_tokenizer(snapshot))
    tokenizer = load_tokenizer(snapshot)
    bos = tokenizer.bos_token_id
    record = {"instruction": "Choose.", "input": "Liked: 1.", "output": "Option A."}
    assert encode_example(tokenizer, record, 512)["input_ids"].count(bos) == 1
    assert encode_example(tokenizer, record, 512)["input_ids"][0] == bos
    corpus = CorpusSettings(add_bos=True)
    assert [list(text).count(bos) for text in encoder(tokenizer, corpus)(["One text.", "Another."])] == [1, 1]
    assert encoder(tokenizer, corpus)(["One text."])[0][0] == bos
    assert bos not in encoder(tokenizer, CorpusSettings(add_bos=False))(["One text."])[0]
    assert bos_token(tokenizer, EvaluationSettings(add_bos=True)) == bos


def test_a_bos_token_that_is_lost_as_the_tokenizer_is_loaded_is_noticed(snapshot, monkeypatch):
    lost = load_tokenizer(snapshot)
    with_bos(snapshot, lost)
    lost.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
    monkeypatch.setattr(model_folder.AutoTokenizer, "from_pretrained", lambda *_, **__: lost)
    with pytest.raises(FrugalError, match=r"tokenizer\.json puts <\|begin_of_text\|> before each text, which is lost"):
        load_tokenizer(snapshot)
    settings = read_json(snapshot / "tokenizer_config.json")
    write_json(snapshot / "tokenizer_config.json", settings | {"add_bos_token": False})  # as is meant to be
    assert load_tokenizer(snapshot) is lost

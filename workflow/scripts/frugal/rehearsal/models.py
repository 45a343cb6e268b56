"""Stand-ins of base models: random Llamas of two narrow layers, stored as their publishers store the real ones.

What the workflow meets in a base model is kept: the architecture, the positions' scaling, tied or separate embeddings,
weights in several files with an index, the tokenizer's algorithm, its special tokens and whether it adds BOS.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
}
#: As in the config.json that Meta publishes with Llama 3.2 (https://huggingface.co/meta-llama/Llama-3.2-1B).
ROPE_SCALING = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
ROPE_THETA = 500_000.0
#: How Llama 3's tokenizer cuts a text into words (its published tokenizer.json).
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Pairs that are merged to one token, beside the 256 bytes; Ġ is a blank.
MERGES = (
    "Ġ t", "h e", "Ġt he", "i n", "e r", "o n", "a n", "r e", "Ġ s", "Ġ a", "e s", "a t", "o r", "Ġ c", "Ġ p", "Ġ m",
    "n d", "Ġ b", "Ġ w", "Ġ f", "e n", "i t", "Ġ l", "a r", "Ġa nd", "l e", "Ġ in", "o u", "Ġ r", "u r", "a l", "Ġ g",
)  # fmt: skip
#: Special tokens of Llama 3, in the order of their ids; the reserved ones fill up to 256.
NAMED_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
SPECIAL = (*NAMED_SPECIAL, *(f"<|reserved_special_token_{n}|>" for n in range(3, 3 + 256 - len(NAMED_SPECIAL))))
#: What a chat model's template writes (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct).
CHAT_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def llama_snapshot(repository: str) -> dict[str, bytes]:
    """The files of a repository of the Hub that holds a Llama 3: path to content.

    Beside what the workflow asks for it has what a real one has and must not be fetched: pickled weights.
    """
    scaled = "-3.1" in repository or "-3.2" in repository
    tied = "-3.2" in repository
    vocabulary = bpe_vocabulary()
    first = len(vocabulary)
    bos, eos = first, first + 1
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 131_072 if scaled else 8192,
        "mlp_bias": False,
        "model_type": "llama",
        "pretraining_tp": 1,
        "rope_scaling": ROPE_SCALING if scaled else None,
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": first + len(SPECIAL),
        **SHAPE,
    }
    files = _weights(config, shard_size="100KB")
    files |= {
        "config.json": _json(config),
        "generation_config.json": _json(
            {"bos_token_id": bos, "do_sample": True, "eos_token_id": eos, "temperature": 0.6, "top_p": 0.9}
        ),
        "tokenizer.json": llama_tokenizer(vocabulary).to_str(pretty=True).encode(),
        "tokenizer_config.json": _json(
            {
                "added_tokens_decoder": {
                    str(first + n): {"content": token, "special": True}
                    | dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
                    for n, token in enumerate(SPECIAL)
                },
                "bos_token": SPECIAL[0],
                "clean_up_tokenization_spaces": True,
                "eos_token": SPECIAL[1],
                "model_input_names": ["input_ids", "attention_mask"],
                "model_max_length": 131_072,
                "tokenizer_class": "PreTrainedTokenizerFast",
            }
        ),
        "special_tokens_map.json": _json({"bos_token": SPECIAL[0], "eos_token": SPECIAL[1]}),
        "LICENSE.txt": b"A stand-in of the licence.\n",
        "README.md": b"A stand-in with random weights.\n",
        "original/consolidated.00.pth": b"Pickled weights, which are never fetched.",
        "original/params.json": _json({"dim": 64}),
    }
    return files


def bpe_vocabulary() -> dict[str, int]:
    """Token to id: the 256 bytes, as byte-level BPE writes them, and what `MERGES` makes of them."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair.split()) for pair in MERGES)]
    return {token: index for index, token in enumerate(tokens)}


def llama_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    """Byte-level BPE with Llama 3's words and special tokens; it puts BOS before each text."""
    merges = [tuple(pair.split()) for pair in MERGES]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    bos = SPECIAL[0]
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, len(vocabulary))]
            ),
        ]
    )
    return tokenizer


def gguf_model() -> bytes:
    """A chat model with tied embeddings as GGUF, its tokenizer with a chat template."""
    from gguf import GGUFWriter, TokenType

    tokens = [*CHAT_SPECIAL, *bpe_vocabulary()]
    config = {**SHAPE, "vocab_size": len(tokens), "tie_word_embeddings": True, "max_position_embeddings": 8192}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        writer = GGUFWriter(file, "llama")
        writer.add_context_length(8192)
        writer.add_embedding_length(SHAPE["hidden_size"])
        writer.add_block_count(SHAPE["num_hidden_layers"])
        writer.add_feed_forward_length(SHAPE["intermediate_size"])
        writer.add_head_count(SHAPE["num_attention_heads"])
        writer.add_head_count_kv(SHAPE["num_key_value_heads"])
        writer.add_rope_dimension_count(SHAPE["head_dim"])
        writer.add_rope_freq_base(100_000.0)
        writer.add_layer_norm_rms_eps(SHAPE["rms_norm_eps"])
        writer.add_vocab_size(len(tokens))
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        kinds = [TokenType.CONTROL] * len(CHAT_SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(CHAT_SPECIAL))
        writer.add_token_types(kinds)
        writer.add_token_merges(list(MERGES))
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_pad_token_id(2)
        writer.add_chat_template(CHAT_TEMPLATE)
        for name, tensor in _random_llama(config).state_dict().items():
            if name != "lm_head.weight":
                writer.add_tensor(_gguf_name(name), tensor.float().numpy())
        for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
            write()
        writer.close()
        return file.read_bytes()


def _gguf_name(name: str) -> str:
    """The name of a Llama's tensor in GGUF."""
    inner = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.layers.": "blk.",
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
    }
    for ours, theirs in inner.items():
        name = name.replace(ours, theirs)
    return name


def commit_hash(files: dict[str, bytes]) -> str:
    """40 hex digits that stand for the content of a repository."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path, content in sorted(files.items()):
        digest.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _random_llama(config: dict[str, Any]) -> LlamaForCausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**config)).to(torch.bfloat16)


def _weights(config: dict[str, Any], shard_size: str) -> dict[str, bytes]:
    """Safetensors in shards, and their index."""
    names = ("architectures", "rope_scaling", "rope_theta", "torch_dtype")
    model = _random_llama({key: value for key, value in config.items() if key not in names})
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=shard_size)
        return {file.name: file.read_bytes() for file in Path(folder).glob("model*")}


def _json(value: Any) -> bytes:
    return f"{json.dumps(value, indent=2)}\n".encode()

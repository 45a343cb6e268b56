"""Packing: every token of a document is in a block, once, and nothing depends on chance."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from frugal.config.language_modeling import CorpusSettings
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.llm.blocks import (
    Corpus,
    cut_text,
    pack,
    pack_documents,
    plain_tokens,
    seeded_order,
    split_up,
    up_to,
)

BOS, EOS = 256, 257
documents_of_tokens = st.lists(st.lists(st.integers(0, 9), max_size=40).map(lambda x: np.array(x, np.int32)))


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, and the special tokens <s> and </s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({character: place for place, character in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.split_special_tokens = True
    assert (fast.bos_token_id, fast.eos_token_id) == (BOS, EOS)
    return fast


@pytest.fixture
def write(tmp_path):
    """Write documents.parquet: texts by name, and their own split where it is given."""

    def write_documents(texts, split=None):
        path = tmp_path / "documents.parquet"
        rows = {"document": list(texts), "text": list(texts.values()), "split": split or [None] * len(texts)}
        schema = pa.schema({name: pa.string() for name in rows})
        pq.write_table(pa.table(rows, schema=schema), path, row_group_size=3)
        return path

    return write_documents


def settings(**changes):
    return CorpusSettings(**({"block_length": 16, "add_eos": False} | changes))


def rows(path):
    return pq.read_table(path).to_pylist()


def test_pack_by_hand():
    documents = [np.array(ids, np.int32) for ids in ([1, 2, 3], [], [4], [5, 6, 7, 8, 9, 10])]
    blocks = [(block.input_ids.tolist(), block.segment_lengths) for block in pack(documents, 4)]
    assert blocks == [([1, 2, 3, 4], [3, 1]), ([5, 6, 7, 8], [4]), ([9, 10], [2])]
    # One token more than two blocks: nothing would predict it.
    assert len(list(pack([np.arange(9)], 4))) == 2


def test_split_up_by_hand():
    documents = [np.arange(9), np.array([7]), np.arange(2)]
    blocks = [(block.input_ids.tolist(), block.segment_lengths) for block in split_up(documents, 4)]
    assert blocks == [([0, 1, 2, 3], [4]), ([4, 5, 6, 7], [4]), ([0, 1], [2])]


def test_limit_takes_whole_blocks_and_cuts_only_the_first():
    def blocks():
        return pack([np.arange(3), np.arange(3, 12)], 4)

    assert [block.input_ids.tolist() for block in up_to(blocks(), 11)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [(b.input_ids.tolist(), b.segment_lengths) for b in up_to(blocks(), 2)] == [([0, 1], [2])]
    assert [(b.input_ids.tolist(), b.segment_lengths) for b in up_to(blocks(), 3)] == [([0, 1, 2], [3])]


@pytest.mark.parametrize(
    ("packing", "lengths"), [("within_documents", [[10, 6], [4]]), ("continuous", [[16], [4]]), ("none", [[10], [10]])]
)
def test_which_documents_of_a_block_see_each_other(write, tokenizer, tmp_path, packing, lengths):
    texts = {"a": "abcdefghij", "b": "klmnopqrst", "c": "test", "d": "validate"}
    path = write(texts, ["train", "train", "test", "validation"])
    pack_documents(path, tokenizer, settings(packing=packing), 1, tmp_path / "blocks")
    assert [row["segment_lengths"] for row in rows(tmp_path / "blocks/train.parquet")] == lengths


@given(documents_of_tokens, st.integers(2, 16))
def test_packing_loses_nothing_but_a_last_token(documents, length):
    blocks = list(pack(documents, length))
    before = np.concatenate([*documents, []])
    after = np.concatenate([*(block.input_ids for block in blocks), []])
    assert len(before) - len(after) == (len(before) % length == 1)
    assert np.array_equal(after, before[: len(after)])
    assert all(len(block.input_ids) == length for block in blocks[:-1])
    assert all(sum(block.segment_lengths) == len(block.input_ids) for block in blocks)
    # A segment begins where a block or a document does.
    starts = {0, *np.cumsum([len(document) for document in documents]).tolist()}
    for number, block in enumerate(blocks):
        begins = number * length + np.cumsum([0, *block.segment_lengths])[:-1]
        assert set(begins[1:].tolist()) <= starts
        assert starts & set(range(number * length + 1, number * length + len(block.input_ids))) <= set(begins.tolist())


@given(documents_of_tokens, st.integers(2, 16), st.integers(2, 60))
def test_limit_is_kept(documents, length, limit):
    blocks, all_blocks = list(up_to(pack(documents, length), limit)), list(pack(documents, length))
    total = sum(len(block.input_ids) for block in blocks)
    assert total <= limit
    assert bool(blocks) == bool(all_blocks)
    if len(blocks) < len(all_blocks):
        assert total + length > limit


def test_files_by_hand(write, tokenizer, tmp_path):
    texts = {"a": "abcdefghij", "b": "klmnopqrst", "c": "a b\u00e9", "d": "validate"}
    path = write(texts, ["train", "train", "test", "validation"])
    counts = pack_documents(path, tokenizer, settings(add_bos=True, add_eos=True), 1, tmp_path / "blocks")
    train = rows(tmp_path / "blocks/train.parquet")
    # 12 tokens each with BOS and EOS: a block of 16, and what is left.
    assert [row["segment_lengths"] for row in train] == [[12, 4], [8]]
    assert [row["input_ids"].count(BOS) for row in train] == [2, 0]
    spelled = tokenizer.decode(train[0]["input_ids"][1:11])
    assert spelled == "abcdefghij"
    assert train[0]["input_ids"][11:13] == [EOS, BOS]
    # Test texts have neither: two words, five bytes.
    (test,) = rows(tmp_path / "blocks/test.parquet")
    assert (test["document"], test["words"], test["bytes"], len(test["input_ids"])) == ("c", 2, 5, 5)
    assert counts == {
        "documents": {"train": 2, "validation": 1, "test": 1},
        "tokens": {"train": 24, "validation": 10, "test": 5},
        "blocks": {"train": 2, "validation": 1, "test": 1},
        "tokens_lost": {"train": 0, "validation": 0, "test": 0},
    }
    assert read_json(tmp_path / "blocks/blocks.json").items() >= counts.items()
    about = json.loads(pq.read_metadata(tmp_path / "blocks/train.parquet").metadata[b"frugal"])
    assert (about["part"], about["tokens"], about["settings"]["block_length"]) == ("train", 24, 16)


def test_special_tokens_in_a_text_are_text(write, tokenizer, tmp_path):
    path = write({"a": "x</s>y", "b": "<s>", "c": "zz"}, ["train", "validation", "test"])
    counts = pack_documents(path, tokenizer, settings(), 1, tmp_path / "blocks")
    assert counts["tokens"] == {"train": 6, "validation": 3, "test": 2}


def test_split_has_exact_shares_and_only_names_and_seed_decide_it(write):
    texts = {f"document {n}": "text" for n in range(20)}
    corpus = Corpus(write(texts), settings(validation_documents=0.1, test_documents=0.25), seed=3)
    assert corpus.sizes == {"train": 13, "validation": 2, "test": 5}
    names = [name for part in ("train", "validation", "test") for _, batch, _ in corpus.batches(part) for name in batch]
    assert sorted(names) == sorted(texts)
    part = dict(zip(texts, corpus.part, strict=True))
    backwards = dict(reversed(texts.items()))
    again = Corpus(write(backwards), settings(validation_documents=0.1, test_documents=0.25), seed=3)
    assert dict(zip(backwards, again.part, strict=True)) == part
    other = Corpus(write(texts), settings(validation_documents=0.1, test_documents=0.25), seed=4)
    assert dict(zip(texts, other.part, strict=True)) != part


def test_a_new_document_moves_no_other_one_in_the_seeded_order():
    names = [f"document {n}" for n in range(30)]
    before = [names[row] for row in seeded_order(names, 1)]
    longer = [*names, "new"]
    after = [longer[row] for row in seeded_order(longer, 1)]
    assert [name for name in after if name != "new"] == before


def test_max_train_tokens_takes_the_first_documents_of_the_seeded_order(write, tokenizer, tmp_path):
    texts = {f"document {n}": chr(97 + n) * (5 + n) for n in range(20)}
    path = write(texts)
    corpus = Corpus(path, settings(), seed=1)
    order = sorted(texts, key=dict(zip(texts, corpus.rank, strict=True)).get)
    train = [name for name in order if corpus.part[list(texts).index(name)] == "train"]
    counts = pack_documents(path, tokenizer, settings(max_train_tokens=40), 1, tmp_path / "blocks")
    joined = "".join(texts[name] for name in train)
    blocks = rows(tmp_path / "blocks/train.parquet")
    assert [tokenizer.decode(row["input_ids"]) for row in blocks] == [joined[:16], joined[16:32]]
    assert counts["tokens"]["train"] == 32


def test_few_blocks_are_validated_with(write, tokenizer, tmp_path):
    path = write({"a": "t" * 50, "b": "v" * 16 * 8, "c": "x" * 50}, ["train", "validation", "test"])
    counts = pack_documents(path, tokenizer, settings(max_validation_tokens=50), 1, tmp_path / "blocks")
    assert counts["blocks"]["validation"] == 3
    assert counts["tokens_lost"]["validation"] == 5 * 16


def test_test_texts_are_cut_at_a_whole_character(write, tokenizer, tmp_path):
    # Sixteen bytes end within the two bytes of the second \u00e9; the sixteenth token is left out.
    text = "ab \u00e9 0123456 89\u00e9 tail"
    path = write({"a": "train", "b": "validate", "c": text, "d": "short"}, ["train", "validation", "test", "test"])
    pack_documents(path, tokenizer, settings(max_test_tokens=17), 1, tmp_path / "blocks")
    cut, whole = rows(tmp_path / "blocks/test.parquet")
    assert tokenizer.decode(cut["input_ids"]) == "ab \u00e9 0123456 89"
    assert (len(cut["input_ids"]), cut["words"], cut["bytes"]) == (16, 4, 16)
    assert (whole["words"], whole["bytes"]) == (1, 5)


@given(st.text(min_size=1, max_size=40), st.integers(0, 39))
def test_a_cut_text_is_what_its_tokens_spell(tokenizer, text, limit):
    encoded = plain_tokens(tokenizer, [text], return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"][0], encoded["offset_mapping"][0]
    if limit >= len(ids):
        return
    kept, spelled = cut_text(tokenizer, text, ids, offsets, limit)
    assert text.startswith(spelled)
    assert plain_tokens(tokenizer, [spelled])["input_ids"][0] == kept
    assert limit - 3 <= len(kept) <= limit  # a character has four bytes at most


def test_a_cut_text_is_exact_where_decoding_changes_it():
    backend = Tokenizer(models.WordLevel({"the": 0, "end": 1, "?": 2}, unk_token="?"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    lower = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")
    encoded = plain_tokens(lower, ["The  END the end"], return_offsets_mapping=True)
    ids, text = cut_text(lower, "The  END the end", encoded["input_ids"][0], encoded["offset_mapping"][0], 2)
    assert (ids, text) == ([0, 1], "The  END")


@pytest.mark.parametrize("packing", ["within_documents", "none"])
def test_same_input_same_bytes(write, tokenizer, tmp_path, packing):
    path = write({f"document {n}": "some words " * (n + 1) for n in range(12)})
    for folder in ("one", "two"):
        pack_documents(path, tokenizer, settings(packing=packing, max_train_tokens=200), 1, tmp_path / folder)
    for name in ("train.parquet", "validation.parquet", "test.parquet", "blocks.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_fewer_tokens_than_a_block_make_one_short_block(write, tokenizer, tmp_path):
    path = write({"a": "ab", "b": "cd", "c": "ef"})
    counts = pack_documents(path, tokenizer, settings(), 1, tmp_path / "blocks")
    assert counts["blocks"] == {"train": 1, "validation": 1, "test": 1}
    assert counts["tokens"] == {"train": 2, "validation": 2, "test": 2}


@pytest.mark.parametrize(
    ("texts", "split", "message"),
    [
        ({"a": "x", "b": "validate", "c": "test"}, ["train", "validation", "test"], "train documents give fewer than"),
        ({"a": "text", "b": "", "c": "test"}, ["train", "validation", "test"], "validation documents give fewer than"),
        ({"a": "text", "b": "more"}, None, "2 documents are too few"),
        ({"a": "text", "b": "more"}, ["train", "test"], "no 'validation'"),
        (dict.fromkeys("abcd", "text"), ["train", "validation", "test", None], "holds None"),
        (dict.fromkeys("abcd", "text"), ["train", "validation", "test", "dev"], "holds 'dev'"),
    ],
)
def test_too_little_text_says_what_is_missing(write, tokenizer, tmp_path, texts, split, message):
    with pytest.raises(FrugalError, match=message) as raised:
        pack_documents(write(texts, split), tokenizer, settings(), 1, tmp_path / "blocks")
    assert "documents.parquet" in str(raised.value)


def test_what_the_tokenizer_lacks_is_named(write, tmp_path, tiny_model_folder):
    from frugal.llm.loading import load_tokenizer

    path = write(dict.fromkeys("abc", "text"))
    with pytest.raises(FrugalError, match=r"corpus\.add_bos"):
        pack_documents(path, load_tokenizer(tiny_model_folder), settings(add_bos=True), 1, tmp_path / "blocks")


def test_a_broken_file_is_named(tokenizer, tmp_path):
    (tmp_path / "documents.parquet").write_text("not Parquet")
    with pytest.raises(FrugalError, match=r"documents\.parquet: cannot be read"):
        pack_documents(tmp_path / "documents.parquet", tokenizer, settings(), 1, tmp_path / "blocks")

"""Turn documents into blocks of tokens: split by document, tokenise, pack, and write as a stream.

In memory are the text of a few documents, the names of all documents and, with `max_train_tokens`, that number of
tokens. The same input gives the same bytes.
"""

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frugal.config.language_modeling import CorpusSettings
from frugal.data.prepared import read_columns
from frugal.errors import FrugalError, blaming
from frugal.files import atomic_path, write_json

PARTS = ("train", "validation", "test")
DOCUMENTS_AT_ONCE = 8
ROW_GROUP_TOKENS = 2**18
NAMES = pa.schema({"document": pa.string()})
REPAIR = "; make it again with the rule prepare_documents"
BLOCKS = pa.schema({"input_ids": pa.list_(pa.int32()), "segment_lengths": pa.list_(pa.int32())})
TEXTS = pa.schema(
    {"document": pa.string(), "input_ids": pa.list_(pa.int32()), "words": pa.int64(), "bytes": pa.int64()}
)


class Block(NamedTuple):
    """A training row.

    Attributes:
        input_ids: int32, (tokens,).
        segment_lengths: tokens of each piece of a document in the block, in order; their sum is `tokens`. With
            corpus.packing 'continuous' a block is one segment.
    """

    input_ids: np.ndarray
    segment_lengths: list[int]


def pack_documents(documents: Path, tokenizer, settings: CorpusSettings, seed: int, folder: Path) -> dict[str, Any]:
    """Write train.parquet, validation.parquet (blocks), test.parquet (whole texts) and blocks.json into ``folder``.

    Each Parquet file carries the tokenizer's hash, the settings and its counts as JSON under the key `frugal`
    of its metadata. The last tokens make a shorter block; a single token is dropped, because nothing predicts it.

    Args:
        documents: Parquet with the columns document, text and split.
        tokenizer: a fast one, for which special tokens spelled out in the text are ordinary text.

    Returns:
        The content of blocks.json, for each part: documents (in the split), tokens and blocks (written; for test
        the number of texts), and tokens_lost (read, but beyond a limit or too few for a block).

    Raises:
        FrugalError: the file cannot be read, a part of the split is empty, or the tokenizer lacks a special token.
    """
    if not tokenizer.is_fast:
        raise FrugalError(f"{tokenizer.name_or_path}: the tokenizer is not a fast one; add its tokenizer.json")
    corpus = Corpus(Path(documents), settings, seed)
    about = {"tokenizer": tokenizer_hash(tokenizer), "seed": seed, "settings": settings.model_dump(mode="json")}
    limits = {"train": settings.max_train_tokens, "validation": settings.max_validation_tokens}
    cut = split_up if settings.packing == "none" else pack
    encode = encoder(tokenizer, settings)
    counts = {"documents": corpus.sizes, "tokens": {}, "blocks": {}, "tokens_lost": {}}
    for part in PARTS:
        read = Counter()
        if part == "test":
            rows, schema = text_rows(corpus.texts(part), tokenizer, settings.max_test_tokens, read), TEXTS
        else:
            limit = limits[part]
            # One block more than needed, so that a block that ends at the limit is complete.
            tokens = corpus.tokens(part, encode, None if limit is None else limit + settings.block_length)
            blocks = up_to(cut(counted(tokens, read), settings.block_length), limit)
            if settings.packing == "continuous":  # a block is one segment, in which all documents see each other
                blocks = (Block(block.input_ids, [len(block.input_ids)]) for block in blocks)
            rows, schema = (block._asdict() for block in blocks), BLOCKS
        written = write_rows(Path(folder) / f"{part}.parquet", schema, rows, {**about, "part": part})
        if not written["rows"]:
            raise FrugalError(f"{documents}: the {part} documents give fewer than two tokens; add text")
        counts["tokens"][part], counts["blocks"][part] = written["tokens"], written["rows"]
        counts["tokens_lost"][part] = read["tokens"] - written["tokens"]
    write_json(Path(folder) / "blocks.json", {**counts, **about})
    return counts


class Corpus:
    """documents.parquet, and the part of the split that each of its rows belongs to."""

    def __init__(self, path: Path, settings: CorpusSettings, seed: int) -> None:
        self.path = path
        names = read_columns(path, NAMES, "prepare_documents")
        with blaming(path, "cannot be read", REPAIR):
            self.file = pq.ParquetFile(path)
            given = self.file.read(["split"])["split"].to_pylist()
        order = seeded_order(names["document"].to_pylist(), seed)
        #: int, (documents,): the rank of each row in an order that depends on names and seed only.
        self.rank = np.argsort(order)
        if any(given):
            self.part = self._given_split(given)
        else:
            self.part = np.empty(len(given), dtype=object)
            self.part[order] = self._drawn_split(len(given), settings)
        self.sizes = {part: int((self.part == part).sum()) for part in PARTS}

    def _given_split(self, given: list[str | None]) -> np.ndarray:
        for part in PARTS:
            if part not in given:
                raise FrugalError(f"{self.path}: the column split has no '{part}'; it needs {', '.join(PARTS)}")
        if unknown := set(given) - set(PARTS):
            raise FrugalError(f"{self.path}: the column split holds {unknown.pop()!r}; use {', '.join(PARTS)} in all")
        return np.array(given, dtype=object)

    def _drawn_split(self, count: int, settings: CorpusSettings) -> list[str]:
        """The part of each document in the seeded order: exact shares, at least one document each."""
        shares = settings.validation_documents, settings.test_documents
        validation, test = (max(1, round(count * share)) for share in shares)
        if validation + test >= count:
            raise FrugalError(
                f"{self.path}: {count} documents are too few for the shares {shares} of validation and test; add "
                "documents (three or more), or lower corpus.validation_documents and corpus.test_documents"
            )
        return ["validation"] * validation + ["test"] * test + ["train"] * (count - validation - test)

    def batches(self, part: str) -> Iterator[tuple[list[int], list[str], list[str]]]:
        """Rows, names and texts of one part, a few documents at a time, in the order of the file."""
        first = 0
        with blaming(self.path, "cannot be read", REPAIR):
            for batch in self.file.iter_batches(batch_size=DOCUMENTS_AT_ONCE, columns=["document", "text"]):
                inside = np.flatnonzero(self.part[first : first + len(batch)] == part)
                chosen = batch.take(pa.array(inside))
                if len(inside):
                    names, texts = (chosen[column].cast(pa.string()) for column in ("document", "text"))
                    texts.validate(full=True)
                    if names.null_count or texts.null_count:
                        raise ValueError("a document has no name or no text")
                    yield (inside + first).tolist(), names.to_pylist(), texts.to_pylist()
                first += len(batch)

    def texts(self, part: str) -> Iterator[tuple[list[str], list[str]]]:
        """Names and texts of one part, a few documents at a time."""
        return ((names, texts) for _, names, texts in self.batches(part))

    def tokens(self, part: str, encode: Callable, limit: int | None) -> Iterator[np.ndarray]:
        """Each document's tokens; with a limit, the documents that reach it first in the seeded order.

        Args:
            encode: from a list of texts to a list of token arrays.
        """
        if limit is None:
            for _, _, texts in self.batches(part):
                yield from encode(texts)
            return
        # A heap of the documents with the lowest ranks; its top has the highest rank and is dropped first.
        kept: list[tuple[int, np.ndarray]] = []
        total = 0
        for rows, _, texts in self.batches(part):
            ranked = [(int(self.rank[row]), text) for row, text in zip(rows, texts, strict=True)]
            ranked = [(rank, text) for rank, text in ranked if total < limit or rank < -kept[0][0]]
            for (rank, _), tokens in zip(ranked, encode([text for _, text in ranked]), strict=True):
                heapq.heappush(kept, (-rank, tokens))
                total += len(tokens)
                while total - len(kept[0][1]) >= limit:
                    total -= len(heapq.heappop(kept)[1])
        for _, tokens in sorted(kept, key=lambda entry: -entry[0]):
            yield tokens


def seeded_order(names: list[str], seed: int) -> np.ndarray:
    """int, (names,): rows in the order of a hash of seed and name, so a new document does not move the others."""
    keys = [hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8] for name in names]
    return np.argsort(np.frombuffer(b"".join(keys), dtype=">u8"), kind="stable")


def encoder(tokenizer, settings: CorpusSettings) -> Callable[[list[str]], list[np.ndarray]]:
    """Encodes texts as int32 token arrays, with BOS and EOS as the settings say; an empty text stays empty.

    Raises:
        FrugalError: the tokenizer lacks one of them.
    """
    ends: dict[str, list[int]] = {}
    for name in ("bos", "eos"):
        token = getattr(tokenizer, f"{name}_token_id")
        if getattr(settings, f"add_{name}") and token is None:
            raise FrugalError(f"corpus.add_{name}: the tokenizer has no {name.upper()} token; set it to false")
        ends[name] = [token] if getattr(settings, f"add_{name}") else []

    def encode(texts: list[str]) -> list[np.ndarray]:
        return [
            np.array([*ends["bos"], *ids, *ends["eos"]] if ids else [], dtype=np.int32)
            for ids in plain_tokens(tokenizer, texts)["input_ids"]
        ]

    return encode


def plain_tokens(tokenizer, texts: list[str], **options: bool):
    """The tokens of each text, without BOS and EOS, and without warnings about texts longer than the context."""
    if not texts:
        return {"input_ids": []}
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False, **options)


def read_blocks(path: Path) -> list[dict[str, list[int]]]:
    """Packed blocks: input_ids and segment_lengths of each.

    Raises:
        FrugalError: the file cannot be read, or the segments of a block do not add up to its tokens.
    """
    blocks = read_columns(path, BLOCKS, "pack_blocks").to_pylist()
    for number, block in enumerate(blocks):
        tokens, lengths = block["input_ids"], block["segment_lengths"]
        if not tokens or min(tokens) < 0 or min(lengths, default=0) < 1 or sum(lengths) != len(tokens):
            raise FrugalError(f"{path}: block {number} is damaged; make it again with the rule pack_blocks")
    return blocks


def counted(documents: Iterable[np.ndarray], read: Counter) -> Iterator[np.ndarray]:
    for tokens in documents:
        read["tokens"] += len(tokens)
        yield tokens


def pack(documents: Iterable[np.ndarray], length: int) -> Iterator[Block]:
    """Blocks of ``length`` tokens; a document cut by the end of a block continues in the next one as a new segment."""
    pieces: list[np.ndarray] = []
    room = length
    for tokens in documents:
        while len(tokens):
            pieces.append(tokens[:room])
            tokens, room = tokens[room:], room - len(pieces[-1])
            if room == 0:
                yield _block(pieces)
                pieces, room = [], length
    if length - room >= 2:
        yield _block(pieces)


def split_up(documents: Iterable[np.ndarray], length: int) -> Iterator[Block]:
    """Blocks of 2 to ``length`` tokens, each from one document."""
    for tokens in documents:
        for start in range(0, len(tokens) - 1, length):
            yield _block([tokens[start : start + length]])


def _block(pieces: list[np.ndarray]) -> Block:
    return Block(np.concatenate(pieces), [len(piece) for piece in pieces])


def up_to(blocks: Iterable[Block], limit: int | None) -> Iterator[Block]:
    """The first blocks, up to ``limit`` tokens in total; if the first one is longer, it is cut."""
    total = 0
    for block in blocks:
        if limit is not None and total + len(block.input_ids) > limit:
            if total == 0:
                ends = np.minimum(np.cumsum(block.segment_lengths), limit)
                lengths = np.diff(ends, prepend=0)
                yield Block(block.input_ids[:limit], lengths[lengths > 0].tolist())
            return
        total += len(block.input_ids)
        yield block


def text_rows(
    batches: Iterable[tuple[list[str], list[str]]], tokenizer, limit: int | None, read: Counter
) -> Iterator[dict[str, Any]]:
    """Rows of test.parquet; texts without tokens are left out."""
    for names, texts in batches:
        encoded = plain_tokens(tokenizer, texts, return_offsets_mapping=True)
        for name, text, ids, offsets in zip(names, texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            read["tokens"] += len(ids)
            if limit is not None and len(ids) > limit:
                ids, text = cut_text(tokenizer, text, ids, offsets, limit)
            if ids:
                yield {"document": name, "input_ids": ids, "words": len(text.split()), "bytes": len(text.encode())}


def cut_text(tokenizer, text: str, ids: list[int], offsets: list[tuple[int, int]], limit: int) -> tuple[list[int], str]:
    """The first ``limit`` tokens, or fewer where a character would be split, and the text that they spell.

    Args:
        offsets: begin and end of each token in ``text``, in characters; the tokens of one character share it.
    """
    while limit > 0 and offsets[limit][0] < offsets[limit - 1][1]:
        limit -= 1
    ids = ids[:limit]
    spelled = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    # Offsets may leave out a token's trailing white space, and decoding may change the text (a tokenizer that
    # lower-cases it). Decoding by byte-level tokenizers, such as Llama's, is exact.
    return ids, spelled if text.startswith(spelled) else text[: offsets[limit - 1][1] if limit else 0]


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]], about: dict[str, Any]) -> Counter[str]:
    """Write rows with `input_ids` in groups of some 250,000 tokens. Returns the number of rows and tokens."""
    written = Counter(rows=0, tokens=0)

    def groups() -> Iterator[list[dict[str, Any]]]:
        group, tokens = [], 0
        for row in rows:
            group.append(row)
            tokens += len(row["input_ids"])
            if tokens >= ROW_GROUP_TOKENS:
                yield group
                group, tokens = [], 0
        if group:
            yield group

    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for group in groups():
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            written.update(rows=len(group), tokens=sum(len(row["input_ids"]) for row in group))
        writer.add_key_value_metadata({"frugal": json.dumps({**about, **written}, sort_keys=True)})
    return written


def tokenizer_hash(tokenizer) -> str:
    """Hex SHA-256 of everything that decides how a fast tokenizer splits a text, including its special tokens."""
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, bool(tokenizer.split_special_tokens)]
    return hashlib.sha256(f"{tokenizer.backend_tokenizer.to_str()}{special}".encode()).hexdigest()

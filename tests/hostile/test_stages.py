"""Broken files on the way through the workflow: what one script writes, and a hostile hand changes before the next."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.config.base import plain
from frugal.config.registry import load_models
from frugal.config.study import BASE, load_study, resolve
from frugal.config.yaml_files import read_yaml
from frugal.llm.blocks import read_blocks
from frugal.llm.conversion import prepare_model
from frugal.llm.rating.sheet import CRITERIA, make_items, sheet_csv, sheet_key
from frugal.preference.records import CHOICE, read_jsonl
from frugal.preference.records import PAIR as PAIR_KEYS

from .conftest import examples, refusal
from .mutations import as_json, as_yaml, broken_bytes, changed, edits
from .test_interactions import WRONG_COLUMNS

SMOKE = read_yaml("config/smoke.yaml")
load_study(SMOKE, "smoke.yaml")
RUN = plain(resolve(SMOKE, "movie_preference", "tuned", "smoke.yaml"))
RUN["pairs"] |= {
    "train_examples": 4,
    "validation_examples": 1,
    "test_easy_examples": 2,
    "test_hard_examples": 2,
    "history_length": 1,
}
RUN["split"] = {"validation_users": 0.2, "test_users": 0.3}
TEXT_RUN = plain(resolve(SMOKE, "climate", BASE, "smoke.yaml"))
SENTENCE = "The glaciers of the range have lost much of their ice."


def parquet(schema: pa.Schema | None = None, **columns) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=schema), sink)
    return sink.getvalue().to_pybytes()


def interactions() -> dict:
    rows = [(user, (user + 2 * place) % 20, 5.0 - place % 3, 1000 + place) for user in range(12) for place in range(8)]
    kinds = {"user": np.int32, "item": np.int32, "rating": np.float32, "timestamp": np.int64}
    return {
        name: np.array(values, kind)
        for (name, kind), values in zip(kinds.items(), zip(*rows, strict=True), strict=True)
    }


def items() -> dict:
    return {
        "item": np.arange(20, dtype=np.int32),
        "title": [f"Film {i}" for i in range(20)],
        "attributes": [["Drama", "War"][i % 2 : i % 2 + 1] for i in range(20)],
        "original_id": [f"id{i}" for i in range(20)],
    }


DOCUMENTS = {
    "document": [f"d{i}" for i in range(8)],
    "text": [SENTENCE * (1 + i) for i in range(8)],
    "split": pa.array([None] * 8, pa.string()),
}
BLOCKS = {
    "input_ids": pa.array([[1, 2, 3]] * 4, pa.list_(pa.int32())),
    "segment_lengths": pa.array([[1, 2]] * 4, pa.list_(pa.int32())),
}
PAIR = {
    "instruction": "i",
    "input": "Liked: x.\nOption A: a\nOption B: b",
    "output": "Option A.",
    "loss_on": "answer",
    "answers": ["Option A.", "Option B."],
    "swapped_input": "Liked: x.\nOption A: b\nOption B: a",
    "liked_option": "A",
    "kind": "easy",
    "user": 1,
    "history": [1, 2],
    "liked": 3,
    "other": 4,
}
ANSWERS = {run: [{"prompt": f"p{n}", "answer": f"{run} {n}"} for n in range(3)] for run in ("base", "tuned")}
ITEMS = make_items(ANSWERS, 1)
KEY = sheet_key(ITEMS)
FILLED = "\n".join([sheet_csv(ITEMS).split("\n")[0].strip(), *(f"{item},p,a{',3' * len(CRITERIA)}," for item in KEY)])


@st.composite
def wrong_tables(draw, tables: dict[str, dict]):
    """The bytes of several Parquet files by name, one of them broken or with a column of another type or with gaps."""
    name = draw(st.sampled_from(sorted(tables)))
    whole = {key: parquet(**columns) for key, columns in tables.items()}
    if draw(st.booleans()):
        return whole | {name: draw(broken_bytes(whole[name]))}
    columns = dict(tables[name])
    column = draw(st.sampled_from(sorted(columns)))
    length = len(columns[column])
    kind = draw(st.sampled_from(["type", "drop", "gap", "value", "none"]))
    if kind == "drop":
        del columns[column]
    elif kind == "gap":
        columns[column] = pa.array([None if i == 1 else value for i, value in enumerate(columns[column])])
    elif kind == "value" and isinstance(columns[column], np.ndarray):
        columns[column] = columns[column].copy()
        columns[column][-1] = draw(st.sampled_from([-1, 0, 10**6, 2**31 - 1]))
    elif kind == "none":
        columns = {key: values[:0] for key, values in columns.items()}
    else:
        wrong = WRONG_COLUMNS[draw(st.sampled_from(sorted(WRONG_COLUMNS)))]
        columns[column] = pa.chunked_array([wrong] * 10).slice(0, length)
    return whole | {name: parquet(**columns)}


def tally(outcomes: Counter, refused: bool) -> None:
    outcomes["refused" if refused else "good"] += 1


def check_interactions(sandboxes, tables: dict[str, bytes], settings: str, outcomes: Counter) -> None:
    """Cut into shards, and made into pairs."""
    with sandboxes() as sandbox:
        paths = {name: sandbox.inputs / f"{name}.parquet" for name in tables}
        for name, content in tables.items():
            paths[name].write_bytes(content)
        (sandbox.inputs / "config.yaml").write_text(as_yaml(RUN))
        summary = sandbox.inputs / "summary.json"
        summary.write_text('{"timestamps": true, "users_sha256": "f00"}')
        given_files = ("--interactions", paths["interactions"], "--items", paths["items"])
        tally(
            outcomes,
            sandbox.run(
                "partition_interactions.py",
                *given_files,
                "--summary",
                summary,
                "--settings",
                settings,
                "--output",
                sandbox.outputs / "shards",
            ).refused,
        )
        config = ("--config", sandbox.inputs / "config.yaml")
        tally(
            outcomes,
            sandbox.run(
                "make_preference_pairs.py", *config, *given_files, "--output", sandbox.outputs / "pairs"
            ).refused,
        )


CUTS = [
    {"split": "leave_one_out"},
    {"split": "global_time"},
    {"split": "leave_one_out", "min_rating": 4.0, "shards": 3},
]
interaction_tables = wrong_tables({"interactions": interactions(), "items": items()})
cuts = st.one_of(
    st.sampled_from(CUTS).map(json.dumps),
    st.sampled_from(CUTS).map(json.dumps),
    edits(CUTS[2]).map(lambda faults: as_json(changed(CUTS[2], faults))),
    st.sampled_from(["", "{", "[]", "null", "[" * 100_000, "1" * 5000, '{"split": "\\ud800"}']),
)


def test_prepared_interactions(sandboxes):
    outcomes = Counter()

    @examples(60)
    @given(interaction_tables, cuts)
    def check(tables, settings):
        check_interactions(sandboxes, tables, settings, outcomes)

    check()
    assert outcomes["refused"] >= 50, outcomes


run_settings = edits(RUN).map(lambda faults: changed(RUN, faults))


def check_settings(sandboxes, run: dict, outcomes: Counter) -> None:
    """As JSON on a command line, and as the file that later scripts read."""
    with sandboxes() as sandbox:
        output = sandbox.outputs / "config.yaml"
        options = ("--experiment", "books", "--kind", "preference", "--output", output)
        written = sandbox.run("write_run_config.py", *options, "--settings", as_json(run))
        tally(outcomes, written.refused)
        if not written.refused:
            assert read_yaml(output)
        path = sandbox.inputs / "config.yaml"
        path.write_text(as_yaml(run))
        for name, table in {"interactions": interactions(), "items": items()}.items():
            (sandbox.inputs / name).write_bytes(parquet(**table))
        files = ("--interactions", sandbox.inputs / "interactions", "--items", sandbox.inputs / "items")
        tally(
            outcomes,
            sandbox.run(
                "make_preference_pairs.py", "--config", path, *files, "--output", sandbox.outputs / "pairs"
            ).refused,
        )


def test_settings_of_a_run(sandboxes):
    outcomes = Counter()

    @examples(60)
    @given(run_settings)
    def check(run):
        check_settings(sandboxes, run, outcomes)

    check()
    assert outcomes["refused"] >= 60, outcomes


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    prepare_model(load_models("config/models.yaml")["tiny-random-llama"], None, folder)
    return folder


def check_documents(sandboxes, tokenizer: Path, tables: dict[str, bytes], outcomes: Counter) -> None:
    with sandboxes() as sandbox:
        (sandbox.inputs / "documents.parquet").write_bytes(tables["documents"])
        (sandbox.inputs / "blocks.parquet").write_bytes(tables["blocks"])
        (sandbox.inputs / "config.yaml").write_text(as_yaml(TEXT_RUN))
        options = ("--config", sandbox.inputs / "config.yaml", "--tokenizer", tokenizer)
        documents = ("--documents", sandbox.inputs / "documents.parquet")
        tally(
            outcomes,
            sandbox.run("pack_blocks.py", *options, *documents, "--output", sandbox.outputs / "blocks").refused,
        )
        tally(outcomes, refusal(read_blocks, sandbox.inputs / "blocks.parquet") is not None)


document_tables = wrong_tables({"documents": DOCUMENTS, "blocks": BLOCKS})


def test_documents_and_blocks(sandboxes, tokenizer):
    outcomes = Counter()

    @examples(50)
    @given(document_tables)
    def check(tables):
        check_documents(sandboxes, tokenizer, tables, outcomes)

    check()
    assert outcomes["refused"] >= 25, outcomes


def lines_of(records: list) -> bytes:
    return "".join(f"{as_json(record)}\n" for record in records).encode()


pairs = st.one_of(
    broken_bytes(lines_of([PAIR] * 3)), edits(PAIR).map(lambda faults: lines_of([PAIR, changed(PAIR, faults)]))
)
keys = st.one_of(
    broken_bytes(json.dumps(KEY).encode()), edits(KEY).map(lambda faults: as_json(changed(KEY, faults)).encode())
)
answers = st.one_of(
    broken_bytes(lines_of(ANSWERS["base"])),
    edits(ANSWERS["base"][0]).map(lambda faults: lines_of([changed(ANSWERS["base"][0], faults), *ANSWERS["base"][1:]])),
)


def check_ratings(sandboxes, sheet: bytes, key: bytes, outcomes: Counter) -> None:
    with sandboxes() as sandbox:
        (sandbox.inputs / "sheet.csv").write_bytes(sheet)
        (sandbox.inputs / "key.json").write_bytes(key)
        files = ("--key", sandbox.inputs / "key.json", "--sheets", sandbox.inputs / "sheet.csv")
        tally(outcomes, sandbox.run("read_ratings.py", *files, "--output", sandbox.outputs / "ratings.json").refused)


def check_answers(sandboxes, content: bytes, outcomes: Counter) -> None:
    with sandboxes() as sandbox:
        (sandbox.inputs / "base").write_bytes(lines_of(ANSWERS["base"]))
        (sandbox.inputs / "tuned").write_bytes(content)
        out = sandbox.outputs
        options = (
            "--experiment",
            "climate",
            "--base",
            sandbox.inputs / "base",
            "--tuned",
            sandbox.inputs / "tuned",
            "--seed",
            1,
        )
        tally(
            outcomes,
            sandbox.run(
                "write_rating_sheet.py",
                *options,
                "--sheet",
                out / "s.csv",
                "--page",
                out / "p.html",
                "--key",
                out / "k.json",
            ).refused,
        )


def check_pairs(sandboxes, content: bytes, scored: bool, outcomes: Counter) -> None:
    with sandboxes() as sandbox:
        path = sandbox.inputs / "test.jsonl"
        path.write_bytes(content)
        message = refusal(read_jsonl, path, *((PAIR_KEYS, CHOICE) if scored else ()))
    tally(outcomes, message is not None)
    assert message is None or message.startswith(str(path)), message


def test_pairs_answers_and_ratings(sandboxes):
    outcomes = Counter()
    assert refusal(read_jsonl, "config/smoke.yaml")

    @examples(50)
    @given(pairs, st.booleans(), broken_bytes(FILLED.encode()), keys, answers)
    def check(content, scored, sheet, key, answered):
        check_pairs(sandboxes, content, scored, outcomes)
        check_ratings(sandboxes, sheet, json.dumps(KEY).encode(), outcomes)
        check_ratings(sandboxes, FILLED.encode(), key, outcomes)
        check_answers(sandboxes, answered, outcomes)

    check()
    assert outcomes["refused"] >= 100, outcomes

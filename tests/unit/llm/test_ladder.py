"""The memory ladder: what each rung changes, the search, and processes that memory ends."""

import json
import sys
from functools import partial
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

import climb_memory_ladder
import measure_memory
from climb_memory_ladder import conclusion, watch
from frugal.config.language_modeling import RUNGS, LadderSettings, LanguageModelingRun
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.llm.memory.estimate import estimate
from frugal.llm.memory.ladder import Probe, climb, halfway, search_largest_batch, upwards
from frugal.llm.memory.shapes import SHAPES

RUN = {"dataset": "synthetic", "base_model": "tiny", "corpus": {"block_length": 16}}


def make_run(**changes) -> LanguageModelingRun:
    return LanguageModelingRun.model_validate({**RUN, **changes})


# The rungs


def flat(settings: dict, prefix: str = "") -> dict:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    found = {}
    for key, value in settings.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return found


def test_each_rung_changes_the_keys_that_it_names_and_no_other():
    rungs = climb(make_run())
    assert tuple(rungs) == RUNGS
    changed, previous = {}, rungs["full"]
    for name in RUNGS[1:]:
        before = {"method": previous.method, **flat(previous.run.model_dump())}
        after = {"method": rungs[name].method, **flat(rungs[name].run.model_dump())}
        changed[name] = {key: value for key, value in after.items() if value != before[key]}
        previous = rungs[name]
    assert changed == {
        "lora": {"method": "lora"},
        "nf4": {"model.quantization": "nf4"},
        "double_quantization": {"model.double_quantization": True},
        "mixed_precision": {"model.compute_dtype": "bfloat16"},
        "gradient_checkpointing": {"training.gradient_checkpointing": True},
        "optimizer_8bit": {"training.optim": "adamw_8bit"},
        "chunked_loss": {"training.loss_chunk_tokens": 512},
    }


def test_the_first_rung_saves_nothing_whatever_the_study_saves():
    full = climb(make_run(training={"optim": "adamw_8bit", "gradient_checkpointing": True, "loss_chunk_tokens": 64}))
    settings = flat(full["full"].run.model_dump())
    assert full["full"].method == "full"
    assert settings["model.quantization"] == "none"
    assert settings["model.compute_dtype"] == "float32"
    assert settings["training.optim"] == "adamw_torch"
    assert settings["training.gradient_checkpointing"] is False
    assert settings["training.loss_chunk_tokens"] is None


def test_on_a_gpu_the_optimiser_is_paged_and_float16_stays():
    rungs = climb(make_run(training={"gpus": 1}, model={"compute_dtype": "float16"}))
    assert rungs["optimizer_8bit"].run.training.optim == "paged_adamw_8bit"
    assert rungs["mixed_precision"].run.model.compute_dtype == "float16"
    assert climb(make_run(training={"gpus": 1}))["mixed_precision"].run.model.compute_dtype == "bfloat16"


def test_every_rung_of_the_laptop_model_is_estimated_to_save_memory():
    config = LlamaConfig(**SHAPES["smollm2-135m-instruct"])
    totals = [
        estimate(config, rung.run, method=rung.method, batch_size=2, sequence_length=512).total
        for rung in climb(make_run(corpus={"block_length": 512, "packing": "continuous"})).values()
    ]
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == len(totals)


# The search


@given(largest=st.integers(0, 80), guess=st.integers(0, 100), low=st.integers(0, 80), limit=st.integers(1, 64))
def test_the_search_finds_the_largest_batch_that_fits(largest, guess, low, limit):
    low = min(low, largest, limit)

    def probe(sizes):
        assert sizes == sorted(set(sizes))
        for size in sizes:
            assert low < size <= limit
            yield Probe(size, size <= largest, 10.0 * size)
            if size > largest:
                return

    found, tried = search_largest_batch(probe, guess, low, limit + 1)
    assert found == min(largest, limit)
    sizes = [one.batch_size for one in tried]
    assert len(set(sizes)) == len(sizes)  # nothing twice
    assert len(sizes) <= 16  # 7 strides up to 64 and 6 halvings, and what is over


def test_a_good_guess_takes_two_tries():
    tries = []

    def probe(sizes):
        for size in sizes:
            tries.append(size)
            yield Probe(size, size <= 11, None)
            if size > 11:
                return

    assert search_largest_batch(probe, 11, 2, 65)[0] == 11
    assert tries == [11, 12]


def test_a_bad_guess_is_followed_by_bisection_that_ascends_in_one_process():
    rounds = []

    def probe(sizes):
        rounds.append(sizes)
        for size in sizes:
            yield Probe(size, size <= 9, None)
            if size > 9:
                return

    largest, tried = search_largest_batch(probe, 13, 2, 65)
    assert largest == 9
    # 13 fails; between 2 and 13: 7 and 10; between 7 and 10: 8 and 9.
    assert [sizes[:3] for sizes in rounds] == [[13, 14, 16], [7, 10, 11], [8, 9]]
    assert [(one.batch_size, one.fits) for one in tried] == [(13, False), (7, True), (10, False), (8, True), (9, True)]


def test_sizes_by_hand():
    assert upwards(3, 20) == [3, 4, 6, 10, 18, 19]
    assert upwards(7, 8) == [7]
    assert halfway(2, 13) == [7, 10, 11, 12]
    assert halfway(7, 8) == []


# Processes

#: A child that needs 100 MB and 50 more for each block, says so, and stops above its budget.
GOOD_CHILD = """
import argparse, json
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("--batch-size", "--steps", "--search-steps"):
    parser.add_argument(name, type=int)
parser.add_argument("--search", type=int, nargs="+", default=[])
parser.add_argument("--memory-budget-mb", type=float, default=1e9)
for name in ("--settings", "--base-model", "--blocks", "--output"):
    parser.add_argument(name, type=Path)
args = parser.parse_args()
settings = json.loads(args.settings.read_text())
with open(Path(__file__).with_name("calls"), "a") as stream:
    print(json.dumps([settings["method"], args.batch_size, args.steps, args.search, args.search_steps]), file=stream)
sizes = [*([args.batch_size] if args.batch_size else []), *args.search]
results = []
for size in sizes:
    peak = 100 + 50 * size
    results.append({"batch_size": size, "fits": peak <= args.memory_budget_mb, "peak_mb": peak, "baseline_mb": 90,
        "tokens_per_second": 7.0, "matmul_peak_share": 0.5, "loss": 2.0, "trainable_parameters": 3,
        "parameters": 4, "adapter_mb": 0.1})
    if not results[-1]["fits"]:
        break
whole = args.output.with_suffix(".part")
whole.write_text(json.dumps(results))
whole.replace(args.output)
"""


@pytest.fixture
def blocks(tmp_path):
    """Two whole blocks of 16 tokens, and a short one between them."""
    path = tmp_path / "train.parquet"
    rows = [[1] * 16, [2] * 5, [3] * 16]
    parquet.write_table(pa.table({"input_ids": rows, "segment_lengths": [[len(row)] for row in rows]}), path)
    return path


@pytest.fixture
def run_ladder(tmp_path, blocks, tiny_model_folder, monkeypatch):
    """Run the script with a stand-in for its child; returns measurements.json."""

    def run(child: str, run=RUN, **ladder):
        script = tmp_path / "child.py"
        script.write_text(child)
        monkeypatch.setattr(climb_memory_ladder, "CHILD", script)
        output = tmp_path / "measurements.json"
        settings = json.dumps({"run": run, "ladder": {"rungs": ["chunked_loss"], **ladder}})
        options = {"base-model": tiny_model_folder, "blocks": blocks, "work": tmp_path / "work", "output": output}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["climb_memory_ladder.py", "--settings", settings, *arguments])
        climb_memory_ladder.main()
        return read_json(output)

    return run


def test_measurements_of_a_ladder(run_ladder, tmp_path):
    written = run_ladder(GOOD_CHILD, rungs=["full", "chunked_loss"], memory_budget_mb=620, largest_batch_limit=32)
    assert written["note"] is None
    assert {key: written[key] for key in ("block_length", "batch_size", "steps", "memory_budget_mb")} == {
        "block_length": 16,
        "batch_size": 2,
        "steps": 4,
        "memory_budget_mb": 620,
    }
    assert written["hardware"]["cores"] > 0
    full, chunked = written["rungs"]
    assert full["rung"] == "full"
    assert (chunked["peak_mb"], chunked["baseline_mb"], chunked["loss"], chunked["error"]) == (200, 90, 2.0, None)
    assert chunked["largest_batch"] == 10  # 100 + 50 x 10 <= 620 < 100 + 50 x 11
    assert chunked["probes"][0] == {"batch_size": 2, "fits": True, "peak_mb": 200}
    assert {"batch_size": 11, "fits": False, "peak_mb": 650} in chunked["probes"]
    assert chunked["estimate"]["total"] > chunked["estimate"]["overhead"]
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    # Each rung is measured once, for four steps, and first in its process; what is tried then is larger.
    assert [(method, batch, steps) for method, batch, steps, *_ in calls if batch] == [("full", 2, 4), ("lora", 2, 4)]
    assert all(min(sizes) > 2 for *_, sizes, _ in calls)
    # A fully trained model is tried for two steps, an adapter for one.
    assert {(method, steps) for method, *_, steps in calls} == {("full", 2), ("lora", 1)}


def test_the_guess_is_what_fits_by_the_estimate_and_what_it_fell_short_by():
    ladder = SimpleNamespace(
        ladder=SimpleNamespace(memory_budget_mb=620), estimate=lambda rung, size: SimpleNamespace(total=100 + 50 * size)
    )
    guess = partial(climb_memory_ladder.Ladder.guess, ladder, None)
    assert guess(0, 2, 33) == 9  # 1.05 (100 + 50 x 9) <= 620 < 1.05 (100 + 50 x 10)
    assert guess(100, 2, 33) == 7
    assert guess(0, 2, 6) == 5
    assert guess(5000, 2, 33) == 3  # at least one more than is known to fit


def test_finished_rungs_are_kept_while_their_settings_stay(run_ladder, tmp_path):
    run_ladder(GOOD_CHILD, search=False)
    run_ladder(GOOD_CHILD, search=False)
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    run_ladder(GOOD_CHILD, search=False, steps=5)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
    run_ladder(GOOD_CHILD, search=False, run={**RUN, "lora": {"r": 2}})
    assert len((tmp_path / "calls").read_text().splitlines()) == 3


def test_a_budget_below_the_smallest_rung_is_told(run_ladder):
    written = run_ladder(GOOD_CHILD, rungs=["lora", "chunked_loss"], memory_budget_mb=140)
    assert [row["largest_batch"] for row in written["rungs"]] == [0, 0]
    assert written["rungs"][0]["note"] == "not even one block fits 140 MB (ladder.memory_budget_mb)"
    assert written["note"] == (
        "no rung fits ladder.memory_budget_mb (140 MB); the least that was measured is 200 MB "
        "(lora, 2 blocks a step): raise it"
    )


def test_the_limit_ends_the_search(run_ladder):
    assert run_ladder(GOOD_CHILD, memory_budget_mb=2000, largest_batch_limit=8)["rungs"][0]["largest_batch"] == 8
    assert run_ladder(GOOD_CHILD, memory_budget_mb=2000, largest_batch_limit=1)["rungs"][0]["largest_batch"] == 1


def test_a_child_killed_for_memory_is_a_data_point(run_ladder):
    (row,) = run_ladder("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")["rungs"]
    assert row["error"] == "the machine has too little memory for this rung"
    assert row["largest_batch"] == 0
    assert row["peak_mb"] is row["loss"] is None
    assert row["probes"][-1]["fits"] is False


def test_nothing_but_killed_children_is_told(run_ladder):
    written = run_ladder("import sys; sys.exit(137)")
    assert "nor this machine's memory" in written["note"]


def test_any_other_failure_is_an_error_with_its_last_line(run_ladder):
    with pytest.raises(FrugalError, match=r"ladder: chunked_loss, batch size 2: the adapter is broken \(log: "):
        run_ladder("import sys; print('noise', file=sys.stderr); sys.exit('error: the adapter is broken')")


def test_a_search_goes_on_after_a_kill(run_ladder):
    """Up to four blocks all is well; with more the child is killed, having written the batches before."""
    child = GOOD_CHILD.replace("    peak = 100", "    if size > 4:\n        break\n    peak = 100")
    child += "\nimport os, signal\nif max(sizes) > 4: os.kill(os.getpid(), signal.SIGKILL)\n"
    (row,) = run_ladder(child, memory_budget_mb=1000, largest_batch_limit=16)["rungs"]
    assert row["largest_batch"] == 4
    assert any(probe["batch_size"] == 5 and not probe["fits"] for probe in row["probes"])


def test_settings_that_are_wrong_are_named(run_ladder):
    with pytest.raises(FrugalError, match=r"--settings: ladder\.stepz: unknown key; did you mean 'steps'"):
        run_ladder(GOOD_CHILD, stepz=3)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_watchdog_stops_a_process_above_its_budget(tmp_path):
    grow = "import time\nheld = bytearray(b'x') * 150_000_000\ntime.sleep(60)"
    code, peak, stopped = watch([sys.executable, "-c", grow], tmp_path / "log", lambda: 100)
    assert stopped
    assert code == -9
    assert peak > 100
    small = "import time\ntime.sleep(1)"
    code, peak, stopped = watch([sys.executable, "-c", small], tmp_path / "log", lambda: 100)
    assert (code, stopped) == (0, False)
    assert 1 < peak < 100


def test_no_conclusion_where_a_rung_fits():
    rows = [{"largest_batch": 0, "peak_mb": 9.0, "rung": "lora"}, {"largest_batch": 1, "peak_mb": 8.0, "rung": "nf4"}]
    assert conclusion(rows, LadderSettings()) is None
    assert conclusion(rows[:1], LadderSettings(search=False)) is None


# The child


def test_whole_blocks_are_measured_over_again_where_they_are_few(blocks):
    first = measure_memory.first_blocks(blocks, 3, 16)
    assert [block["input_ids"][0] for block in first] == [1, 3, 1]
    # No block has 32 tokens: those that there are have to do.
    assert [len(block["input_ids"]) for block in measure_memory.first_blocks(blocks, 2, 32)] == [16, 5]


def test_no_blocks_is_an_error(tmp_path):
    path = tmp_path / "train.parquet"
    nothing = pa.array([], pa.list_(pa.int32()))
    empty = pa.table({"input_ids": nothing, "segment_lengths": nothing})
    parquet.write_table(empty, path)
    with pytest.raises(FrugalError, match=r"holds no block; lower corpus\.block_length"):
        measure_memory.first_blocks(path, 2, 16)


@pytest.fixture
def run_child(tmp_path, blocks, monkeypatch):
    """Run the child here, with a stand-in for the training; returns its output."""
    from frugal.llm import measurement

    def run(train_for_measurement, measure=True, search=(), budget=None):
        monkeypatch.setattr(measurement, "train_for_measurement", train_for_measurement, raising=False)
        settings, output = tmp_path / "settings.json", tmp_path / "out.json"
        settings.write_text(json.dumps({"run": RUN, "method": "lora"}))
        command = ["x", "--settings", settings, "--base-model", tmp_path, "--blocks", blocks, "--output", output]
        command += ["--batch-size", 2, "--steps", 2] if measure else []
        command += ["--search", *search, "--search-steps", 1] if search else []
        command += [] if budget is None else ["--memory-budget-mb", budget]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        measure_memory.main()
        return read_json(output)

    return run


def trained(peak_mb, losses=(3.0, 2.5), **more):
    """What `train_for_measurement` returns."""
    return {
        "seconds": 1.0,
        "tokens": 32,
        "losses": list(losses),
        "peak_rss_mb": peak_mb,
        "peak_device_mb": None,
        "trainable_parameters": 10,
        "parameters": 100,
        "adapter_mb": 0.5,
        "matmul_peak_share": 0.3,
        "tokens_per_second": 32.0,
        **more,
    }


def test_the_child_measures_ascending_batches_up_to_the_budget(run_child):
    asked = []

    def train_for_measurement(folder, blocks, run, method, steps):
        size = run.training.per_device_train_batch_size
        asked.append((size, len(blocks), method, steps))
        return trained(1000 * size)

    results = run_child(train_for_measurement, search=(3, 4, 6), budget=3500)
    # The measurement, then the tries, of batch x steps blocks; 6 is not tried any more.
    assert asked == [(2, 4, "lora", 2), (3, 3, "lora", 1), (4, 4, "lora", 1)]
    found = [(one["batch_size"], one["fits"], one["peak_mb"]) for one in results]
    assert found == [(2, True, 2000), (3, True, 3000), (4, False, 4000)]
    assert results[0]["loss"] == 2.5
    assert 50 < results[0]["baseline_mb"] < 4000
    assert [one["batch_size"] for one in run_child(train_for_measurement, measure=False, search=(3,))] == [3]


def test_a_measurement_above_the_budget_is_finished_and_nothing_larger_tried(run_child):
    (result,) = run_child(lambda *_: trained(2000), search=(3, 4), budget=1500)
    assert (result["fits"], result["peak_mb"], result["tokens_per_second"]) == (False, 2000, 32.0)


def test_an_allocation_that_fails_is_a_data_point(run_child):
    def refused(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    assert run_child(refused) == [{"batch_size": 2, "fits": False, "peak_mb": None}]

    def broken(*_):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_child(broken)


def test_a_loss_that_is_no_number_is_an_error(run_child):
    with pytest.raises(FrugalError, match=r"the loss is nan at step 2; lower training\.learning_rate"):
        run_child(lambda *_: trained(100, losses=(3.0, float("nan"))))

"""The claims ledger: its file, its computations by hand, its verdicts."""

import inspect
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import check_claims
from frugal.claims import analytic
from frugal.claims.ledger import (
    COLUMNS,
    COMPUTATIONS,
    VERDICTS,
    Claim,
    Tolerance,
    as_text,
    compute,
    load_claims,
    make_ledger,
    provider,
)
from frugal.config.originals import load_originals
from frugal.config.study import resolve
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.llm.memory.shapes import SHAPES
from frugal.preference.metrics import preference_metrics
from frugal.recsys.ranking_metrics import ranking_metrics

FILE, CONFIGS = Path("config/claims.yaml"), Path("config")
CLAIMS = load_claims(FILE)
MEASURED = [claim for claim in CLAIMS if claim.result]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
#: The settings that claims call the same in config/full.yaml, and how a number is read off them.
SETTINGS = {
    "movie_preference.max_length": lambda run: run["model"]["max_length"],
    "movie_preference.learning_rate": lambda run: run["training"]["learning_rate"],
    "movie_preference.dropout": lambda run: run["lora"]["lora_dropout"],
    "movie_preference.epochs": lambda run: run["training"]["num_train_epochs"],
    "movie_preference.warmup_steps": lambda run: run["training"]["warmup_steps"],
    "movie_preference.save_steps": lambda run: run["training"]["save_steps"],
    "movie_preference.history_length": lambda run: run["pairs"]["history_length"],
    "ssept.fraction": lambda run: run["data"]["fraction"],
    "wikitext.learning_rate": lambda run: run["training"]["learning_rate"],
    "wikitext.dropout": lambda run: run["lora"]["lora_dropout"],
    "wikitext.epochs": lambda run: run["training"]["num_train_epochs"],
    "wikitext.prompts": lambda run: len(run["prompts"]["texts"]),
    "climate.optimizer_bits": lambda run: int(run["training"]["optim"].removeprefix("paged_adamw_")[:-3]),
}
#: Metrics that one function computes, and the files that write everything else under its own name.
COMPUTED = {f"metrics.{name}" for name in ranking_metrics(np.array([1]), np.array([0, 1]), [10])} | {
    f"metrics.{name}" for name in preference_metrics(np.ones(1), np.zeros(1))
}
SCRIPTS = Path("workflow/scripts")
#: Kind -> the files that write what stands under training, and under metrics.
TRAINING = dict.fromkeys(("preference", "language_modeling"), ("frugal/llm/training.py", "frugal/llm/measurement.py"))
TRAINING |= {"recommendation": ("frugal/recsys/training_record.py", "frugal/recsys/adapters.py")}
METRICS = {
    "language_modeling": ["evaluate_language_model.py", "frugal/llm/perplexity.py", "frugal/llm/evaluation.py"],
    "preference": ["evaluate_preference.py", "frugal/llm/evaluation.py"],
}
MEASUREMENTS = {"efficiency": ["frugal/recsys/efficiency.py"], "ladder": ["climb_memory_ladder.py"]}
NEAR = {"relative": 0.1}
#: A study with one experiment for each original, called like it.
DESCRIBED = {"experiments": {name: {"reproduces": name} for name in load_originals()}}


def test_the_file_is_whole():
    assert len(CLAIMS) >= 60
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.original for claim in CLAIMS} == load_originals().keys()
    assert len({original.source for original in load_originals().values()}) == 5
    assert len({(claim.original, claim.statement) for claim in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.analytic], ids=lambda claim: claim.id)
def test_every_computation_answers(claim):
    answer = compute(claim)
    assert all(math.isfinite(number) for number in (answer if isinstance(answer, tuple) else [answer]))


def test_every_computation_is_used_or_backs_another_and_says_what_it_is():
    source = Path(analytic.__file__).read_text(encoding="utf-8")
    named = {claim.analytic for claim in CLAIMS}
    for name, function in COMPUTATIONS.items():
        assert name in named or source.count(f"{name}(") > 1, f"{name} is used nowhere"
        assert inspect.getdoc(function)


def is_made(claim: Claim) -> bool:
    """Whether some study makes the file and the row."""
    return any(provider(CONFIGS, study, claim) for study in ("laptop", "full"))


def is_written(claim: Claim) -> bool:
    """Whether the code that writes the file writes this number."""
    result, kind = claim.result, load_originals()[claim.original].kind
    if result.key in COMPUTED:
        return True
    part, _, name = result.key.rpartition(".")
    files = {"": MEASUREMENTS.get(result.variant), "training": TRAINING[kind]}
    sources = [(SCRIPTS / file).read_text(encoding="utf-8") for file in files.get(part) or METRICS[kind]]
    return any(f'"{name}"' in source for source in sources)


def lacks(claim: Claim) -> list[str]:
    """The settings that the result requires and its run in the full study does not know."""
    missing, result = [], claim.result
    for key in result.requires:
        value = resolve(read_yaml(CONFIGS / "full.yaml"), claim.original, result.variant, "full.yaml").model_dump()
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        missing += [key] if value is None else []
    return missing


def measured(original: str = "wikitext", **result) -> Claim:
    """A claim that a result file answers."""
    stated = {"id": f"{original}.one", "original": original, "statement": "a number", "value": 1, "unit": "points"}
    result = {"variant": "tuned", "key": "metrics.perplexity"} | result
    return Claim(**stated, tolerance=NEAR, result=result)


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.id)
def test_every_result_exists(claim):
    assert is_made(claim), f"no study makes {claim.result.file}"
    assert is_written(claim), f"nothing writes {claim.result.key}"
    assert lacks(claim) == []


@pytest.mark.parametrize(
    ("result", "exists"),
    [
        ({"key": "metrics.perplexity"}, (True, True)),
        ({"key": "metrics.perplexty"}, (True, False)),
        ({"key": "training.second"}, (True, False)),
        ({"key": "metrics.perplexity", "variant": "tunde"}, (False, True)),
        ({"key": "largest_batch", "original": "climate", "variant": "ladder", "row": {"rung": "nf4"}}, (True, True)),
        ({"key": "largest_batch", "original": "climate", "variant": "ladder", "row": {"rung": "nf5"}}, (False, True)),
        ({"key": "batch", "original": "climate", "variant": "ladder", "row": {"rung": "nf4"}}, (True, False)),
    ],
)
def test_a_quantity_that_does_not_exist_is_found(result, exists):
    assert (is_made(measured(**result)), is_written(measured(**result))) == exists


def test_a_required_setting_that_does_not_exist_is_found():
    requires = {"base_model": "x", "trainnig.seed": "1", "lora.rank": "8", "lora.r": "8"}
    assert lacks(measured(requires=requires)) == ["trainnig.seed", "lora.rank"]


def test_settings_that_are_called_the_same_are_the_same():
    full = read_yaml(CONFIGS / "full.yaml")
    same = {claim.id: claim for claim in CLAIMS if (claim.reason or "").endswith("config/full.yaml has the same")}
    assert same.keys() == SETTINGS.keys()
    for name, claim in same.items():
        assert SETTINGS[name](full["experiments"][claim.original]) == claim.value, name


@pytest.mark.parametrize("size", ["5m", "85m", "130m", "430m"])
def test_bert4rec_shapes_are_those_of_the_full_study(size):
    claim = next(claim for claim in CLAIMS if claim.id == f"bert4rec.parameters_{size}")
    model = resolve(read_yaml(CONFIGS / "full.yaml"), "bert4rec", size, "full.yaml").model
    assert {
        name: getattr(model, name) for name in claim.arguments if name != "items"
    }.items() <= claim.arguments.items()


def test_lora_sizes_by_hand():
    # Llama 3 8B, r 16, 32 layers: q and o 16 x (4096 + 4096), k and v 16 x (4096 + 1024), and three of the MLP
    # 16 x (4096 + 14336): 2 x 131,072 + 2 x 81,920 + 3 x 294,912 = 1,310,720 a layer.
    assert analytic.lora_trainable_parameters("llama-3-8b", 16, ALL) == 32 * 1_310_720 == 41_943_040
    # Llama 3.2 1B, r 8, 16 layers: 2 x 8 x 4096 + 2 x 8 x (2048 + 512) = 106,496 a layer.
    assert analytic.lora_trainable_parameters("llama-3.2-1b", 8, ATTENTION) == 16 * 106_496 == 1_703_936
    assert analytic.lora_all_parameters("llama-3.2-1b", 8, ATTENTION) == 1_237_518_336
    assert round(analytic.lora_trainable_share("llama-3.2-1b", 8, ATTENTION), 4) == 0.1377
    # Llama 3.2 3B, 28 layers: 2 x 8 x 6144 + 2 x 8 x (3072 + 1024) = 163,840 a layer.
    assert analytic.lora_trainable_parameters("llama-3.2-3b", 8, ATTENTION) == 28 * 163_840
    assert analytic.lora_adapter_mb("llama-3-8b", 16, ALL) == pytest.approx(41.94304 * 4)
    assert analytic.lora_adapter_mb("llama-3-8b", 16, ALL, bits=16) == pytest.approx(41.94304 * 2)


def test_footprints_by_hand():
    assert analytic.weights_gb("llama-3-8b", 32) == pytest.approx(8.030261248 * 4)
    assert analytic.full_fine_tuning_gb("llama-3-8b") == pytest.approx(8.030261248 * 16)
    # 4 bits and a 32-bit constant for 64 weights; doubly quantised 8 bits for 64, and 32 bits for 64 x 256.
    assert analytic.nf4_bits_per_weight(False) == 4.5
    assert analytic.nf4_bits_per_weight(True) == pytest.approx(4 + 1 / 8 + 1 / 512)
    # Llama 3 8B: 32 x (2 x 4096^2 + 2 x 4096 x 1024 + 3 x 4096 x 14336) = 6,979,321,856 weights of linear layers.
    linear, rest = 6_979_321_856, 8_030_261_248 - 6_979_321_856
    assert analytic.nf4_gb("llama-3-8b", False) == pytest.approx((linear * 4.5 / 8 + rest * 2) / 1e9)
    assert analytic.nf4_reduction("llama-3-8b", True, 16) == pytest.approx(64.5, abs=0.05)


def test_steps_by_hand():
    assert analytic.optimizer_steps(6040, per_device=1, accumulation=8) == 755
    assert analytic.optimizer_steps(6041, per_device=1, accumulation=8) == 756
    assert analytic.optimizer_steps(10, per_device=4, accumulation=2, epochs=3) == 6  # 3 batches, 2 steps, 3 times
    assert analytic.examples_of_steps(755, per_device=1, accumulation=8) == 6040
    assert analytic.effective_batch_size(2, 4, devices=3) == 24


@given(st.integers(1, 10**6), st.integers(1, 64), st.integers(1, 64), st.integers(1, 5))
def test_steps_and_examples_agree(examples, per_device, accumulation, epochs):
    steps = analytic.optimizer_steps(examples, per_device, accumulation, epochs)
    most = analytic.examples_of_steps(steps, per_device, accumulation, epochs)
    assert most - analytic.effective_batch_size(per_device, accumulation) < examples <= most


def test_bert4rec_by_hand():
    # 10 items, width 4, inner 8, 1 layer, length 5: items 11 x 4 + 10, positions 20, layer 80 + 64 + 12 + 16,
    # a norm 8, a dense layer with its norm 16 + 4 + 8.
    assert analytic.bert4rec_parameters(10, 4, 1, 8, 5) == 54 + 20 + 172 + 8 + 28


@given(st.lists(st.integers(1, 40), min_size=1, max_size=50), st.integers(1, 20))
def test_ndcg_lies_within_its_bounds(ranks, cutoff):
    hits = [rank for rank in ranks if rank <= cutoff]
    hit_rate = len(hits) / len(ranks)
    ndcg = sum(1 / math.log2(rank + 1) for rank in hits) / len(ranks)
    lower, upper = analytic.ndcg_bounds(hit_rate, cutoff)
    assert lower - 1e-12 <= ndcg <= upper + 1e-12
    lower, upper = analytic.hit_rate_bounds(ndcg, cutoff)
    assert lower - 1e-12 <= hit_rate <= upper + 1e-12


def test_ndcg_bounds_by_hand():
    assert analytic.ndcg_bounds(1.0, 10) == (pytest.approx(0.28906, abs=1e-5), 1.0)


def test_throughput_by_hand():
    assert analytic.implied_samples(100, 2) == 12_000
    assert analytic.epoch_minutes(50, other_throughput=100, other_minutes=2) == 4
    assert analytic.relative_change(100, 117) == pytest.approx(17)


def test_tolerance():
    assert Tolerance(relative=0.1).allows(100, 110)
    assert not Tolerance(relative=0.1).allows(100, 110.1)
    assert Tolerance(absolute=1).allows(-5, -4)
    assert not Tolerance(absolute=0).allows(5, 5.001)


# --- verdicts, on synthetic claims and results


def write(tmp_path, original="wikitext", **claim):
    claim = {"statement": "a number", "value": 10, "unit": "points", **claim}
    path = tmp_path / "claims.yaml"
    content = {original: {"one": claim}}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def row(tmp_path, described=DESCRIBED, **claim):
    claims = load_claims(write(tmp_path, **claim))
    return make_ledger(claims, tmp_path / "results/laptop", described, CONFIGS).iloc[0]


def measure(tmp_path, metrics, training=None, settings="dataset: wikitext-2-raw"):
    folder = tmp_path / "results/laptop/wikitext/tuned"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"metrics": metrics, "training": training}), encoding="utf-8")
    (folder / "config.yaml").write_text(settings, encoding="utf-8")


PERPLEXITY = {"variant": "tuned", "key": "metrics.perplexity"}


def test_a_computation_reproduces_or_refutes(tmp_path):
    by = {"analytic": "difference", "tolerance": NEAR}
    one = row(tmp_path, arguments={"before": 1, "after": 12}, **by)
    assert (one["answer"], one["verdict"], one["by"]) == (11, "reproduced", "difference")
    assert row(tmp_path, arguments={"before": 1, "after": 13}, **by)["verdict"] == "refuted"


def test_a_computation_with_a_reason_is_shown_and_not_judged(tmp_path):
    one = row(tmp_path, analytic="difference", arguments={"before": 0, "after": 99}, reason="chosen to fit")
    assert (one["answer"], one["verdict"], one["by"]) == (99, "not comparable", "chosen to fit")


def test_bounds_refute_and_never_reproduce(tmp_path):
    by = {"analytic": "ndcg_bounds", "arguments": {"hit_rate": 0.1}, "tolerance": {"absolute": 0}}
    outside = row(tmp_path, value=0.11, **by)
    assert outside["verdict"] == "refuted"
    assert "0.02891 to 0.1" in outside["by"]
    assert row(tmp_path, value=0.05, **by)["verdict"] == "not comparable"
    assert row(tmp_path, value=0.05, result=PERPLEXITY, **by)["verdict"] == "not measured yet"


def test_a_measurement_reproduces_or_differs(tmp_path):
    measure(tmp_path, {"perplexity": 10.9}, {"seconds": 20})
    one = row(tmp_path, result=PERPLEXITY, tolerance=NEAR)
    assert (one["answer"], one["verdict"]) == (10.9, "reproduced")
    assert one["by"].endswith("results/laptop/wikitext/tuned/metrics.json: metrics.perplexity")
    differs = row(tmp_path, result=PERPLEXITY | {"key": "training.seconds"}, tolerance=NEAR)
    assert (differs["answer"], differs["verdict"]) == (20, "differs")


def test_a_measurement_of_something_else_is_not_comparable(tmp_path):
    measure(tmp_path, {"perplexity": 10}, settings="dataset: wikipedia-sample")
    one = row(tmp_path, result=PERPLEXITY | {"requires": {"dataset": "wikitext-2-raw"}}, tolerance=NEAR)
    assert (one["answer"], one["verdict"]) == (10, "not comparable")
    assert one["by"] == "dataset is wikipedia-sample here, and would have to be wikitext-2-raw"
    one = row(tmp_path, result=PERPLEXITY | {"comparable": False, "why": "another machine"}, value=None)
    assert (one["answer"], one["verdict"], one["by"]) == (10, "not comparable", "another machine")
    assert pd.isna(one["value"])


def test_what_is_not_measured_names_the_command(tmp_path):
    folder = (tmp_path / "results").as_posix()
    by = row(tmp_path, result=PERPLEXITY, tolerance=NEAR)["by"]
    assert by == f"snakemake --configfile config/config.yaml -- {folder}/laptop/wikitext/tuned/metrics.json"
    # The laptop study has no such variant.
    by = row(tmp_path, result=PERPLEXITY | {"variant": "dora"}, tolerance=NEAR)["by"]
    assert by == f"snakemake --configfile config/full.yaml -- {folder}/full/wikitext/dora/metrics.json"
    # It was measured there, and had no such number: a GPU's memory on a CPU.
    measure(tmp_path, {"perplexity": 10}, {"peak_device_mb": None})
    one = row(tmp_path, result=PERPLEXITY | {"key": "training.peak_device_mb"}, tolerance=NEAR)
    assert one["verdict"] == "not measured yet"
    assert "config/full.yaml" in one["by"]


def test_a_row_of_measurements(tmp_path):
    folder = tmp_path / "results/laptop/bert4rec/efficiency"
    folder.mkdir(parents=True)
    rows = [{"size": "130m", "mode": mode, "samples_per_second": speed} for mode, speed in (("float32", 5), ("x", 9))]
    (folder / "measurements.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    result = {"variant": "efficiency", "key": "samples_per_second"}
    at = {"original": "bert4rec", "tolerance": NEAR}
    found = row(tmp_path, result=result | {"row": {"size": "130m", "mode": "x"}}, **at)
    assert (found["answer"], found["verdict"]) == (9, "reproduced")
    absent = row(tmp_path, result=result | {"row": {"size": "430m", "mode": "float32"}}, **at)
    assert absent["verdict"] == "not measured yet"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"reason": "x", "tolerence": 1}, "wikitext.one.tolerence: unknown key; did you mean 'tolerance'?"),
        ({}, "wikitext.one: give 'analytic', 'result' or a 'reason'"),
        ({"result": PERPLEXITY, "reason": "x", "tolerance": NEAR}, "wikitext.one: give 'analytic', 'result'"),
        ({"analytic": "lora_scale", "tolerance": NEAR}, "no computation 'lora_scale'; did you mean 'lora_scaling'?"),
        ({"analytic": "lora_scaling", "arguments": {"r": 8}, "tolerance": NEAR}, "lora_scaling: missing a required"),
        ({"analytic": "lora_scaling", "arguments": {"r": 8, "lora_alpha": 8}}, "needs a 'value' and a 'tolerance'"),
        ({"reason": "x", "arguments": {"r": 8}}, "'arguments' go with 'analytic'"),
        ({"reason": "x", "id": "two"}, "wikitext.one.id: leave it out"),
        ({"result": PERPLEXITY, "tolerance": {}}, "wikitext.one.tolerance: give either"),
        ({"result": PERPLEXITY | {"comparable": False}}, "wikitext.one.result: give 'why'"),
        ({"result": PERPLEXITY | {"key": "perplexity"}, "tolerance": NEAR}, "begin with 'metrics.'"),
        (
            {"result": PERPLEXITY | {"experiment": "x"}, "tolerance": NEAR},
            "wikitext.one.result.experiment: unknown key",
        ),
        ({"result": PERPLEXITY | {"variant": "ladder"}, "tolerance": NEAR}, "'row' goes with the variants"),
    ],
)
def test_a_faulty_claim_is_named(tmp_path, claim, message):
    path = write(tmp_path, **claim)
    with pytest.raises(FrugalError) as raised:
        load_claims(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_faulty_file_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    for text, message in [
        ("wikitxt: {}", "wikitxt: no such original in config/originals.yaml; did you mean 'wikitext'?"),
        ("wikitext: [x]", "wikitext: expected claims by their names, got"),
        ("wikitext: {one: 3}", "wikitext.one: expected keys and values, got 3"),
        ("wikitext: {one: {}, one: {}}", "the key 'one' is given twice"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FrugalError, match=r"claims\.yaml") as raised:
            load_claims(path)
        assert message in str(raised.value)


def test_wrong_values_and_broken_results_are_errors_that_say_where(tmp_path):
    arguments = {"model": "llama-3-9b", "bits": 4}
    with pytest.raises(FrugalError, match=r"wikitext\.one\.arguments: weights_gb: .*did you mean 'llama-3-8b'"):
        row(tmp_path, analytic="weights_gb", arguments=arguments, tolerance=NEAR)
    with pytest.raises(FrugalError, match=r"wikitext\.one\.arguments: relative_change"):
        row(tmp_path, analytic="relative_change", arguments={"before": 0, "after": 1}, tolerance=NEAR)
    measure(tmp_path, {"perplexity": "ten"})
    with pytest.raises(FrugalError, match=r"metrics\.json: metrics\.perplexity: expected a number, got 'ten'"):
        row(tmp_path, result=PERPLEXITY, tolerance=NEAR)
    (tmp_path / "results/laptop/wikitext/tuned/metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(FrugalError, match=r"metrics\.json: cannot be read"):
        row(tmp_path, result=PERPLEXITY, tolerance=NEAR)


# --- the ledger as a whole


def test_the_ledger_on_any_machine(tmp_path):
    ledger = make_ledger(CLAIMS, tmp_path / "laptop", DESCRIBED, CONFIGS).set_index("id")
    assert set(ledger["verdict"]) <= set(VERDICTS)
    assert (ledger["by"].str.len() > 0).all()
    # Nothing is measured in an empty folder, so nothing differs; computations answer all the same.
    assert "differs" not in set(ledger["verdict"])
    refuted = ledger.loc["movie_preference.trainable_parameters"]
    assert (refuted["answer"], refuted["verdict"]) == (41_943_040, "refuted")
    assert ledger.loc["movie_preference.steps", "verdict"] == "reproduced"
    assert ledger.loc["wikitext.trainable_share", "verdict"] == "reproduced"
    assert ledger.loc["movie_preference.adapter_size", "by"] == "lora_adapter_mb"
    assert {name for name in SHAPES if name.startswith("llama")} <= {c.arguments.get("model") for c in CLAIMS}


def test_the_command_prints_and_writes_the_ledger(tmp_path, capsys, monkeypatch):
    output = tmp_path / "ledger.parquet"
    study = tmp_path / "laptop" / "study.yaml"
    study.parent.mkdir()
    study.write_text(yaml.safe_dump(DESCRIBED))
    monkeypatch.setattr("sys.argv", ["check_claims.py", "--study", str(study), "--output", str(output)])
    check_claims.main()
    lines = capsys.readouterr().out.splitlines()
    written = pd.read_parquet(output)
    assert tuple(written.columns) == COLUMNS
    assert len(written) == len(CLAIMS) == len(lines) - 3
    assert lines[-1].startswith(f"{len(CLAIMS)} claims: ")
    counts = written["verdict"].value_counts()
    assert all(f"{counts.get(verdict, 0)} {verdict}" in lines[-1] for verdict in VERDICTS)


def test_the_command_asks_for_the_study_that_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["check_claims.py", "--study", str(tmp_path / "study.yaml")])
    with pytest.raises(FrugalError, match=r"study\.yaml: there is no such file; run `snakemake"):
        check_claims.main()


def test_an_experiment_of_any_name_answers_the_original_that_it_reproduces(tmp_path):
    folder = tmp_path / "results/laptop/encyclopaedia/tuned"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"metrics": {"perplexity": 10}}), encoding="utf-8")
    described = {"experiments": {"poems": {"reproduces": None}, "encyclopaedia": {"reproduces": "wikitext"}}}
    one = row(tmp_path, described, result=PERPLEXITY, tolerance=NEAR)
    assert (one["answer"], one["verdict"]) == (10, "reproduced")
    assert one["by"].endswith("results/laptop/encyclopaedia/tuned/metrics.json: metrics.perplexity")
    # A second one is not asked, and one that reproduces nothing neither.
    described = {"experiments": {"first": {"reproduces": "wikitext"}} | described["experiments"]}
    assert row(tmp_path, described, result=PERPLEXITY, tolerance=NEAR)["verdict"] == "not measured yet"
    only = {"experiments": {"encyclopaedia": {"reproduces": None}}}
    assert row(tmp_path, only, result=PERPLEXITY, tolerance=NEAR)["verdict"] == "not measured yet"


def test_the_table_is_aligned(tmp_path):
    lines = as_text(make_ledger(CLAIMS[:5], tmp_path, DESCRIBED, CONFIGS)).splitlines()
    start = lines[0].index("verdict")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines[1:6])

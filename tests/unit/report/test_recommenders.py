"""The sections on recommenders: values by hand, what is missing, and what is said of it."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from frugal.claims.ledger import load_claims, make_ledger
from frugal.config.study import RECOMMENDERS as study_recommenders
from frugal.errors import FrugalError
from frugal.report.contents import FIGURES, RECOMMENDERS, TABLES
from frugal.report.figures import style
from frugal.report.recommenders import section
from frugal.report.recommenders.figures import DRAWINGS
from frugal.report.recommenders.findings import findings
from frugal.report.recommenders.layouts import LAYOUTS
from frugal.report.recommenders.originals import Original, uniform_ratio
from frugal.report.recommenders.tables import build, scaled
from frugal.report.render import write_report
from frugal.report.results import Results


@pytest.fixture
def results(study, synthetic) -> Results:
    return Results(study / "results" / "trial", "trial", synthetic.runs, study / "data", efficiency=["bert4rec"])


@pytest.fixture
def copy(study, synthetic, tmp_path) -> Results:
    """The same study where files may be changed."""
    shutil.copytree(study / "results", tmp_path / "results", ignore=shutil.ignore_patterns("report"))
    shutil.copytree(study / "data", tmp_path / "data")
    return Results(tmp_path / "results" / "trial", "trial", synthetic.runs, tmp_path / "data", efficiency=["bert4rec"])


def change(path, read, dump, **parts):
    path.write_text(dump(read(path.read_text()) | parts))


def rows(results: Results, name: str) -> pd.DataFrame:
    return build(name, results).frame.set_index("run")


def sentences(results: Results, experiment: str) -> str:
    tables = {name: build(name, results) for name in TABLES[experiment]}
    return " ".join(findings(tables, experiment, experiment, experiment in results.efficiency))


def test_the_configuration_lists_the_same_recommenders():
    assert study_recommenders == RECOMMENDERS


def test_every_listed_table_and_figure_has_its_layout_and_drawing():
    assert set(LAYOUTS) == {name for experiment in RECOMMENDERS for name in TABLES[experiment]}
    assert set(DRAWINGS) == {name for experiment in RECOMMENDERS for name in FIGURES[experiment]}


def test_ranking_shows_mean_spread_and_interval(results):
    table = build("ssept_ranking", results)
    record = json.loads((results.root / "ssept/ssept/metrics.json").read_text())
    mean, std = record["metrics"]["NDCG@10"], record["std"]["NDCG@10"]
    assert std == pytest.approx(np.std([seed["NDCG@10"] for seed in record["by_seed"].values()], ddof=1))
    names = [column.name for column in table.columns]
    assert "recall@10" not in names  # one target a user: it is the hit rate again
    assert "protocol" not in names  # all runs share data and split
    cells = dict(zip(table.frame["run"], table.rows(), strict=True))
    cell = cells["ssept"][names.index("NDCG@10")]
    assert (cell.value, cell.best) == (f"{mean:.4f} ± {std:.4f}", True)
    assert cell.interval == f"[{mean - 0.02:.4f}, {mean + 0.02:.4f}]"
    baseline = cells["baseline_ease"]
    assert baseline[names.index("seeds")].value == ""
    assert "±" not in baseline[names.index("NDCG@10")].value


def test_runs_on_another_split_stand_apart(results):
    table = build("bert4rec_ranking", results)
    frame = table.frame.set_index("run")
    assert (
        frame.loc["baseline_ease", "protocol"] == frame.loc["bert4rec", "protocol"] == "movielens-100k, leave one out"
    )
    assert frame.loc["by_time", "protocol"] == "movielens-100k, global time (last 10%)"
    assert frame["recall@10"].notna().tolist() == [name == "by_time" for name in frame.index]
    # Best among its equals: `large`; a split with one system has no contest.
    best = {row[0].value for row in table.rows() if any(cell.best for cell in row)}
    assert best == {"large"}
    assert "by_time" not in rows(results, "bert4rec_tests").index
    assert build("bert4rec_data", results).frame["split"].tolist() == ["leave one out", "global time (last 10%)"]


def test_data_by_hand(results):
    assert [cell.value for cell in build("ssept_data", results).rows()[0]] == [
        "movielens-100k", "leave one out", "943", "1,682", "99,990", "106.0", "415", "yes", "100", "60"
    ]  # fmt: skip


def test_what_is_left_out_of_the_data_stands_in_the_protocol(copy):
    path = copy.root / "ssept/without_sse/config.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["data"] |= {"min_rating": 4.0, "max_users": 1000, "fraction": 0.1}
    path.write_text(yaml.safe_dump(settings))
    protocol = rows(copy, "ssept_ranking").loc["without_sse", "protocol"]
    assert protocol == "movielens-100k, leave one out, ratings from 4, 1,000 users, 10% of the shards"
    assert "without_sse" not in rows(copy, "ssept_tests").index


def test_other_cut_offs_are_rows(results):
    table = build("ssept_cutoffs", results)
    assert set(table.frame["k"]) == {5}
    assert [cell.value for cell in table.rows()[0]] == ["5", "popularity", "0.0500", "0.0250", "0.125"]


@pytest.mark.usefixtures("always_resampled")
def test_tests_pair_users_over_the_means_of_their_seeds(copy):
    """Three users, two seeds against one: differences (1 + 0)/2 - 0, 0.5 - 0.5 and 1 - 0."""
    first = pd.DataFrame({"seed": [1, 1, 1, 2, 2, 2], "user": [0, 1, 2] * 2, "NDCG@10": [1, 0.5, 1, 0, 0.5, 1]})
    second = pd.DataFrame({"seed": 0, "user": [2, 1, 0, 9], "NDCG@10": [0, 0.5, 0, 1]})
    first.to_parquet(copy.root / "ssept/ssept/predictions.parquet")
    second.to_parquet(copy.root / "ssept/baseline_ease/predictions.parquet")
    row = rows(copy, "ssept_tests").loc["baseline_ease"]
    assert (row["users"], row["difference"]) == (3, pytest.approx(0.5))
    assert row["relative"] == pytest.approx(0.5 / (0.5 / 3))
    assert (row["difference_lower"], row["difference_upper"]) == (0, 1)
    assert row["verdict"] == "no difference found"


def test_sizes_are_compared_where_nothing_but_size_differs(results):
    assert [run.name for run in scaled(results, "bert4rec")] == ["bert4rec", "large"]
    frame = rows(results, "bert4rec_scaling")
    # Width 64 and 128, as the synthetic study counts them.
    assert frame["encoder_parameters"].tolist() == [318 * 64, 318 * 128]
    assert frame["item_embedding_parameters"].tolist() == [1682 * 64, 1682 * 128]
    large, small = (results.find("bert4rec", name).metrics["NDCG@10"] for name in ("large", "bert4rec"))
    assert frame.loc["large", "difference"] == pytest.approx(large - small)
    assert pd.isna(frame.loc["bert4rec", "difference"])


def test_adapters_are_compared_with_their_backbone(results):
    frame = rows(results, "bert4rec_adapters")
    assert frame.index.tolist() == ["lora", "ilora"]
    assert frame["backbone"].tolist() == ["bert4rec"] * 2
    assert frame.loc["ilora", "experts"] == 4
    assert pd.isna(frame.loc["lora", "experts"])
    assert frame.loc["lora", "difference"] == 0  # the synthetic ranks are the backbone's
    assert frame.loc["lora", "verdict"] == "no difference found"


def test_efficiency_by_machine_against_float32(results):
    frame = build("bert4rec_efficiency", results).frame
    assert frame["hardware"].tolist() == ["Test CPU @ 2 GHz, 2 cores"] * 4 + ["Test GPU"] * 2
    assert frame["speedup"].tolist()[:4] == [1, 1.5, 1, 1.25]  # 150 / 100 and 50 / 40
    assert frame["speedup"].isna().tolist()[4:] == [True, True]  # no float32 there
    assert pd.isna(frame["peak_rss_mb"].iloc[5])  # a failure has no measurements
    text = sentences(results, "bert4rec")
    assert "On Test CPU @ 2 GHz, 2 cores, size 5m, sequences per second against float32: bfloat16 1.25 times." in text
    assert "On Test GPU, no mode can be compared with float32" in text


def test_findings_follow_from_the_statistics(results):
    text = sentences(results, "ssept")
    assert "The best baseline is EASE with recency" in text
    assert "the principal model against it: better (difference +" in text
    assert "better than without_sse; not told apart from retrained" in text
    assert "Stochastic shared embeddings: the model with them, against the same one without: better" in text
    # Three variants with two seeds each, of which seed 1 stopped early.
    assert "Early stopping ended 3 of 6 trainings" in text
    text = sentences(results, "bert4rec")
    assert "worse than large" in text
    assert "large against bert4rec: better" in text
    assert "lora (LoRA) trains 0.55 % of the weights" in text
    assert "against bert4rec, which it starts from: no difference found" in text
    assert "took 1.5 minutes for 12.0 epochs and a peak of 900 MB" in text


def test_one_seed_has_no_spread(copy):
    path = copy.root / "ssept/ssept/metrics.json"
    record = json.loads(path.read_text())
    change(path, json.loads, json.dumps, std={}, by_seed={"1": record["by_seed"]["1"]})
    assert "with one seed." in sentences(copy, "ssept")
    table = build("ssept_ranking", copy)
    row = table.rows()[table.frame["run"].tolist().index("ssept")]
    assert not any("±" in cell.value for cell in row)


def test_without_results_all_findings_say_missing(synthetic, tmp_path):
    empty = Results(tmp_path, "trial", synthetic.runs, tmp_path)
    for experiment in RECOMMENDERS:
        text = sentences(empty, experiment)
        assert "How well the principal model ranks cannot be said" in text
        assert "the baselines' results are missing" in text
        assert "What training costs: missing." in text
        assert "better" not in text.replace("better than a simple method cannot", "")
    assert build("ssept_ranking", empty).rows()[-1][-1].value == "\u2014"


def test_missing_files_are_named_with_their_command(copy):
    history = copy.root / "ssept/ssept/seeds/2/history.csv"
    history.unlink()
    measurements = copy.root / "bert4rec/efficiency/measurements.json"
    measurements.unlink()
    (missing,) = copy.missing("ssept", ["history.csv"])
    assert (missing.what, missing.command) == ("history.csv of ssept, seed 2", f"snakemake {history}")
    (missing,) = copy.missing("bert4rec", ["efficiency/measurements.json"])
    assert missing.command == f"snakemake {measurements}"
    assert "What the modes of training cost and save: missing." in sentences(copy, "bert4rec")
    assert copy.missing("ssept", ["examples.jsonl"]) == []


def test_efficiency_that_nobody_asked_for_is_not_missing(copy):
    (copy.root / "bert4rec/efficiency/measurements.json").unlink()
    copy.efficiency = set()
    assert copy.missing("bert4rec", ["efficiency/measurements.json"]) == []
    assert "modes of training" not in sentences(copy, "bert4rec")


def test_a_file_that_is_not_an_object_is_an_error(copy):
    (copy.root / "ssept/ssept/metrics.json").write_text("[1]")
    with pytest.raises(FrugalError, match=r"ssept/metrics\.json: cannot be read \(it holds no keys and values\)"):
        build("ssept_ranking", copy)


def test_data_without_times_are_marked(copy):
    change(copy.data / "prepared/movielens-100k/summary.json", json.loads, json.dumps, ordered=False)
    row = build("ssept_data", copy).frame.iloc[0]
    assert (row["split"], row["ordered"]) == ("as published", "no")
    assert section.context("ssept", copy, dict.fromkeys(TABLES["ssept"]))["ordered"] is False


def test_notes_of_baselines_that_do_not_apply_are_printed(copy):
    note = "the data have no order in time"
    change(copy.root / "ssept/baseline_markov/metrics.json", json.loads, json.dumps, metrics={}, note=note)
    assert section.context("ssept", copy, dict.fromkeys(TABLES["ssept"]))["notes"] == {"Markov chain": note}


def test_warm_starts_say_what_was_taken_over(results, written):
    (start,) = section.warm_starts(results, "ssept")
    assert (start["system"], start["source"], start["record"]["loaded"]) == (
        "retrained",
        "SSE_PT_tf.pth",
        ["encoder.0"],
    )
    assert (
        "retrained starts from SSE\\_PT\\_tf.pth: 1 tensors were taken over, 1 were not:"
        in (written / "report.md").read_text()
    )


def test_a_study_of_one_experiment_has_no_section_on_others(study, tmp_path):
    results = Results(study / "results" / "trial", "trial", ["ssept/baseline_ease", "ssept/ssept"], study / "data")
    write_report(results, tmp_path, make_ledger(load_claims("config/claims.yaml"), results.root))
    text = (tmp_path / "report.md").read_text()
    assert "## SSE-PT" in text
    assert "BERT4Rec\n" not in text
    assert "Free answers" not in text
    assert "missing: tables/ssept\\_ranking.csv; make it with* `snakemake tables`" in text


def test_figures_draw_what_is_comparable(results):
    with style():
        axes = DRAWINGS["bert4rec_ranking"].draw(results).axes[0]
        names = [text.get_text() for text in axes.get_yticklabels()]
        assert names[:6] == ["popularity", "ItemKNN", "EASE", "EASE with recency", "Markov chain", "bert4rec"]
        assert "by_time" not in names
        axes = DRAWINGS["ssept_convergence"].draw(results).axes[0]
        # Three variants, two seeds each: a line and a dot for each.
        assert len(axes.get_lines()) == 12
        axes = DRAWINGS["bert4rec_scaling"].draw(results).axes[0]
        assert axes.get_xscale() == "log"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["20.4k", "40.7k"]
        panels = DRAWINGS["bert4rec_efficiency"].draw(results).axes
        assert [panel.get_title(loc="left") for panel in panels] == ["Test CPU @ 2 GHz, 2 cores", "", "Test GPU", ""]
        assert [text.get_text().strip() for text in panels[2].texts] == ["failed"]


def test_figures_without_results_say_missing(synthetic, tmp_path):
    empty = Results(tmp_path, "trial", synthetic.runs, tmp_path)
    with style():
        for name, drawing in DRAWINGS.items():
            texts = {text.get_text() for axes in drawing.draw(empty).axes for text in axes.texts}
            assert texts == {"not asked for" if name == "bert4rec_efficiency" else "missing"}


def test_originals_by_arithmetic():
    # .0458 / .0621 and .0682 / .0855 ... .0686 / .0858
    assert Original().ratios == pytest.approx((0.7375, 0.7995), abs=1e-4)
    # 11428 x 450 s, 13300 x 408 s, 10800 x 474 s
    assert [speed.sequences for speed in Original().speeds] == [5_142_600, 5_426_400, 5_119_200]
    assert Original().compile_gain == pytest.approx(0.1638, abs=1e-4)
    assert uniform_ratio(2) == pytest.approx((1 + 1 / np.log2(3)) / 2)

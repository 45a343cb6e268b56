"""The sections on recommendation: values by hand, what is missing, and what is said of it."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic.study import (
    change,
    draw,
    markdown_of,
    reconfigure,
    results_of,
    rows,
    sentences,
    settings,
    table,
)

from frugal.errors import FrugalError
from frugal.report.figures import style
from frugal.report.originals.bert4rec import FACTS
from frugal.report.recommendation import section
from frugal.report.recommendation.literature import uniform_ratio
from frugal.report.recommendation.protocol import protocol
from frugal.report.recommendation.tables import scaled, starting_point


def context(results, experiment: str) -> dict:
    return section.context(results.experiments[experiment], {})


def test_ranking_shows_mean_spread_and_interval(results):
    shown = table(results, "ssept", "ranking")
    record = json.loads((results.root / "ssept/ssept/metrics.json").read_text())
    mean, std = record["metrics"]["NDCG@10"], record["std"]["NDCG@10"]
    assert std == pytest.approx(np.std([seed["NDCG@10"] for seed in record["by_seed"].values()], ddof=1))
    names = [column.name for column in shown.columns]
    assert "recall@10" not in names  # one target a user: it is the hit rate again
    assert "protocol" not in names  # all runs share data and split
    cells = dict(zip(shown.frame["run"], shown.rows(), strict=True))
    cell = cells["ssept"][names.index("NDCG@10")]
    assert (cell.value, cell.best) == (f"{mean:.4f} ± {std:.4f}", True)
    assert cell.interval == f"[{mean - 0.02:.4f}, {mean + 0.02:.4f}]"
    baseline = cells["baseline_ease"]
    assert baseline[names.index("seeds")].value == ""
    assert "±" not in baseline[names.index("NDCG@10")].value


def test_runs_on_another_split_stand_apart(results):
    shown = table(results, "bert4rec", "ranking")
    frame = shown.frame.set_index("run")
    assert (
        frame.loc["baseline_ease", "protocol"] == frame.loc["bert4rec", "protocol"] == "movielens-100k, leave one out"
    )
    assert frame.loc["by_time", "protocol"] == "movielens-100k, global time (last 10%)"
    assert frame["recall@10"].notna().tolist() == [name == "by_time" for name in frame.index]
    # Best among its equals: `large`; a split with one system has no contest.
    best = {row[0].value for row in shown.rows() if any(cell.best for cell in row)}
    assert best == {"large"}
    assert "by_time" not in rows(results, "bert4rec", "tests").index
    assert table(results, "bert4rec", "data").frame["split"].tolist() == ["leave one out", "global time (last 10%)"]


def test_data_by_hand(results):
    assert [cell.value for cell in table(results, "ssept", "data").rows()[0]] == [
        "movielens-100k", "leave one out", "943", "1,682", "99,990", "106.0", "yes", "42.0", "25.0",
        "random (seed 0)", "100", "60", "0.0", "5.0", "left out",
    ]  # fmt: skip


def test_repeated_targets_and_a_kept_history_are_shown(copy):
    counts = {"targets": 40, "repeated": 10, "cold": 1}
    for path in (copy.root / "ssept").glob("*/metrics.json"):
        change(path, history="keep", targets=counts)
    row = table(copy, "ssept", "data").frame.iloc[0]
    assert (row["repeated"], row["cold"], row["history"]) == (0.25, 0.025, "ranked")
    assert context(copy, "ssept")["kept"] is True
    assert protocol(copy.experiments["ssept"].principal) == "movielens-100k, leave one out, history ranked"


def test_the_order_of_a_file_is_no_order_in_time(copy):
    change(copy.data / "prepared/movielens-100k/summary.json", timestamps=False)
    assert table(copy, "ssept", "data").frame["ordered"].iloc[0] == "that of the file"


def test_what_is_left_out_of_the_data_stands_in_the_protocol(copy):
    limits = {"min_rating": 4.0, "max_users": 1000, "fraction": 0.1}
    reconfigure(copy.root / "ssept/without_sse/config.yaml", data=limits)
    protocol = rows(copy, "ssept", "ranking").loc["without_sse", "protocol"]
    assert protocol == "movielens-100k, leave one out, ratings from 4, 1,000 users, 10% of the shards"
    assert "without_sse" not in rows(copy, "ssept", "tests").index


def test_other_cut_offs_are_rows(results):
    shown = table(results, "ssept", "cutoffs")
    assert set(shown.frame["k"]) == {5}
    assert [cell.value for cell in shown.rows()[0]] == ["5", "popularity", "0.0500", "0.0250", "0.125"]


@pytest.mark.usefixtures("always_resampled")
def test_tests_pair_users_over_the_means_of_their_seeds(copy):
    """Three users, two seeds against one: differences (1 + 0)/2 - 0, 0.5 - 0.5 and 1 - 0."""
    first = pd.DataFrame({"seed": [1, 1, 1, 2, 2, 2], "user": [0, 1, 2] * 2, "NDCG@10": [1, 0.5, 1, 0, 0.5, 1]})
    second = pd.DataFrame({"seed": 0, "user": [2, 1, 0, 9], "NDCG@10": [0, 0.5, 0, 1]})
    first.to_parquet(copy.root / "ssept/ssept/predictions.parquet")
    second.to_parquet(copy.root / "ssept/baseline_ease/predictions.parquet")
    row = rows(copy, "ssept", "tests").loc["baseline_ease"]
    assert (row["users"], row["difference"]) == (3, pytest.approx(0.5))
    assert row["relative"] == pytest.approx(0.5 / (0.5 / 3))
    assert (row["difference_lower"], row["difference_upper"]) == (0, 1)
    assert row["verdict"] == "no difference found"


def test_sizes_are_compared_where_nothing_but_size_differs(results):
    assert [run.name for run in scaled(results.experiments["bert4rec"])] == ["bert4rec", "large"]
    frame = rows(results, "bert4rec", "scaling")
    # Width 64 and 128, as the synthetic study counts them.
    assert frame["encoder_parameters"].tolist() == [318 * 64, 318 * 128]
    assert frame["item_embedding_parameters"].tolist() == [1682 * 64, 1682 * 128]
    large, small = (results.experiments["bert4rec"].find(name).metrics["NDCG@10"] for name in ("large", "bert4rec"))
    assert frame.loc["large", "difference"] == pytest.approx(large - small)
    assert pd.isna(frame.loc["bert4rec", "difference"])


def test_adapters_are_compared_with_their_backbone(results):
    frame = rows(results, "bert4rec", "adapters")
    assert frame.index.tolist() == ["lora", "ilora"]
    assert frame["backbone"].tolist() == ["bert4rec"] * 2
    assert frame.loc["ilora", "experts"] == 4
    assert pd.isna(frame.loc["lora", "experts"])
    assert frame.loc["lora", "difference"] == 0  # the synthetic ranks are the backbone's
    assert frame.loc["lora", "verdict"] == "no difference found"


def test_efficiency_by_machine_against_float32(results):
    frame = table(results, "bert4rec", "efficiency").frame
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
    assert "better than without_sse; not significantly different from retrained" in text
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
    change(path, std={}, by_seed={"1": record["by_seed"]["1"]})
    assert "with one seed." in sentences(copy, "ssept")
    shown = table(copy, "ssept", "ranking")
    row = shown.rows()[shown.frame["run"].tolist().index("ssept")]
    assert not any("±" in cell.value for cell in row)


def test_without_results_all_findings_say_missing(empty):
    for experiment in ("ssept", "bert4rec"):
        text = sentences(empty, experiment)
        assert "How well the principal model ranks cannot be said" in text
        assert "the baselines' results are missing" in text
        assert "What training costs: missing." in text
        assert "better" not in text.replace("better than a simple method cannot", "")
    assert table(empty, "ssept", "ranking").rows()[-1][-1].value == "\u2014"


def test_files_of_a_seed_and_measurements_are_named(copy):
    (copy.root / "ssept/ssept/seeds/2/history.csv").unlink()
    (copy.root / "bert4rec/efficiency/measurements.json").unlink()
    (missing,) = copy.experiments["ssept"].missing(["history.csv"])
    assert missing.what == "history.csv of ssept, seed 2"
    (missing,) = copy.experiments["bert4rec"].missing(["efficiency/measurements.json"])
    assert missing.what == "measurements of efficiency (bert4rec)"
    assert "What the modes of training cost and save: missing." in sentences(copy, "bert4rec")
    assert copy.experiments["ssept"].missing(["examples.jsonl"]) == []


def test_efficiency_that_nobody_asked_for_is_not_missing(tmp_path):
    config = settings("bert4rec")
    config["experiments"]["bert4rec"].pop("efficiency")
    unasked = results_of(tmp_path, config)
    experiment = unasked.experiments["bert4rec"]
    assert experiment.missing(["efficiency/measurements.json"]) == []
    assert "efficiency" not in experiment.tables + experiment.figures
    assert "modes of training" not in sentences(unasked, "bert4rec")


def test_a_file_that_is_not_an_object_is_an_error(copy):
    (copy.root / "ssept/ssept/metrics.json").write_text("[1]")
    with pytest.raises(FrugalError, match=r"ssept/metrics\.json: cannot be read \(it holds no keys and values\)"):
        table(copy, "ssept", "ranking")


def test_data_without_times_are_marked(copy):
    change(copy.data / "prepared/movielens-100k/summary.json", ordered=False)
    row = table(copy, "ssept", "data").frame.iloc[0]
    assert (row["split"], row["ordered"]) == ("as published", "no")
    assert context(copy, "ssept")["ordered"] is False


def test_notes_of_baselines_that_do_not_apply_are_printed(copy):
    note = "the data have no order in time"
    change(copy.root / "ssept/baseline_markov/metrics.json", metrics={}, left_out=note)
    assert context(copy, "ssept")["left_out"] == [("Markov chain", note)]


@pytest.mark.parametrize(
    ("model", "loss", "said"),
    [
        (
            {"layers": "ligr"},
            {"name": "gbce", "negatives": 256},
            ("layers are those of LiGR", "over the target and 256 sampled negatives, with t = 0.75"),
        ),
        (
            {"layers": "hstu", "positions": "time"},
            {"name": "in_batch_softmax"},
            ("layers are those of HSTU", "for each distance and time between", "other targets of the batch"),
        ),
    ],
)
def test_layers_positions_and_losses_are_named(copy, written, model, loss, said):
    for config in (copy.root / "ssept").glob("*/config.yaml"):
        reconfigure(config, model=model, loss=loss)
    text = markdown_of(copy, written)
    for words in said:
        assert words in text


def test_warm_starts_say_what_was_taken_over(results, written):
    (start,) = section.warm_starts(results.experiments["ssept"])
    assert (start["system"], start["source"], start["record"]["loaded"]) == (
        "retrained",
        "SSE_PT_tf.pth",
        ["encoder.0"],
    )
    assert (
        "retrained starts from SSE\\_PT\\_tf.pth: 1 tensors were copied, 1 were not:"
        in (written / "report.md").read_text()
    )


def test_a_study_of_one_experiment_has_no_section_on_others(study, tmp_path):
    text = markdown_of(results_of(study, settings("ssept")), tmp_path)
    assert "## SSE-PT" in text
    assert "BERT4Rec\n" not in text
    assert "Free answers" not in text
    assert "missing: tables/ssept\\_ranking.csv; make it with* `snakemake tables`" in text


def test_figures_draw_what_is_comparable(results):
    with style():
        axes = draw(results, "bert4rec", "ranking").axes[0]
        names = [text.get_text() for text in axes.get_yticklabels()]
        assert names[:6] == ["popularity", "ItemKNN", "EASE", "EASE with recency", "Markov chain", "bert4rec"]
        assert "by_time" not in names
        axes = draw(results, "ssept", "convergence").axes[0]
        # Three variants, two seeds each: a line and a dot for each.
        assert len(axes.get_lines()) == 12
        axes = draw(results, "bert4rec", "scaling").axes[0]
        assert axes.get_xscale() == "log"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["20.4k", "40.7k"]
        panels = draw(results, "bert4rec", "efficiency").axes
        assert [panel.get_title(loc="left") for panel in panels] == ["Test CPU @ 2 GHz, 2 cores", "", "Test GPU", ""]
        assert [text.get_text().strip() for text in panels[2].texts] == ["failed"]


def test_figures_without_results_say_missing(empty):
    experiment = empty.experiments["bert4rec"]
    with style():
        for part in experiment.figures:
            texts = {text.get_text() for axes in draw(empty, "bert4rec", part).axes for text in axes.texts}
            assert texts == {"missing"}


def test_originals_by_arithmetic():
    # .0458 / .0621 and .0682 / .0855 ... .0686 / .0858
    assert FACTS.ratios == pytest.approx((0.7375, 0.7995), abs=1e-4)
    # 11428 x 450 s, 13300 x 408 s, 10800 x 474 s
    assert [speed.sequences for speed in FACTS.speeds] == [5_142_600, 5_426_400, 5_119_200]
    assert FACTS.compile_gain == pytest.approx(0.1638, abs=1e-4)
    assert uniform_ratio(2) == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_a_starting_point_names_another_experiment():
    assert starting_point({"variant": "tuned"}) == starting_point({"experiment": None, "variant": "tuned"}) == "tuned"
    assert starting_point({"experiment": "books", "variant": "tuned"}) == "books/tuned"
    assert starting_point({"path": "model.pth"}) == "model.pth"

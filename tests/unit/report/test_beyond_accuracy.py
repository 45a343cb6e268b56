"""What the lists of recommenders hold and what is gained where, in the report: by hand, and where files are missing."""

import json

import pandas as pd
import pytest
from synthetic.study import change, draw, markdown_of, results_of, rows, sentences, table

from frugal.report.figures import style
from frugal.report.recommendation.groups import shown_systems


def of_group(results, experiment: str, group: str) -> pd.DataFrame:
    frame = table(results, experiment, "groups").frame
    return frame[frame["group"] == group].set_index("run")


def forget(results, *files: str) -> None:
    """Make the results those of earlier code, which did not write these files."""
    for file in files:
        for path in results.root.glob(f"*/*/{file}"):
            path.unlink()


def test_the_best_of_each_role_stand_side_by_side(results):
    def names(experiment):
        return [run.name for run in shown_systems(results.experiments[experiment])]

    assert names("ssept") == ["ssept", "retrained", "baseline_ease_recency"]
    # `by_time` ranks better than all but `large`, on another split.
    assert names("bert4rec") == ["bert4rec", "large", "baseline_ease_recency"]


def test_lists_are_shown_with_spread_and_interval(results):
    shown = table(results, "ssept", "beyond")
    cells = dict(zip(shown.frame["run"], shown.rows(), strict=True))
    assert [(cell.value, cell.interval) for cell in cells["ssept"]] == [
        ("ssept", ""), ("0.300 ± 0.010", ""), ("0.700 ± 0.020", ""), ("25.0 ± 0.5", "[20.0, 30.0]"),
        ("+10.0", "[−10.0, +50.0]"), ("2.50 ± 0.12", "[2.25, 2.75]"),
    ]  # fmt: skip
    assert [cell.value for cell in cells["baseline_ease"]][:2] == ["EASE", "0.080"]


def test_every_group_has_each_system(results):
    frame = table(results, "ssept", "groups").frame
    assert frame["group"].drop_duplicates().tolist() == [
        "histories of 20 to 34", "histories of 35 to 90", "head targets", "mid targets", "tail targets", "cold targets",
    ]  # fmt: skip
    assert frame["system"].tolist() == ["ssept", "retrained", "EASE with recency"] * 6


def test_few_users_are_shown_and_marked(results):
    head, mid, tail, cold = (of_group(results, "ssept", f"{name} targets") for name in ("head", "mid", "tail", "cold"))
    assert [one["users"].iloc[0] for one in (head, mid, tail, cold)] == [30, 25, 5, 0]
    assert [one["few"].iloc[0] for one in (mid, tail, cold)] == ["few"] * 3
    assert pd.isna(head["few"].iloc[0])
    # Five users: values, but neither interval nor test. Nobody: a count.
    assert tail["NDCG@10"].notna().all()
    assert pd.notna(tail.loc["ssept", "difference"])
    assert tail[["NDCG@10_lower", "difference_lower", "p", "verdict"]].isna().all(axis=None)
    assert cold[["NDCG@10", "difference", "verdict"]].isna().all(axis=None)
    # Nothing is missing there: the cells are empty.
    assert [cell.value for cell in table(results, "ssept", "groups").rows()[-1]] == [
        "cold targets", "EASE with recency", "0", "few", "", "", "", "",
    ]  # fmt: skip
    assert pd.notna(mid.loc["ssept", "difference_lower"])


def test_a_difference_is_of_the_same_users(copy):
    """Twelve users of the head: ten differ by 1/2, one by 1, and one is not in the baseline's file."""
    for run, values in (("ssept", [0.5] * 10 + [1, 1]), ("baseline_ease_recency", [0] * 11)):
        frame = pd.DataFrame({"user": range(len(values)), "by": "popularity", "group": "head", "NDCG@10": values})
        frame.to_parquet(copy.root / "ssept" / run / "groups.parquet")
    row = of_group(copy, "ssept", "head targets").loc["ssept"]
    assert row["difference"] == pytest.approx((10 * 0.5 + 1) / 11)
    assert row["difference_lower"] == 0.5
    assert (row["verdict"], row["against"]) == ("better", "EASE with recency")


def test_findings_name_the_groups(results):
    text = sentences(results, "ssept")
    assert (
        "The first ten items of all lists cover 30.0 % of the catalogue and are on average 10 % more popular than"
        in text
    )
    assert "of EASE with recency, 16.0 % of the catalogue and are on average 24 % more popular than those of" in text
    frame = table(results, "ssept", "groups").frame
    better = frame[(frame["run"] == "ssept") & (frame["verdict"] == "better")]["group"].tolist()
    assert better
    assert f"By groups, in NDCG@10 against EASE with recency: better for {', '.join(better)}" in text


def test_lists_that_are_less_popular_than_the_histories(copy):
    path = copy.root / "ssept/ssept/beyond.json"
    metrics = json.loads(path.read_text())["metrics"]
    change(path, metrics=metrics | {"popularity_lift@10": -0.25})
    assert "on average 25 % less popular than those of the histories" in sentences(copy, "ssept")


def test_results_of_earlier_code_give_a_sentence(copy, written):
    forget(copy, "beyond.json", "groups.parquet")
    old = results_of(copy.root.parents[1])
    assert table(old, "ssept", "groups").frame.empty
    assert rows(old, "ssept", "beyond").loc["ssept"].isna()["coverage@10"]
    text = sentences(old, "ssept")
    assert "How much of the catalogue the lists cover, and how popular their items are: missing." in text
    assert "Where the model gains and where it loses against the best baseline: missing." in text
    page = markdown_of(old, written)
    assert "missing: beyond.json of popularity" in page.replace("baseline\\_popularity", "popularity")
    with style():
        axes = draw(old, "ssept", "groups").axes[0]
    assert [text.get_text() for text in axes.texts] == ["missing"]


def test_without_the_users_values_there_is_no_difference(copy):
    forget(copy, "groups.parquet")
    frame = table(results_of(copy.root.parents[1]), "ssept", "groups").frame
    assert frame["NDCG@10"].notna().any()
    assert "difference" not in frame or frame["difference"].isna().all()


def test_a_baseline_that_was_left_out_has_an_empty_row(copy):
    change(copy.root / "ssept/baseline_ease/beyond.json", metrics={}, groups=[], intervals={})
    assert rows(copy, "ssept", "beyond").loc["baseline_ease"].isna()["coverage@10"]


def test_the_figure_names_groups_and_counts(results):
    with style():
        axes = draw(results, "ssept", "groups").axes[0]
        labels = [text.get_text() for text in axes.get_yticklabels()]
        assert labels[0] == "histories of 20 to 34\n30 users"
        assert labels[-2:] == ["tail targets\n5 users, few", "cold targets\n0 users, few"]
        legend = [text.get_text() for text in axes.get_legend().get_texts()]
        assert legend == ["ssept", "retrained", "EASE with recency"]
        # Three systems in five groups; of the five users of the tail no interval is drawn.
        assert len(axes.containers) == 15
        assert sum(container.has_xerr for container in axes.containers) == 12

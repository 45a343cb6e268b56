"""The values of the tables, and their three views."""

import json

import pandas as pd
import pytest
from synthetic import study as studies

from frugal.errors import FrugalError
from frugal.report.originals.movie_preference import FACTS
from frugal.report.tables import (
    Column,
    Layout,
    Table,
    format_value,
    load,
    save,
    to_html,
    to_latex,
    to_markdown,
)

LAYOUT = Layout(
    "Values in 95 % of cases.",
    (
        Column("name", "Name_of"),
        Column("x", "X", ".2f", interval=True, best="max"),
        Column("n", "N", ",d", best="min"),
        Column("gone", "Gone", optional=True),
    ),
    group="kind",
)


def table() -> Table:
    rows = [
        {"name": "a|b_", "x": 0.5, "x_lower": -0.25, "x_upper": 0.75, "n": 1234, "kind": 1},
        {"name": "c", "x": 0.504, "n": 5000, "kind": 2},
        {"name": "d", "x": 0.1, "kind": 2},
        {"name": "e", "kind": 2},
    ]
    return Table("sample", LAYOUT, pd.DataFrame(rows, columns=["name", "x", "x_lower", "x_upper", "n", "kind", "gone"]))


def test_markdown_view():
    assert to_markdown(table()) == (
        "| Name\\_of | X | N |\n"
        "| --- | ---: | ---: |\n"
        "| a\\|b\\_ | **0.50** \\[\u22120.25, 0.75\\] | **1,234** |\n"
        "| c | **0.50** | 5,000 |\n"  # looks the same as the best: neither is said to be better
        "| d | 0.10 |  |\n"  # does not apply
        "| e | \u2014 | \u2014 |\n"  # missing
    )


def test_spread_and_contests():
    columns = (Column("name", "Name"), Column("x", "X", ".2f", spread=True, best="max"))
    rows = [
        {"name": "a", "x": 0.1, "x_std": 0.012, "size": "s"},
        {"name": "b", "x": 0.2, "x_std": float("nan"), "size": "s"},
        {"name": "c", "x": 0.9, "x_std": 0.0, "size": "l"},  # alone in its size: no contest
    ]
    cells = Table("t", Layout("Words.", columns, contest=("size",)), pd.DataFrame(rows)).rows()
    assert [row[1].value for row in cells] == ["0.10 ± 0.01", "0.20", "0.90 ± 0.00"]
    assert [row[1].best for row in cells] == [False, True, False]


def test_latex_view():
    text = to_latex(table())
    assert "\\begin{tabular}{@{}lrr@{}}\n\\toprule\nName\\_of & X & N \\\\\n\\midrule\n" in text
    assert "a\\textbar{}b\\_ & \\textbf{0.50} {\\scriptsize [$-$0.25, 0.75]} & \\textbf{1,234} \\\\\n" in text
    assert text.count("\\addlinespace") == 1
    assert "e & --- & --- \\\\\n\\bottomrule" in text


def test_intervals_go_below_their_values_where_a_row_is_too_wide():
    columns = (Column("name", "Name"), *(Column(x, x, ".4f", interval=True, best="max") for x in "abcde"))
    bounds = {f"{x}_{end}": 0.25 for x in "abcde" for end in ("lower", "upper")}
    row = {"name": "a"} | dict.fromkeys("abcde", 0.5) | bounds
    wide = Table("wide", Layout("Words.", columns), pd.DataFrame([row]))
    stacked = r"\begin{tabular}[t]{@{}r@{}}0.5000\\{\scriptsize [0.2500, 0.2500]}\end{tabular}"
    assert to_latex(wide).count(stacked) == 5
    assert '<table id="table-wide" class="stacked">' in to_html(wide, "Words")
    narrow = Table("narrow", Layout("Words.", columns[:3]), pd.DataFrame([row]))
    assert "[t]" not in to_latex(narrow)
    assert "stacked" not in to_html(narrow, "Words")


def test_a_spread_has_no_sign():
    columns = (Column("name", "Name"), Column("x", "X", "+.1%", spread=True))
    frame = pd.DataFrame([{"name": "a", "x": 0.022, "x_std": 0.006}])
    assert Table("t", Layout("Words.", columns), frame).rows()[0][1].value == "+2.2 ± 0.6"


def test_a_wide_table_of_one_row_stands_upright():
    columns = (Column("name", "Data_set"), *(Column(x, x.upper(), ".1f", interval=True) for x in "abcdef"))
    row = {"name": "x_y"} | dict.fromkeys("abcde", 0.5) | {"a_lower": 0.25, "a_upper": 0.75}
    frame = pd.DataFrame([row], columns=["name", *"abcdef", "a_lower", "a_upper"])
    upright = Table("one", Layout("Words.", columns), frame)
    assert to_markdown(upright) == (
        "| Data\\_set | x\\_y |\n| --- | --- |\n| A | 0.5 \\[0.2, 0.8\\] |\n"
        "| B | 0.5 |\n| C | 0.5 |\n| D | 0.5 |\n| E | 0.5 |\n| F |  |\n"
    )
    latex = to_latex(upright)
    assert latex.startswith("\\begin{tabular}{@{}ll@{}}\n\\toprule\nData\\_set & x\\_y \\\\\n\\midrule\n")
    assert "\nA & 0.5 {\\scriptsize [0.2, 0.8]} \\\\\n" in latex
    assert latex.endswith("F &  \\\\\n\\bottomrule\n\\end{tabular}\n")
    html = to_html(upright, "Words")
    assert '<table id="table-one" class="upright">' in html
    assert '<tr><th scope="row">Data_set</th><td data-order="x_y">x_y</td></tr>' in html
    assert html.count("<tr>") == 7
    assert "<button" not in html  # nothing to sort
    # With fewer columns, or another row, it lies.
    assert not Table("one", Layout("Words.", columns[:6]), frame).upright
    assert not Table("two", Layout("Words.", columns), pd.concat([frame, frame])).upright


def test_sentences_of_an_upright_table_wrap():
    columns = (Column("why", "Why", wraps=0.2), *(Column(x, x, "any") for x in "abcdef"))
    upright = Table("one", Layout("Words.", columns), pd.DataFrame([{"why": "so", **dict.fromkeys("abcdef", 1)}]))
    assert to_latex(upright).startswith("\\begin{tabular}{@{}l>{\\raggedright\\arraybackslash}p{0.6\\linewidth}@{}}\n")
    assert '<td class="wraps" data-order="so">so</td>' in to_html(upright, "Words")


def test_a_column_that_varies_is_shown_where_it_does():
    layout = Layout("Words.", (Column("name", "Name"), Column("device", "Device", varying=True)))
    rows = [{"name": "a", "device": "x"}, {"name": "b", "device": "x"}]
    assert [column.name for column in Table("t", layout, pd.DataFrame(rows)).columns] == ["name"]
    rows[1]["device"] = "y"
    assert [column.name for column in Table("t", layout, pd.DataFrame(rows)).columns] == ["name", "device"]


def test_html_view():
    text = to_html(table(), "<b>Table 1.</b> Words")
    assert '<th scope="row" data-order="a|b_">a|b_</th>' in text
    assert '<td class="number best" data-order="1234.0"><strong>1,234</strong></td>' in text
    assert '<td class="number">\u2014</td>' in text
    assert '<tr class="group">' in text
    assert "<caption" in text


def test_sentences_wrap_and_a_long_table_breaks_over_pages():
    columns = (Column("by", "By which, or why", wraps=0.2), Column("x", "X", "any"))
    row = {"by": "see results/a_b & <c>", "x": 7}
    long = Table("long", Layout("100 % of words.", columns, long=True), pd.DataFrame([row]))
    latex = to_latex(long)
    assert latex.startswith(
        "\\begin{longtable}{@{}>{\\raggedright\\arraybackslash}p{0.2\\linewidth}r@{}}\n"
        "\\caption{100 \\% of words.}\\label{table:long}\\\\\n"
        "\\toprule\nBy which, or why & X \\\\\n\\midrule\n\\endfirsthead\n"
    )
    shown = "see results/\\allowbreak{}a\\_\\allowbreak{}b \\& \\textless{}c\\textgreater{}"
    assert f"{shown} & 7 \\\\\n\\end{{longtable}}" in latex
    assert latex.count("\\bottomrule\n\\endfoot") == 1
    html = to_html(long, "Words")
    assert '<th scope="col" class="wraps" style="min-width:9.0rem" aria-sort="none">' in html
    assert "see results/<wbr>a_<wbr>b &amp; &lt;c&gt;</th>" in html


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (0.0004, "p", "<0.001"),
        (0.0316, "p", "0.032"),
        (0.035039, ".3%", "3.504"),
        (4884480, ",d", "4,884,480"),
        (8_030_261_248.0, "any", "8,030,261,248"),
        (-2213.8849, "any", "\u22122,213.88"),
        (0.0002, "any", "0.0002"),
        (-0.5, "+.3f", "\u22120.500"),
        (-0.0001, ".3f", "0.000"),
        ("x", "text", "x"),
    ],
)
def test_format(value, form, shown):
    assert format_value(value, form) == shown


def test_a_table_is_read_back_as_it_was_saved(tmp_path):
    save(table(), tmp_path, [])
    again = load("sample", LAYOUT, tmp_path)
    assert to_markdown(again) == to_markdown(table())
    assert load("other", LAYOUT, tmp_path) is None


def test_a_foreign_csv_is_refused(tmp_path):
    (tmp_path / "sample.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FrugalError, match=r"sample\.csv: has no column name, x, n, gone; run `snakemake tables`"):
        load("sample", LAYOUT, tmp_path)


@pytest.mark.parametrize("experiment", studies.EXPERIMENTS)
def test_every_part_has_its_layout_its_builder_and_its_drawing(empty, experiment):
    one = empty.experiments[experiment]
    assert set(one.tables) <= one.section.LAYOUTS.keys() == one.section.BUILDERS.keys()
    assert set(one.figures) <= one.section.DRAWINGS.keys()


def test_every_layout_and_drawing_is_used(empty):
    for kind in {one.kind.name for one in empty.experiments.values()}:
        ones = [one for one in empty.experiments.values() if one.kind.name == kind]
        assert {part for one in ones for part in one.tables} == ones[0].section.LAYOUTS.keys()
        assert {part for one in ones for part in one.figures} == ones[0].section.DRAWINGS.keys()


def test_accuracy_is_what_metrics_json_says(study, results):
    frame = studies.table(results, "movie_preference", "accuracy").frame
    assert frame["system"].tolist()[4:] == ["untuned model", "tuned", "always_a", "next_film"]
    record = json.loads((study / "results/trial/movie_preference/tuned/metrics.json").read_text())
    row = frame[frame["run"] == "tuned"].iloc[0]
    assert row["accuracy_hard"] == record["metrics"]["accuracy_hard"]
    assert [row["accuracy_lower"], row["accuracy_upper"]] == record["intervals"]["accuracy"]


def test_training_and_data_by_hand(study, results):
    training = studies.table(results, "movie_preference", "training")
    assert [cell.value for cell in training.rows()[0]] == [
        "tuned", "80", "640", "91,234", "5.21", "292", "down_proj: 15 of 30; q_proj, v_proj: 30 of 30",
        "4,884,480", "3.504", "2,346", "21.4", "0.412"
    ]  # fmt: skip
    data = studies.table(results, "movie_preference", "data")
    assert [cell.value for cell in data.rows()[0]] == [
        "movielens-100k", "943", "1,682", "99,990", "10", "6.30", "44.0", "25.0", "random (seed 0)", "640",
        "80", "80", "40", "12", "3"
    ]  # fmt: skip


def test_shortcut_by_hand(study, results):
    frame = studies.table(results, "movie_preference", "shortcut").frame
    assert frame["run"].tolist() == ["base", "tuned", "always_a"]  # next_film has no options
    row = frame[frame["run"] == "always_a"].iloc[0]
    # A bias of 4 against a taste of one standard deviation: A nearly always, right half of the time.
    assert row["accuracy_liked_first"] == pytest.approx(1, abs=0.01)
    assert row["gap"] == pytest.approx(row["accuracy_liked_first"] - row["accuracy"])


def test_tests_compare_the_trained_model_with_every_other(study, results):
    frame = studies.table(results, "movie_preference", "tests").frame
    assert len(frame) == 7 * 3
    row = frame[(frame["run"] == "baseline_always_a") & (frame["kind"] == "all")].iloc[0]
    tuned = json.loads((study / "results/trial/movie_preference/tuned/metrics.json").read_text())
    assert row["difference"] == pytest.approx(tuned["metrics"]["accuracy"] - 0.5)
    assert (frame["p_holm"] >= frame["p"]).all()


def test_invalid_answers_have_wilsons_interval(results):
    """One of four answers answers nothing: (1/4 + z²/8 -+ z sqrt(3/64 + z²/64)) / (1 + z²/4) with z = 1.96."""
    frame = studies.table(results, "movie_preference", "calibration").frame.set_index("run")
    bounds = frame.loc["tuned", ["invalid_answer_rate_lower", "invalid_answer_rate_upper"]].tolist()
    assert bounds == pytest.approx([0.0456, 0.6994], abs=5e-5)
    assert frame.loc["baseline_ease", ["invalid_answer_rate_lower", "invalid_answer_rate_upper"]].isna().all()


def test_the_original_by_arithmetic():
    assert FACTS.trainable_computed == 41_943_040
    assert FACTS.steps_computed == 755
    assert FACTS.adapter_mb_computed(2) == pytest.approx(83.886, abs=0.001)

"""Every number of every table of the synthetic study's report is traced back to its file."""

import re
import shutil

import pandas as pd
import pytest
from tracing import study as studies
from tracing import trace

from frugal.report.contents import CLAIMS_TABLES, STUDY_TABLES
from frugal.report.results import Results


@pytest.fixture(scope="module")
def traced(study, written):
    return studies.Study(study / "results" / "trial", study / "data")


@pytest.fixture(scope="module")
def layouts(study, written):
    return trace.headings(Results.read(study / "results/trial/study.yaml", study / "data"))


def test_every_number_comes_from_a_file(traced, written):
    faults, number = trace.faults(written, traced)
    assert faults == []
    assert number > 2000
    entries = traced.described["experiments"]
    expected = {f"{name}_{part}" for name, entry in entries.items() for part in entry["tables"]}
    expected |= {*STUDY_TABLES, *CLAIMS_TABLES}
    assert {path.stem for path in (written / "tables").glob("*.csv")} == expected | {
        "across_ssept",
        "across_wikitext",
    }


def test_what_is_shown_is_what_the_files_say_in_every_format(written, layouts):
    faults, number = trace.shown_faults(written, layouts)
    assert faults == []
    assert number > 1500


@pytest.fixture
def report(written, tmp_path):
    """The report where its files may be changed."""
    shutil.copytree(written, tmp_path / "report")
    return tmp_path / "report"


@pytest.mark.parametrize(
    ("table", "column", "row"),
    [
        ("movie_preference_accuracy", "accuracy_upper", 5),
        ("movie_preference_tests", "difference", 0),
        ("movie_preference_tests", "difference_lower", 0),
        ("movie_preference_calibration", "invalid_answer_rate_upper", 5),
        ("ssept_tests", "p", 0),
        ("ssept_tests", "effect", 0),
        ("bert4rec_ranking", "NDCG@10_std", 6),
        ("bert4rec_scaling", "p_holm", 1),
        ("wikitext_tests", "ratio_lower", 0),
        ("climate_ladder", "deviation", 0),
        ("efficiency", "per_second", 0),
        ("across_wikitext", "minutes", 3),
        ("claims", "value", 0),
    ],
)
def test_a_changed_number_is_found(traced, report, table, column, row):
    path = report / "tables" / f"{table}.csv"
    frame = pd.read_csv(path, lineterminator="\n")
    value = frame.loc[row, column]
    frame.loc[row, column] = value * 1.5 if value > 0.02 or value < 0 else value + 0.1
    frame.to_csv(path, index=False)
    faults, _ = trace.faults(report, traced, table)
    assert any(f", {column}: " in fault for fault in faults)


def test_a_changed_verdict_is_found(traced, report):
    path = report / "tables" / "ssept_tests.csv"
    path.write_text(path.read_text().replace(",better,", ",worse,"))
    assert any("verdict" in fault for fault in trace.faults(report, traced, "ssept_tests")[0])


def test_a_column_or_a_table_without_a_source_is_found(traced, report):
    path = report / "tables" / "ssept_tests.csv"
    frame = pd.read_csv(path).assign(invented=1.0)
    frame.to_csv(path, index=False)
    with pytest.raises(AssertionError, match="the column invented has no source"):
        trace.faults(report, traced, "ssept_tests")
    frame.to_csv(report / "tables" / "invented.csv", index=False)
    with pytest.raises(AssertionError, match="the table invented has no sources"):
        trace.faults(report, traced, "invented")


@pytest.mark.parametrize("form", ["md", "tex"])
def test_a_wrong_digit_in_one_format_is_found(report, layouts, form):
    path = report / "tables" / f"movie_preference_accuracy.{form}"
    text = path.read_text()
    digits = re.search(r"0\.\d{3}", text).group(0)
    path.write_text(text.replace(digits, digits[:-1] + str((int(digits[-1]) + 1) % 10), 1))
    assert trace.shown_faults(report, layouts)[0] != []

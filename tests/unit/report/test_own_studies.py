"""The report of studies with other experiments than the originals: any number of each kind, with any names."""

import re

import pandas as pd
import pytest
from synthetic.study import TEXTS, make_study, markdown_of, settings, write_report_of
from synthetic.study import results_of as read
from tracing import study as studies
from tracing import trace

from frugal.report.contents import FIGURE_FORMATS, TABLE_FORMATS

BOOKS = {
    "kind": "recommendation", "title": "What to read next", "dataset": "books", "seeds": [1, 2],
    "variants": {"sasrec": {}, "wide": {"model": {"hidden_size": 128}}},
}  # fmt: skip
SHOP = {
    "kind": "recommendation", "title": "What to buy next", "dataset": "shop", "seeds": [1],
    "evaluation": {"cutoffs": [10], "sampled_negatives": None}, "data": {"split": "global_time"},
}  # fmt: skip
TASTE = {"kind": "preference", "title": "Which book", "dataset": "books", "base_model": "smollm2-135m-instruct"}
POEMS = {"kind": "language_modeling", "title": "Poems", "dataset": "poems", "base_model": "smollm2-135m-instruct"}
POEMS |= TEXTS | {"rating": {"sheets": []}}
ORIGINALS = re.compile(
    r"the original|write-up|claim|movielens|MovieLens|BERT4Rec|SSE-PT|WikiText|climate", re.IGNORECASE
)


def report_of(root, **experiments):
    """The results of a study and its report."""
    config = settings(**experiments)
    make_study(root, config)
    results = read(root, config)
    return results, write_report_of(results, results.root / "report")


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """A study of one experiment on recommendation."""
    return report_of(tmp_path_factory.mktemp("books"), books=BOOKS)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A study of two experiments on recommendation, on two data sets, one of which reproduces an original."""
    return report_of(tmp_path_factory.mktemp("two"), books=BOOKS, shop=SHOP | {"reproduces": "bert4rec"})


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    """A study of one experiment of each kind."""
    return report_of(tmp_path_factory.mktemp("each"), my_taste=TASTE, books=BOOKS, **{"poems-2": POEMS})


def test_one_experiment_has_its_tables_and_figures_under_its_name(books):
    results, report = books
    tables = ["data", "ranking", "cutoffs", "tests", "sampled", "beyond", "groups", "scaling", "training", "provenance"]
    assert results.experiments["books"].tables == tables
    names = {f"books_{part}" for part in tables} | {"efficiency", "machines"}
    files = {f"{name}.{form}" for name in names for form in TABLE_FORMATS}
    assert {path.name for path in (report / "tables").iterdir()} == files
    drawn = ("ranking", "convergence", "groups", "scaling")
    figures = {f"books_{part}.{form}" for part in drawn for form in FIGURE_FORMATS}
    assert {path.name for path in (report / "figures").iterdir()} == figures
    text = (report / "report.md").read_text()
    assert "## What to read next" in text
    assert "Does a SASRec rank better than simple methods on the same data? What does a larger one give?" in text
    assert "In 1 experiment, 4 trainings took" in text
    assert "make it with" not in text


@pytest.mark.parametrize("study", ["books", "each"])
def test_without_reproduces_nothing_is_said_of_any_original(study, request):
    _, report = request.getfixturevalue(study)
    for form in ("md", "html", "tex"):
        text = (report / f"report.{form}").read_text()
        text = re.sub(r"<style>.*?</style>|<script>.*?</script>|data:text/csv;base64,[^\"]*", "", text, flags=re.DOTALL)
        assert "Threats to validity" in text
        assert ORIGINALS.findall(text) == []
    assert "original" not in pd.read_csv(report / "tables/machines.csv")["study"].tolist()
    assert not list((report / "tables").glob("claims*"))


def test_two_experiments_of_a_kind_stand_apart(two):
    results, report = two
    text = (report / "report.md").read_text()
    places = [text.index(f"\n## {title}\n") for title in ("What to read next", "What to buy next", "Efficiency")]
    assert places == sorted(places)
    data = {name: pd.read_csv(report / f"tables/{name}_data.csv")["dataset"].tolist() for name in ("books", "shop")}
    assert data == {"books": ["books"], "shop": ["shop"]}
    # Only what one of them asks for is there: cut-offs, sampled metrics, sizes.
    assert set(results.experiments["books"].tables) - set(results.experiments["shop"].tables) == {
        "cutoffs", "sampled", "scaling",
    }  # fmt: skip
    efficiency = pd.read_csv(report / "tables/efficiency.csv")
    assert efficiency["experiment"].tolist() == ["What to read next"] * 2 + ["What to buy next"]


def test_what_is_said_of_an_original_stands_in_the_experiment_that_reproduces_it(two):
    _, report = two
    books, shop = (report / "report.md").read_text().split("## What to buy next")[:2]
    assert "What differs from the original" not in books
    assert "What differs from the original" in shop
    ledger = pd.read_parquet(report / "tables/claims.parquet").set_index("id")
    assert ledger["original"].nunique() == 5
    unmeasured = ledger[(ledger["original"] != "bert4rec") & (ledger["verdict"] == "not measured yet")]
    assert unmeasured["by"].str.startswith("snakemake --configfile config/full.yaml -- ").all()
    machines = pd.read_csv(report / "tables/machines.csv")
    assert machines[machines["study"] == "original"]["experiments"].tolist() == ["What to buy next"]


def test_experiments_with_the_same_title_are_both_there(tmp_path):
    config = settings(books=BOOKS, shop=SHOP | {"title": BOOKS["title"]})
    results = read(tmp_path, config)
    text = markdown_of(results, tmp_path)
    assert text.count("- **What to read next.** How well the principal model ranks is missing.") == 2
    assert text.count("\n## What to read next\n") == 2


def test_one_experiment_of_each_kind(each):
    results, report = each
    text = (report / "report.md").read_text()
    for experiment in results.experiments.values():
        assert f"## {experiment.title}" in text
        assert f"### {experiment.title}" in text
        for part in experiment.figures:
            assert f"figures/{experiment.name}_{part}.svg" in text
    assert "Nobody has rated the answers yet." in text
    assert "In 3 experiments," in text
    assert "make it with" not in text


@pytest.mark.parametrize("study", ["books", "two", "each"])
def test_every_number_comes_from_a_file_and_is_shown_in_every_format(study, request):
    results, report = request.getfixturevalue(study)
    traced = studies.Study(results.root, results.data)
    faults, number = trace.faults(report, traced)
    assert faults == []
    assert number > 200
    faults, number = trace.shown_faults(report, trace.headings(results))
    assert faults == []
    assert number > 200

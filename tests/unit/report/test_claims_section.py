"""The section on the claims ledger, from synthetic claims and results, in every format."""

import json
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml
from synthetic import HOSTILE
from synthetic.study import results_of, settings

from frugal.claims.ledger import COLUMNS, load_claims, make_ledger
from frugal.report.claims import LAYOUTS, build, sentences
from frugal.report.contents import CLAIMS_FILE, CLAIMS_TABLES, REPORT_FORMATS, TABLE_FORMATS
from frugal.report.render import write_report
from frugal.report.results import Results

NEAR = {"relative": 0.1}
PERPLEXITY = {"variant": "tuned", "key": "metrics.perplexity"}


def doubled(value: float, answer: float) -> dict:
    """A claim that a computation answers."""
    arguments = {"before": 0, "after": answer}
    return {"value": value, "tolerance": NEAR, "analytic": "difference", "arguments": arguments}


def stated(hostile: str) -> dict:
    """Two reproduced, one that differs, two refuted, one not comparable and one not measured; one was left blank."""
    wikitext = {
        "right": doubled(8.0e9, 8_030_261_248.0),
        "wrong": doubled(8, 41.94304),
        "measured": {"value": 2213.88, "tolerance": NEAR, "result": PERPLEXITY},
        "hostile": {"value": 0.1, "statement": hostile, "unit": "a|b", "reason": hostile},
    }
    climate = {
        "near": doubled(-0.5, -0.46),
        "impossible": {
            "value": 0.11, "tolerance": {"absolute": 0}, "analytic": "ndcg_bounds", "arguments": {"hit_rate": 0.1},
        },
        "blank": {
            "value": None,
            "result": PERPLEXITY | {"comparable": False, "why": "Left blank"},
        },
    }  # fmt: skip
    return {
        original: {name: {"statement": f"It is {name}", "unit": "points"} | one for name, one in named.items()}
        for original, named in (("wikitext", wikitext), ("climate", climate))
    }


@pytest.fixture
def folder(tmp_path):
    """A folder of claims, and of results of one run."""
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(stated(HOSTILE), sort_keys=False), encoding="utf-8")
    tuned = tmp_path / "results/trial/wikitext/tuned"
    tuned.mkdir(parents=True)
    (tuned / "metrics.json").write_text(json.dumps({"metrics": {"perplexity": 19.5}}), encoding="utf-8")
    return tmp_path


def results_in(folder) -> Results:
    """A study that has no results but those of the ledger."""
    return results_of(folder, settings("wikitext"))


def ledger_of(folder) -> pd.DataFrame:
    results = results_in(folder)
    return make_ledger(load_claims(folder / "claims.yaml"), results.root, results.described)


def report(folder, output):
    write_report(results_in(folder), output, ledger_of(folder))
    return output


def test_every_listed_table_has_a_layout():
    assert tuple(LAYOUTS) == CLAIMS_TABLES


def test_verdicts_are_counted_by_source(folder):
    table = build(ledger_of(folder))["claims_verdicts"]
    shown = [[cell.value for cell in row] for row in table.rows()]
    assert [row[0] for row in shown] == ["wikitext", "climate", "all"]
    # reproduced, differs, refuted, not comparable, not measured yet, all
    assert [row[2:] for row in shown] == [
        ["1", "1", "1", "1", "0", "4"],
        ["1", "0", "1", "0", "1", "3"],
        ["2", "1", "2", "1", "1", "7"],
    ]
    assert shown[1][1] == "Programming Assignment 1: LLM Fine-Tuning Report"
    assert table.group_starts() == [False, False, True]


def test_one_row_a_claim(folder):
    table = build(ledger_of(folder))["claims"]
    rows = {claim: [cell.value for cell in row] for claim, row in zip(table.frame["id"], table.rows(), strict=True)}
    assert rows["wikitext.right"] == [
        "It is right", "8,000,000,000", "points", "8,030,261,248", "reproduced", "difference", "wikitext"
    ]  # fmt: skip
    assert rows["wikitext.wrong"][3:5] == ["41.943", "refuted"]
    measured = rows["wikitext.measured"]
    assert measured[1:5] == ["2,213.88", "points", "19.5", "differs"]
    assert measured[5].endswith("results/trial/wikitext/tuned/metrics.json: metrics.perplexity")
    assert rows["climate.near"][1:5] == ["−0.5", "points", "−0.46", "reproduced"]
    assert rows["climate.impossible"][3:6] == ["", "refuted", "ndcg_bounds: possible are 0.02891 to 0.1"]
    blank = rows["climate.blank"]
    assert blank[1:5] == ["", "points", "", "not measured yet"]
    assert blank[5].startswith("snakemake --configfile config/full.yaml -- ")
    assert blank[5].endswith("results/full/climate/tuned/metrics.json")


def test_sentences_follow_from_the_counts(folder):
    assert sentences(ledger_of(folder)) == [
        "The 2 original write-ups state 7 findings: 2 are reproduced, 1 differs from what was measured here, "
        "2 are refuted by a computation, 1 is not comparable, and 1 is not measured yet.",
        "Of the 5 that could be judged, 40 % are reproduced.",
    ]
    unjudged = ledger_of(folder).query("verdict == 'not comparable' or verdict == 'not measured yet'")
    assert sentences(unjudged)[1] == "Not one of them could be judged."


def test_the_section_stands_before_the_provenance_in_every_format(written):
    for form in REPORT_FORMATS:
        text = (written / f"report.{form}").read_text()
        heading = {"md": "\n## {}", "html": ">{}</h2>", "tex": "\\section{{{}}}"}[form]
        places = [
            text.index(heading.format(title))
            for title in ("Language model on climate documents", "Free answers", "Claims ledger", "Provenance")
        ]
        assert places == sorted(places)
        assert "The 5 original write-ups state 72 findings: " in text


def test_settings_stand_behind_the_findings(folder, written):
    claims = yaml.safe_load((folder / "claims.yaml").read_text())
    claims["wikitext"]["right"]["finding"] = False
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims, sort_keys=False))
    ledger = ledger_of(folder)
    tables = build(ledger)
    assert tables["claims_settings"].frame["id"].tolist() == ["wikitext.right"]
    assert "wikitext.right" not in tables["claims"].frame["id"].tolist()
    assert tables["claims_verdicts"].frame["all"].tolist() == [3, 3, 6]
    assert "state 6 findings: 1 is reproduced" in sentences(ledger)[0]
    page = (written / "report.html").read_text()
    hidden = page[page.index("<details>") : page.index("</details>")]
    assert 'id="table-claims_settings"' in hidden
    assert 'id="table-claims"' not in hidden


def test_tables_csv_and_parquet_hold_the_ledger(folder):
    ledger, tables = ledger_of(folder), report(folder, folder / "report") / "tables"
    pd.testing.assert_frame_equal(pd.read_parquet(tables / CLAIMS_FILE), ledger)
    csv = pd.read_csv(tables / "claims.csv", lineterminator="\n")
    assert tuple(csv.columns) == COLUMNS
    assert csv["answer"].tolist()[:3] == [8_030_261_248.0, 41.94304, 19.5]
    assert csv["value"].isna().tolist() == [False] * 6 + [True]
    assert pd.read_csv(tables / "claims_verdicts.csv")["refuted"].tolist() == [1, 1, 2]


def test_the_same_claims_give_the_same_bytes(folder):
    first, second = (report(folder, folder / name) / "tables" for name in ("first", "second"))
    names = [CLAIMS_FILE, *(f"{name}.{form}" for name in CLAIMS_TABLES for form in TABLE_FORMATS)]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_without_results_the_commands_are_there(folder):
    (folder / "results/trial/wikitext/tuned/metrics.json").unlink()
    output = report(folder, folder / "report")
    assert "2 are reproduced, 0 differ from what was measured here, 2 are refuted" in (output / "report.md").read_text()
    ledger = pd.read_parquet(output / "tables" / CLAIMS_FILE).set_index("id")
    assert ledger.loc["wikitext.measured", "verdict"] == "not measured yet"
    assert "snakemake --configfile config/full.yaml -- " in (output / "tables/claims.md").read_text()


class Cells(HTMLParser):
    """The texts of a page's table cells, and every element that is in them."""

    def __init__(self, text: str):
        super().__init__()
        self.cells, self.inside, self.elements = [], False, set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("td", "th"):
            self.inside = True
            self.cells.append("")
        elif self.inside:
            self.elements.add(tag)

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_hostile_claims_are_only_text(folder):
    output = report(folder, folder / "report")
    line = " ".join(HOSTILE.split())[:-2]
    page = Cells((output / "report.html").read_text())
    # As the statement, and as the reason.
    assert sum(cell.startswith(line) for cell in page.cells) == 2
    assert "b" not in page.elements
    markdown = (output / "tables/claims.md").read_text()
    assert "| a\\|b |" in markdown
    assert markdown.count("\\<b\\>x\\</b\\>") == 2
    for name in ("claims",):
        latex = (output / f"tables/{name}.tex").read_text()
        assert "\\textless{}b\\textgreater{}x" in latex
        assert "\\$\\%\\&\\_\\#\\{\\}" in latex
        assert "<b>" not in latex

"""Rating sheets: blind, and read back with every fault named."""

import csv
import io
import json

import pytest

from frugal.errors import FrugalError
from frugal.files import write_json
from frugal.llm.rating.sheet import (
    COLUMNS,
    CRITERIA,
    make_items,
    printable,
    read_sheet,
    sheet_csv,
    sheet_html,
    sheet_key,
    summarise_ratings,
)

ANSWERS = {
    run: [{"prompt": f"Prompt {n}", "answer": f"{text} {n}"} for n in range(1, 13)]
    for run, text in (("base", "First"), ("tuned", "Second"))
}


@pytest.fixture
def items():
    return make_items({run: rows[:2] for run, rows in ANSWERS.items()}, seed=1)


@pytest.fixture
def fill(tmp_path, items):
    """Write a filled sheet: (run, prompt) to fluency, relevance and correctness."""
    write_json(tmp_path / "key.json", sheet_key(items))

    def write(name, values, change=lambda rows: rows, delimiter=","):
        rows = list(csv.DictReader(io.StringIO(sheet_csv(items).removeprefix("\ufeff"))))
        for row, item in zip(rows, items, strict=True):
            row.update(zip(CRITERIA, map(str, values[item["run"], item["number"]]), strict=True))
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(change(rows))
        (tmp_path / name).write_text(stream.getvalue(), encoding="utf-8")
        return tmp_path / name

    return write


GOOD = {("base", 1): (2, 3, 1), ("tuned", 1): (4, 3, 1), ("base", 2): (5, 4, 3), ("tuned", 2): (4, 5, 3)}


def test_each_prompt_has_its_two_answers_in_a_drawn_order():
    items = make_items(ANSWERS, seed=1)
    assert [item["number"] for item in items] == [n for n in range(1, 13) for _ in range(2)]
    pairs = [{items[n]["run"], items[n + 1]["run"]} for n in range(0, 24, 2)]
    assert pairs == [{"base", "tuned"}] * 12
    first = [item["run"] for item in items[::2]]
    assert {"base", "tuned"} == set(first)
    assert make_items(ANSWERS, seed=1) == items
    assert [item["run"] for item in make_items(ANSWERS, seed=2)[::2]] != first


def test_nothing_on_the_sheets_tells_the_run(items):
    blind = [{**item, "answer": "Same.", "prompt": "Same?"} for item in items]
    for text in (sheet_csv(blind), sheet_html(blind, "Sheet")):
        assert not {"base", "tuned"} & set(text.lower().replace('"', " ").replace(",", " ").split())
    assert len({item["item"] for item in items}) == len(items)


def test_new_answers_make_new_items(items):
    changed = {run: [{**row, "answer": row["answer"] + "!"} for row in rows[:2]] for run, rows in ANSWERS.items()}
    again = make_items(changed, seed=1)
    assert not {item["item"] for item in items} & {item["item"] for item in again}


def test_csv_holds_texts_as_they_are():
    answer = 'A "quoted", two-line\nanswer; with <b>'
    items = make_items({run: [{"prompt": "P\u00e9", "answer": answer}] for run in ("base", "tuned")}, seed=1)
    rows = list(csv.DictReader(io.StringIO(sheet_csv(items).removeprefix("\ufeff"), newline="")))
    assert [row["answer"] for row in rows] == [answer] * 2
    assert list(rows[0]) == COLUMNS
    assert {rows[0][name] for name in (*CRITERIA, "comment")} == {""}


def test_html_escapes_what_a_model_has_written():
    answer = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    items = make_items({run: [{"prompt": "</p><script>", "answer": answer}] for run in ("base", "tuned")}, seed=1)
    page = sheet_html(items, "<Sheet>")
    assert page.count("<script>") == page.count("</script>") == 1  # the page's own
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<title>&lt;Sheet&gt;</title>" in page
    assert "http://" not in page
    assert "https://" not in page


def test_control_characters_become_visible():
    assert printable("a\x00b\x1b\r\nc\td\x7f") == "a\ufffdb\ufffd\ufffd\nc\td\ufffd"


def test_ratings_by_hand(fill, tmp_path):
    other = GOOD | {("tuned", 2): (5, 5, 5)}
    result = summarise_ratings([fill("a.csv", GOOD), fill("b.csv", other, delimiter=";")], tmp_path / "key.json")
    assert (result["raters"], result["items"]) == (2, 4)
    # base: fluency 2 and 5, from both raters; tuned: 4 and 4, 4 and 5.
    assert result["means"]["base"]["fluency"] == 3.5
    assert result["means"]["tuned"]["fluency"] == 4.25
    # tuned correctness: 1, 3, 1, 5.
    assert result["means"]["tuned"]["correctness"] == 2.5
    assert result["means"]["base"]["overall"] == 3.0
    assert result["n"]["base"] == {"fluency": 4, "relevance": 4, "correctness": 4, "overall": 4}
    # Fluency, tuned against base: 4 > 2, 4 < 5, 4 > 2, 5 = 5. Relevance: =, >, =, >. Correctness: =, =, =, >.
    # Sums: 8 > 6, 12 = 12, 8 > 6, 15 > 12.
    assert result["win_rate"] == {"fluency": 0.625, "relevance": 0.75, "correctness": 0.625, "overall": 0.875}
    # The raters gave the same relevance to all four items.
    assert result["alpha"]["relevance"] == 1
    assert result["alpha"]["fluency"] < 1
    assert result["note"] is None


def test_one_rater_has_no_agreement(fill, tmp_path):
    result = summarise_ratings([fill("a.csv", GOOD)], tmp_path / "key.json")
    assert result["alpha"] == {"fluency": None, "relevance": None, "correctness": None}
    assert result["note"] == "One rater only: agreement needs two."


def test_ratings_that_are_all_the_same_have_no_agreement(fill, tmp_path):
    same = {pair: (values[0], 4, values[2]) for pair, values in GOOD.items()}
    result = summarise_ratings([fill("a.csv", same), fill("b.csv", same)], tmp_path / "key.json")
    assert result["alpha"] == {"fluency": 1, "relevance": None, "correctness": 1}
    assert result["note"] == "All ratings of relevance are the same: agreement beyond chance is not defined."


def set_value(column, value):
    return lambda rows: [{**rows[0], column: value}, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_value("fluency", ""), "line 2, item '[0-9a-f]{8}': fluency is empty"),
        (set_value("relevance", "6"), "line 2, item '[0-9a-f]{8}': relevance is '6'; write 1, 2, 3, 4 or 5"),
        (set_value("correctness", "4.5"), "correctness is '4.5'"),
        (set_value("item", "other"), "line 2, item 'other': is not on this sheet"),
        (lambda rows: rows[1:], r"item '[0-9a-f]{8}' is missing \(1 in all\)"),
        (lambda rows: [*rows, rows[0]], "line 6, item '[0-9a-f]{8}': is there twice"),
    ],
)
def test_faults_are_named(fill, items, change, message):
    path = fill("filled.csv", GOOD, change)
    with pytest.raises(FrugalError, match=rf"filled\.csv.*{message}"):
        read_sheet(path, sheet_key(items))


def test_empty_lines_are_skipped(fill, items):
    path = fill("filled.csv", GOOD, lambda rows: [*rows, dict.fromkeys(COLUMNS, "")])
    assert len(read_sheet(path, sheet_key(items))) == 4


def test_files_that_are_no_sheets_are_named(fill, items, tmp_path):
    (tmp_path / "latin.csv").write_bytes("item,fluency\nx,\u00e9".encode("latin-1"))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    key = tmp_path / "key.json"
    good = fill("a.csv", GOOD)
    for paths, message in (
        ([tmp_path / "latin.csv"], r"latin\.csv: cannot be read"),
        ([tmp_path / "other.csv"], r"other\.csv: has no column 'item'"),
        ([tmp_path / "absent.csv"], r"absent\.csv: cannot be read"),
        ([good, good], "the same file is named twice"),
        ([], "no filled sheet is named"),
    ):
        with pytest.raises(FrugalError, match=message):
            summarise_ratings(paths, key)
    with pytest.raises(FrugalError, match=r"absent\.json: cannot be read"):
        summarise_ratings([good], tmp_path / "absent.json")


def test_runs_that_answered_other_prompts_are_refused():
    other = {"base": ANSWERS["base"][:2], "tuned": ANSWERS["tuned"][1:3]}
    with pytest.raises(FrugalError, match="different prompts"):
        make_items(other, seed=1)
    with pytest.raises(FrugalError, match=r"prompts\.texts is empty"):
        make_items({"base": [], "tuned": []}, seed=1)


def test_the_key_holds_the_run_and_the_prompt(items):
    key = json.loads(json.dumps(sheet_key(items)))
    assert sorted((entry["run"], entry["prompt"]) for entry in key.values()) == sorted(GOOD)

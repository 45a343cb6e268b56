"""The sections on plain text as they are read: answers, ratings, what is missing, and no blank anywhere."""

import ast
import json
import re
import shutil

import pandas as pd
import pytest
import yaml
from synthetic import HOSTILE
from synthetic.study import reconfigure, results_of, sentences, settings, tables_of, write_report_of

from frugal.config.registry import DatasetEntry, load_entry
from frugal.report.contents import LADDER, REPORT_FORMATS
from frugal.report.figures import style
from frugal.report.model_card import model_card
from frugal.report.originals import climate, wikitext
from frugal.report.results import Results

#: What a blank looks like: the original's own, other placeholders, and values that Python prints for nothing.
PLACEHOLDER = re.compile(r"\[?FILL[ _]IN|\b(TODO|TBD|FIXME|None|NaN|nan|N/A)\b|\bXX+\b|___|\[\.\.\.\]|\?\?\?|\[\s*\]")


def without(part: str) -> dict:
    """The settings of the two experiments, without what asks for a part of the report."""
    config = settings("wikitext", "climate")
    for entry in config["experiments"].values():
        entry.pop(part, None)
    return config


@pytest.fixture
def results(texts) -> Results:
    return results_of(texts, settings("wikitext", "climate"))


@pytest.fixture
def copy(texts, tmp_path) -> Results:
    """The same study where files may be changed."""
    shutil.copytree(texts, tmp_path, dirs_exist_ok=True)
    return results_of(tmp_path, settings("wikitext", "climate"))


@pytest.fixture(scope="module")
def complete(texts, tmp_path_factory):
    """The report of a study that has all its results."""
    return write_report_of(results_of(texts, settings("wikitext", "climate")), tmp_path_factory.mktemp("report"))


def blanks_of(results: Results) -> dict[str, str]:
    return climate.blanks(results.experiments["climate"], tables_of(results, "climate"))


def test_answers_are_whole_in_the_csv_and_side_by_side_in_the_page(complete):
    frame = pd.read_csv(complete / "tables" / "wikitext_prompts.csv")
    assert frame["prompt"].tolist() == ["The sea is", "Ice melts when"]
    assert frame["tuned_text"].iloc[1] == f"tuned {HOSTILE}"
    assert len(frame["tuned"].iloc[1]) <= 42
    page = (complete / "report.html").read_text()
    assert "<p><b>untuned model:</b> base and so on</p><p><b>tuned:</b> tuned and so on</p>" in page
    assert "<b>x</b>" not in page
    assert "- **tuned:** tuned and so on" in (complete / "report.md").read_text()


def test_nobody_has_rated_is_said_with_the_sheet(copy, tmp_path):
    config = settings("climate", wikitext=without("rating")["experiments"]["wikitext"])
    unrated = results_of(tmp_path, config)
    assert "ratings" not in unrated.experiments["wikitext"].tables
    text = (write_report_of(unrated, tmp_path / "report") / "report.md").read_text()
    sheet = f"{unrated.root}/wikitext/rating/sheet.html"
    assert f"Nobody has rated the answers yet. The blind sheet is `{sheet}`" in text
    assert "`experiments.wikitext.rating.sheets`" in text
    assert text.count("Nobody has rated the answers yet") == 1  # those of climate are rated


def test_anchors_stand_beside_the_same_model_on_the_same_text(copy, tmp_path):
    assert rows_of_anchors(copy)["perplexity"].isna().all()
    reconfigure(copy.root / "wikitext/base/config.yaml", dataset="wikitext-2-raw", base_model="llama-3.2-1b")
    frame = rows_of_anchors(results_of(tmp_path, settings("wikitext", "climate")))
    measured = json.loads((copy.root / "wikitext/base/metrics.json").read_text())["metrics"]["perplexity"]
    assert frame["perplexity"].tolist()[0] == measured
    assert frame["perplexity"].isna().tolist() == [False, True, True]
    assert frame["published"].tolist() == [9.757, 7.817, 6.14]


def rows_of_anchors(results: Results) -> pd.DataFrame:
    return tables_of(results, "wikitext")["anchors"].frame


def test_originals_by_arithmetic():
    # r (inputs + outputs): 8 x (2 x (2048 + 2048) + 2 x (2048 + 512)) x 16 layers
    assert wikitext.FACTS.trainable_computed == wikitext.FACTS.trainable == 1_703_936
    assert wikitext.FACTS.times_published == pytest.approx(226.9, abs=0.01)
    # 8 x (2 x (3072 + 3072) + 2 x (3072 + 1024)) x 28 layers
    assert climate.FACTS.trainable_computed == 4_587_520
    assert climate.FACTS.share_computed == pytest.approx(0.001426, abs=1e-6)


@pytest.mark.parametrize(
    "blank",
    ["[FILL IN AFTER RUNNING]", "TODO", "a TBD b", "GPU: ___", "is nan MB", "None blocks", "[...]", "XX GB", "[ ]"],
)
def test_a_placeholder_is_recognised(blank):
    assert PLACEHOLDER.search(blank)


@pytest.mark.parametrize("form", REPORT_FORMATS)
def test_no_blank_survives_into_a_complete_report(complete, form):
    text = (complete / f"report.{form}").read_text()
    unread = r'"data:text/csv;base64,[^"]*"|<script>.*?</script>|<style>.*?</style>|<svg.*?</svg>'
    text = re.sub(unread, "", text, flags=re.DOTALL)
    assert PLACEHOLDER.search(text) is None
    assert "missing" not in text


def test_no_blank_survives_into_a_complete_table(complete):
    for path in (complete / "tables").glob("*.md"):
        text = path.read_text()
        assert PLACEHOLDER.search(text) is None, path
        assert "\u2014" not in text, path


def test_what_the_original_left_blank_is_filled(results, complete):
    blanks = blanks_of(results)
    assert len(blanks) == 8
    assert all(text.endswith(".") and "missing" not in text for text in blanks.values())
    assert blanks["Gradient accumulation"] == "2 batches a step."
    assert blanks["Effective batch size"] == "8 a step."
    assert "1,500 MB of process memory, on Test CPU @ 2 GHz, 2 cores." in blanks["Memory used"]
    assert "lowered the perplexity by 17." in blanks["Conclusion"]
    text = (complete / "report.md").read_text()
    assert all(f"- **{name}:**" in text for name in blanks)


def test_without_any_result_all_is_missing_and_has_its_command(tmp_path):
    empty = results_of(tmp_path, settings("wikitext", "climate"))
    text = (write_report_of(empty, tmp_path / "report") / "report.md").read_text()
    assert "| tuned | \u2014 | \u2014 |" in text
    for command in ("snakemake wikitext", "snakemake climate", f"snakemake {empty.root}/climate/{LADDER}"):
        assert f"make it with* `{command}`" in text
    for words in ("Whether tuning lowers the perplexity cannot be said", "The paired test of tuned against untuned"):
        assert words in text
    assert PLACEHOLDER.search(text) is None
    for claim in ("Tuning improved", "No overfitting", "lowered the perplexity"):
        assert claim not in text


def test_what_a_run_never_has_is_not_missing(copy):
    assert copy.experiments["climate"].missing(["base/history.csv", "predictions.parquet", "examples.jsonl"]) == []


def test_a_ladder_that_nobody_asked_for_is_not_missing(copy, tmp_path):
    (copy.root / "climate" / LADDER).unlink()
    unasked = results_of(tmp_path, without("ladder"))
    experiment = unasked.experiments["climate"]
    assert experiment.missing([LADDER]) == []
    assert "ladder" not in experiment.tables + experiment.figures
    assert "largest batch" not in sentences(unasked, "climate")
    assert blanks_of(unasked)["Largest batch on the device"].endswith("do not ask for the search.")


def test_figures_draw_what_is_there(results):
    experiment, wiki = results.experiments["climate"], results.experiments["wikitext"]
    with style():
        left, right = experiment.section.DRAWINGS["ladder"].draw(experiment).axes
        assert [text.get_text() for text in left.get_yticklabels()][:2] == ["full", "lora"]
        # A diamond for each rung that was measured; the failed one says so.
        assert sorted(line.get_xdata()[0] for line in left.get_lines()) == [1000, 1500, 2500, 4000]
        assert [text.get_text().strip() for text in left.texts] == ["failed"]
        assert max(patch.get_x() + patch.get_width() for patch in left.patches) == pytest.approx(4400)
        assert right.get_xlabel() == "tokens per second"
        axes = wiki.section.DRAWINGS["loss"].draw(wiki).axes[0]
        assert len(axes.get_lines()) == 6  # two runs: training, validation, best
        assert axes.get_lines()[2].get_xdata()[0] == 40 * 150


def test_figures_without_results_say_missing(tmp_path):
    experiment = results_of(tmp_path, settings("climate")).experiments["climate"]
    with style():
        for part in experiment.figures:
            drawn = experiment.section.DRAWINGS[part].draw(experiment)
            assert {text.get_text() for axes in drawn.axes for text in axes.texts} == {"missing"}


def test_card_of_an_adapter(results):
    run = results.experiments["wikitext"].find("tuned")
    model = load_entry("config/models.yaml", "smollm2-135m-instruct")
    dataset = DatasetEntry.model_construct(title="Synthetic articles", licence="CC BY-SA 4.0", citation="Nobody. 2025.")
    text = model_card("wikitext", run.config, run.record, model, dataset, "tuned")
    _, front, text = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert front["tags"] == ["lora", "language-modeling", "wikitext"]
    assert front["datasets"] == ["wikipedia-sample"]
    assert "Terms of the data: CC BY-SA 4.0." in text
    shown = f"| Perplexity, a token | {run.metrics['perplexity']:.3f} |"
    assert shown in text
    assert "windows of 512 tokens with stride 256, without a BOS token" in text
    assert "18 blocks, 60 steps of 1 x 8" in text
    code = text.split("```python\n")[1].split("```")[0]
    ast.parse(code)
    assert "frugal" not in code
    assert 'PeftModel.from_pretrained(base, "adapter")' in code
    assert "tokenizer('The sea is'" in code

"""The sections on plain text as they are read: answers, ratings, what is missing, and no blank anywhere."""

import ast
import json
import re

import pandas as pd
import pytest
import yaml
from made_up.plain_text import context, reconfigure, render, results_of, sentences

from frugal.config.registry import DatasetEntry, load_entry
from frugal.report.contents import REPORT_FORMATS
from frugal.report.figures import style
from frugal.report.language_models.figures import DRAWINGS
from frugal.report.language_models.originals import ClimateOriginal, WikitextOriginal
from frugal.report.language_models.tables import build
from frugal.report.model_card import model_card
from frugal.report.results import LADDER, RATINGS, Results

#: What a blank looks like: the original's own, other placeholders, and values that Python prints for nothing.
PLACEHOLDER = re.compile(r"\[?FILL[ _]IN|\b(TODO|TBD|FIXME|None|NaN|nan|N/A)\b|\bXX+\b|___|\[\.\.\.\]|\?\?\?|\[\s*\]")


@pytest.fixture
def results(plain_results) -> Results:
    return plain_results


@pytest.fixture
def copy(plain_copy) -> Results:
    """The same study where files may be changed."""
    return plain_copy


@pytest.fixture(scope="module")
def complete(plain, tmp_path_factory):
    """The report of a study that has all its results."""
    return render(results_of(plain), tmp_path_factory.mktemp("report"))


def test_answers_are_whole_in_the_csv_and_side_by_side_in_the_page(results, complete, synthetic):
    frame = pd.read_csv(complete / "tables" / "wikitext_prompts.csv")
    assert frame["prompt"].tolist() == ["The sea is", "Ice melts when"]
    assert frame["tuned_text"].iloc[1] == f"tuned {synthetic.hostile}"
    assert len(frame["tuned"].iloc[1]) <= 42
    page = (complete / "report.html").read_text()
    assert "<p><b>untuned model:</b> base and so on</p><p><b>tuned:</b> tuned and so on</p>" in page
    assert "<b>x</b>" not in page
    assert "- **tuned:** tuned and so on" in (complete / "report.md").read_text()


def test_nobody_has_rated_is_said_with_the_sheet(copy, tmp_path):
    for name in ("base", "tuned", "no_dropout"):
        reconfigure(copy.root / f"wikitext/{name}/config.yaml", "rating", sheets=[])
    (copy.root / "wikitext" / RATINGS).unlink()
    assert copy.missing("wikitext", [RATINGS]) == []
    text = (render(copy, tmp_path / "report") / "report.md").read_text()
    assert f"Nobody has rated the answers yet. The blind sheet is `{copy.root}/wikitext/rating/sheet.html`" in text
    assert text.count("Nobody has rated the answers yet") == 1  # those of climate are rated


def test_ratings_that_are_asked_for_are_missing_until_they_are_read(copy):
    (copy.root / "climate" / RATINGS).unlink()
    (missing,) = copy.missing("climate", [RATINGS])
    assert missing.command == f"snakemake {copy.root}/climate/{RATINGS}"
    assert context(copy, "climate")["rated"] is True


def test_anchors_stand_beside_the_same_model_on_the_same_text(copy, synthetic, tmp_path):
    assert build("wikitext_anchors", copy).frame["perplexity"].isna().all()
    path = copy.root / "wikitext/base/config.yaml"
    settings = yaml.safe_load(path.read_text()) | {"dataset": "wikitext-2-raw", "base_model": "llama-3.2-1b"}
    path.write_text(yaml.safe_dump(settings))
    frame = build("wikitext_anchors", results_of(tmp_path)).frame
    measured = json.loads((copy.root / "wikitext/base/metrics.json").read_text())["metrics"]["perplexity"]
    assert frame["perplexity"].tolist()[0] == measured
    assert frame["perplexity"].isna().tolist() == [False, True, True]
    assert frame["published"].tolist() == [9.757, 7.817, 6.14]


def test_originals_by_arithmetic():
    # r (inputs + outputs): 8 x (2 x (2048 + 2048) + 2 x (2048 + 512)) x 16 layers
    assert WikitextOriginal().trainable_computed == WikitextOriginal().trainable == 1_703_936
    assert WikitextOriginal().times_published == pytest.approx(226.9, abs=0.01)
    # 8 x (2 x (3072 + 3072) + 2 x (3072 + 1024)) x 28 layers
    assert ClimateOriginal().trainable_computed == 4_587_520
    assert ClimateOriginal().share_computed == pytest.approx(0.001426, abs=1e-6)


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
    blanks = context(results, "climate")["blanks"]
    assert len(blanks) == 8
    assert all(text.endswith(".") and "missing" not in text for text in blanks.values())
    assert blanks["Gradient accumulation"] == "2 batches a step."
    assert blanks["Effective batch size"] == "8 a step."
    assert "1,500 MB of process memory, on Test CPU @ 2 GHz, 2 cores." in blanks["Memory used"]
    assert "lowered the perplexity by 17." in blanks["Conclusion"]
    text = (complete / "report.md").read_text()
    assert all(f"- **{name}:**" in text for name in blanks)


def test_without_any_result_all_is_missing_and_has_its_command(synthetic, tmp_path):
    empty = results_of(tmp_path)
    text = (render(empty, tmp_path / "report") / "report.md").read_text()
    assert "| tuned | \u2014 | \u2014 |" in text
    for command in ("snakemake wikitext", "snakemake climate", f"snakemake {empty.root}/climate/{LADDER}"):
        assert f"make it with* `{command}`" in text
    for words in ("Whether tuning lowers the perplexity cannot be said", "The paired test of tuned against untuned"):
        assert words in text
    assert PLACEHOLDER.search(text) is None
    for claim in ("Tuning improved", "No overfitting", "lowered the perplexity"):
        assert claim not in text


def test_missing_files_are_named_with_their_command(copy):
    blocks = copy.data / "blocks" / "trial" / "climate" / "tuned" / "blocks.json"
    blocks.unlink()
    (missing,) = copy.missing("climate", ["blocks.json"])
    assert (missing.what, missing.command) == ("blocks.json of tuned", f"snakemake {blocks}")
    manifest = copy.data / "prepared" / "climate-chapters" / "manifest.parquet"
    manifest.unlink()
    (missing,) = copy.missing("climate", ["manifest.parquet"])
    assert missing.command == f"snakemake {manifest}"
    for name in ("documents.parquet", "answers.jsonl"):
        path = copy.root / "climate" / "base" / name
        path.unlink()
        (missing,) = copy.missing("climate", [name])
        assert missing.command == f"snakemake {path}"
    assert copy.missing("climate", ["base/history.csv", "predictions.parquet", "examples.jsonl"]) == []


def test_a_ladder_that_nobody_asked_for_is_not_missing(copy, synthetic, tmp_path):
    (copy.root / "climate" / LADDER).unlink()
    without = results_of(tmp_path, ladder=[])
    assert without.missing("climate", [LADDER]) == []
    assert "largest batch" not in sentences(without, "climate")
    assert context(without, "climate")["blanks"]["Largest batch on the device"].endswith("do not ask for the search.")
    with style():
        texts = {text.get_text() for axes in DRAWINGS["climate_ladder"].draw(without).axes for text in axes.texts}
    assert texts == {"not asked for"}


def test_figures_draw_what_is_there(results):
    with style():
        left, right = DRAWINGS["climate_ladder"].draw(results).axes
        assert [text.get_text() for text in left.get_yticklabels()][:2] == ["full", "lora"]
        # A diamond for each rung that was measured; the failed one says so.
        assert sorted(line.get_xdata()[0] for line in left.get_lines()) == [1000, 1500, 2500, 4000]
        assert [text.get_text().strip() for text in left.texts] == ["failed"]
        assert max(patch.get_x() + patch.get_width() for patch in left.patches) == pytest.approx(4400)
        assert right.get_xlabel() == "tokens per second"
        axes = DRAWINGS["wikitext_loss"].draw(results).axes[0]
        assert len(axes.get_lines()) == 6  # two runs: training, validation, best
        assert axes.get_lines()[2].get_xdata()[0] == 40 * 150


def test_figures_without_results_say_missing(synthetic, tmp_path):
    empty = results_of(tmp_path)
    with style():
        for drawing in DRAWINGS.values():
            texts = {text.get_text() for axes in drawing.draw(empty).axes for text in axes.texts}
            assert texts == {"missing"}


def test_card_of_an_adapter(results):
    run = results.find("wikitext", "tuned")
    model = load_entry("config/models.yaml", "smollm2-135m-instruct")
    dataset = DatasetEntry.model_construct(title="Made-up articles", licence="CC BY-SA 4.0", citation="Nobody. 2025.")
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

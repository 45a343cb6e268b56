"""The sections on plain text: values by hand, what follows from them, what is missing, and no blank anywhere."""

import ast
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from frugal.claims.ledger import load_claims, make_ledger
from frugal.config.registry import DatasetEntry, load_entry
from frugal.files import write_json
from frugal.report.contents import FIGURES, LANGUAGE_MODELS, REPORT_FORMATS, TABLES
from frugal.report.figures import save as save_figure
from frugal.report.figures import style
from frugal.report.language_models import findings as say
from frugal.report.language_models import section
from frugal.report.language_models.figures import DRAWINGS
from frugal.report.language_models.layouts import LAYOUTS
from frugal.report.language_models.originals import ClimateOriginal, WikitextOriginal
from frugal.report.language_models.tables import build, compare_documents, course
from frugal.report.model_card import model_card
from frugal.report.render import write_report
from frugal.report.results import LADDER, RATINGS, Results
from frugal.report.tables import save

#: What a blank looks like: the original's own, other placeholders, and values that Python prints for nothing.
PLACEHOLDER = re.compile(r"\[?FILL[ _]IN|\b(TODO|TBD|FIXME|None|NaN|nan|N/A)\b|\bXX+\b|___|\[\.\.\.\]|\?\?\?|\[\s*\]")


def results_of(root, synthetic, **changes) -> Results:
    """The experiments on plain text of a study in ``root``."""
    runs = [f"{experiment}/{name}" for experiment, (_, runs) in synthetic.language_models.items() for name in runs]
    return Results(root / "results" / "trial", "trial", runs, root / "data", **{"ladder": ["climate"]} | changes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, synthetic):
    """The root of a study of these experiments alone."""
    root = tmp_path_factory.mktemp("plain")
    synthetic.make_language_models(root)
    return root


@pytest.fixture
def results(plain, synthetic) -> Results:
    return results_of(plain, synthetic)


@pytest.fixture
def copy(plain, synthetic, tmp_path) -> Results:
    """The same study where files may be changed."""
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    return results_of(tmp_path, synthetic)


def render(results: Results, folder):
    """The whole report of a study, as the three scripts make it."""
    for experiment in LANGUAGE_MODELS:
        for name in TABLES[experiment]:
            table = build(name, results)
            save(table, folder / "tables", results.missing(experiment, table.layout.needs))
    with style():
        for name, drawing in DRAWINGS.items():
            save_figure(drawing.draw(results), name, folder / "figures")
    write_report(results, folder, make_ledger(load_claims("config/claims.yaml"), results.root))
    return folder


@pytest.fixture(scope="module")
def complete(plain, synthetic, tmp_path_factory):
    """The report of a study that has all its results."""
    return render(results_of(plain, synthetic), tmp_path_factory.mktemp("report"))


def change(path, **parts) -> None:
    write_json(path, json.loads(path.read_text()) | parts)


def reconfigure(path, section_name: str, **parts) -> None:
    settings = yaml.safe_load(path.read_text())
    settings[section_name] |= parts
    path.write_text(yaml.safe_dump(settings))


def rows(results: Results, name: str) -> pd.DataFrame:
    return build(name, results).frame.set_index("run")


def tables_of(results: Results, experiment: str) -> dict:
    return {name: build(name, results) for name in TABLES[experiment]}


def sentences(results: Results, experiment: str) -> str:
    return " ".join(say.findings(tables_of(results, experiment), experiment, "tuned", experiment in results.ladder))


def context(results: Results, experiment: str) -> dict:
    return section.context(experiment, results, tables_of(results, experiment))


def test_every_listed_table_and_figure_has_its_layout_and_drawing():
    assert set(LAYOUTS) == {name for experiment in LANGUAGE_MODELS for name in TABLES[experiment]}
    assert set(DRAWINGS) == {name for experiment in LANGUAGE_MODELS for name in FIGURES[experiment]}


def test_data_and_manifest_by_hand(results):
    assert [cell.value for cell in build("wikitext_data", results).rows()[0]] == [
        "wikipedia-sample", "12", "3", "1", "9,000", "9, 1, 2", "9,000", "1,860", "18", "512"
    ]  # fmt: skip
    assert context(results, "wikitext")["skipped"] == {"wikipedia-sample": "near-duplicate: 1; encrypted: 2"}
    manifest = build("climate_manifest", results)
    assert [cell.value for cell in manifest.rows()[0]] == ["01.pdf", "Oceans", "4", "0", "5,000", "kept", ""]
    assert manifest.frame["reason"].iloc[2].startswith("broken: </script>")


def test_runs_that_cut_the_corpus_otherwise_are_rows_of_their_own(copy):
    blocks = copy.data / "blocks" / "trial" / "wikitext" / "no_dropout" / "blocks.json"
    change(blocks, blocks={"train": 36})
    frame = build("wikitext_data", copy).frame
    assert frame[["runs", "blocks_train"]].to_numpy().tolist() == [["tuned", 18], ["no_dropout", 36]]


def test_perplexity_and_its_protocol(results):
    frame = rows(results, "wikitext_perplexity")
    assert frame["system"].tolist() == ["untuned model", "tuned", "no_dropout"]
    documents = results.find("wikitext", "tuned").documents
    assert frame.loc["tuned", "perplexity"] == pytest.approx(math.exp(documents["nll"].sum() / 1860))
    shown = frame.loc["tuned", ["text", "context", "stride", "bos", "joined", "tokens"]].tolist()
    assert shown == ["wikipedia-sample, test", 512, 256, "no", "apart", 1860]


def two_documents(first: float, second: float) -> pd.DataFrame:
    return pd.DataFrame({"document": ["a", "b"], "tokens": [1, 3], "nll": [first, second]})


def test_documents_are_resampled_as_ratios_of_sums():
    """Gains of 1 and 0 nats over 1 and 3 tokens: a twice gives 1/1, a and b 1/4, b twice 0/3."""
    found = compare_documents(two_documents(1, 6), two_documents(2, 6).iloc[::-1])
    assert (found.users, found.pairs, found.difference) == (2, 4, 0.25)
    assert (found.lower, found.upper) == (0, 1)
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)  # b twice has probability 1/4
    swapped = compare_documents(two_documents(2, 6), two_documents(1, 6))
    assert swapped.difference == -0.25


def test_other_tokens_are_not_compared():
    first = two_documents(1, 6)
    assert compare_documents(first, first.assign(tokens=[2, 3])) is None
    assert compare_documents(first, first.assign(document=["a", "c"])) is None
    assert compare_documents(first.iloc[:0], first.iloc[:0]) is None


def test_tests_give_the_ratio_of_perplexities(results):
    frame = rows(results, "wikitext_tests")
    assert frame.index.tolist() == ["base", "no_dropout"]
    perplexity = rows(results, "wikitext_perplexity")["perplexity"]
    assert frame.loc["base", "ratio"] == pytest.approx(perplexity["tuned"] / perplexity["base"])
    assert frame.loc["base", "ratio_lower"] == pytest.approx(math.exp(-frame.loc["base", "difference_upper"]))
    assert frame["verdict"].tolist() == ["better", "no difference found"]
    assert (frame["p_holm"] >= frame["p"]).all()


def test_runs_that_score_otherwise_are_not_compared(copy):
    reconfigure(copy.root / "wikitext/no_dropout/config.yaml", "evaluation", stride=512)
    assert rows(copy, "wikitext_tests").index.tolist() == ["base"]
    with style():
        axes = DRAWINGS["wikitext_perplexity"].draw(copy).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["untuned model", "tuned"]
    best = [[cell.best for cell in row][1] for row in build("wikitext_perplexity", copy).rows()]
    assert best == [False, True, False]  # alone in its protocol: no contest


def test_one_test_document_cannot_be_resampled(copy):
    for name in ("base", "tuned"):
        path = copy.root / "climate" / name / "documents.parquet"
        pd.read_parquet(path).head(1).to_parquet(path)
    assert pd.isna(rows(copy, "climate_tests").loc["base", "difference"])
    assert "cannot be tested: there is one test document" in sentences(copy, "climate")
    assert "one test document" in context(copy, "climate")["blanks"]["Conclusion"]


def test_training_by_hand(results):
    assert [cell.value for cell in build("climate_training", results).rows()[0]] == [
        "tuned", "4", "2", "8", "0.0002", "3", "60", "9,000", "2.700", "2.850", "2.907"
    ]  # fmt: skip
    assert [cell.value for cell in build("climate_cost", results).rows()[0]] == [
        "tuned", "Test CPU @ 2 GHz, 2 cores", "1.50", "310", "460,800", "0.3414", "1.9", "1,500", "41.0"
    ]  # fmt: skip


def test_a_gpu_is_named_and_its_memory_stated(copy):
    path = copy.root / "climate/tuned/metrics.json"
    record = json.loads(path.read_text())
    record["training"]["peak_device_mb"] = 7000.0
    record["provenance"]["hardware"]["gpus"] = [{"name": "Test GPU", "memory_mb": 16000}]
    write_json(path, record)
    assert "on Test GPU, with a peak of 7,000 MB of GPU memory" in sentences(copy, "climate")


def history(evaluations: list[float], losses: list[float]) -> pd.DataFrame:
    """Training losses at steps 1, 2, ... and a validation loss behind each."""
    steps = np.arange(1, len(losses) + 1)
    logged = pd.DataFrame({"step": steps, "epoch": steps / 2, "loss": losses})
    return pd.concat([logged, pd.DataFrame({"step": steps, "eval_loss": evaluations})], ignore_index=True)


def test_the_course_of_a_training_by_hand():
    # Best after step 2: the losses of steps 3 and 4 against as many before them, those of steps 1 and 2.
    found = course(history([3.0, 2.0, 2.5, 2.4], [4.0, 3.0, 2.0, 1.0]))
    assert found == {
        "epochs": 2.0, "validations": 4, "best_eval_loss": 2.0, "final_eval_loss": 2.4, "loss_before": 3.5,
        "loss_after": 1.5,
    }  # fmt: skip
    assert "loss_after" not in course(history([3.0, 2.0], [4.0, 3.0]))  # the best one is the last one
    assert course(pd.DataFrame({"step": [1], "epoch": [1.0], "loss": [2.0]})) == {"epochs": 1.0}


@pytest.mark.parametrize(
    ("evaluations", "losses", "said"),
    [
        ([3.0, 2.0, 2.5], [3.0, 2.0, 1.0], "The model was overfitted in the end"),
        ([3.0, 2.0, 2.5], [3.0, 2.0, 9.0], "Not overfitting, but training went wrong"),
        ([3.0, 2.0, 2.019], [3.0, 2.0, 1.0], "No overfitting"),  # less than 1 % above 2.0
        ([3.0, 2.0, 2.021], [3.0, 2.0, 1.0], "The model was overfitted"),  # more
        ([3.0], [3.0], "the validation loss was measured once"),
    ],
)
def test_overfitting_by_its_rule(evaluations, losses, said):
    frame = pd.DataFrame([{"run": "tuned"} | course(history(evaluations, losses))])
    assert said in say.overfitting(frame, "tuned")


def test_overfitting_is_not_said_without_a_training_loss_to_compare():
    frame = pd.DataFrame([{"run": "tuned", "validations": 2, "best_eval_loss": 2.0, "final_eval_loss": 2.5}])
    assert "cannot be said: the validation loss rose from 2.000 to 2.500" in say.overfitting(frame, "tuned")


def test_a_rung_without_a_speed_is_no_saving(copy):
    path = copy.root / "climate" / LADDER
    rungs = json.loads(path.read_text())["rungs"]
    rungs[1]["tokens_per_second"] = None
    change(path, rungs=rungs)
    text = sentences(copy, "climate")
    assert "The largest single saving is 'chunked loss': 500 MB less than the rung before it, at 1.08" in text
    assert "nan" not in text


def test_the_ladder_by_hand(results):
    frame = build("climate_ladder", results).frame.set_index("rung")
    assert frame.loc["full", "estimate_mb"] == pytest.approx(4400)
    assert frame.loc["full", "deviation"] == pytest.approx(0.1)
    assert pd.isna(frame.loc["nf4", "peak_mb"])  # a failed rung has no measurements
    text = sentences(results, "climate")
    # 4000 -> 2500 -> failed -> 1500 -> 1000: what cannot be compared with the rung before is no saving.
    assert "The largest single saving is 'lora': 1,500 MB less than the rung before it, at 1.50 times its speed" in text
    assert "goes from 4,000 to 1,000 MB (0.25 times) and the speed from 100 to 130 tokens per second" in text
    assert "at most 10.0 % off" in text


def test_the_largest_batch_is_said_with_its_bounds(copy):
    path = copy.root / "climate" / LADDER
    said = (
        "The largest batch that fits into 2,048 MB is 9 blocks of 512 tokens, at 'chunked loss'; at 'full' it is none."
    )
    assert said in sentences(copy, "climate")
    rungs = json.loads(path.read_text())["rungs"]
    rungs[-1]["probes"] = rungs[-1]["probes"][:1]
    change(path, rungs=rungs)
    assert "is at least 9 blocks" in sentences(copy, "climate")
    change(path, rungs=[rung | {"largest_batch": None, "probes": []} for rung in rungs])
    assert "The largest batch under the memory budget: it was not searched for." in sentences(copy, "climate")
    change(path, rungs=[rung | {"largest_batch": 0} for rung in rungs])
    text = sentences(copy, "climate")
    assert "No rung fits one block of 512 tokens into the budget of 2,048 MB (ladder.memory_budget_mb)" in text
    assert "the smallest memory that was measured is 1,000 MB" in text


def test_findings_follow_from_the_numbers(results):
    text = sentences(results, "wikitext")
    row = rows(results, "wikitext_tests").loc["base"]
    times = row["difference"] / (row["difference_upper"] - row["difference_lower"]) * 2
    assert "Tuning improved the model: the perplexity is 0.8" in text
    assert f"after Holm), {times:.1f} times half the width of its interval" in text
    tests = build("wikitext_tests", results).frame
    assert "so few documents" in say.improvement(tests.assign(documents=9))
    assert "so few documents" not in say.improvement(tests.assign(documents=10))
    assert "Next-token accuracy goes from 0.400 to 0.420; it agrees with the perplexity" in text
    assert "The tuned model against no_dropout: no difference found" in text
    assert "Training used batches of 4 x 2 accumulated, 8 in effect, and took 1.5 minutes" in text
    assert "preferred the tuned model's answer in 70 % of cases" in text
    assert "ladder" not in text


@pytest.mark.parametrize(
    ("nats", "said"), [(3.4, "Tuning made the model worse"), (3.0, "Whether tuning improved the model cannot be told")]
)
def test_what_is_not_better_is_not_called_better(copy, synthetic, nats, said):
    synthetic.scored(nats, seed=5).to_parquet(copy.root / "wikitext/tuned/documents.parquet")
    text = sentences(copy, "wikitext")
    assert said in text
    assert "improved the model:" not in text.replace(said, "")


def test_an_accuracy_that_contradicts_the_perplexity_is_pointed_out(copy):
    path = copy.root / "wikitext/tuned/metrics.json"
    record = json.loads(path.read_text())
    change(path, metrics=record["metrics"] | {"token_accuracy": 0.2})
    assert "it does not agree with the perplexity" in sentences(copy, "wikitext")


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
    assert text.count("Nobody has rated") == 1  # those of climate are rated


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
    frame = build("wikitext_anchors", results_of(tmp_path, synthetic)).frame
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
    empty = results_of(tmp_path, synthetic)
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
    without = results_of(tmp_path, synthetic, ladder=[])
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
    empty = results_of(tmp_path, synthetic)
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

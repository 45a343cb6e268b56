"""The tables and findings on plain text: values by hand, and what follows from them."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic.language_modeling import scored
from synthetic.study import change, reconfigure, results_of, rows, sentences, settings, table

from frugal.files import write_json
from frugal.report.contents import LADDER
from frugal.report.figures import style
from frugal.report.frames import build
from frugal.report.language_modeling import findings as say
from frugal.report.language_modeling.tables import compare_documents, course
from frugal.report.originals.climate import blanks
from frugal.report.results import Results


@pytest.fixture
def results(texts) -> Results:
    return results_of(texts, settings("wikitext", "climate"))


@pytest.fixture
def copy(texts, tmp_path) -> Results:
    """The same study where files may be changed."""
    shutil.copytree(texts, tmp_path, dirs_exist_ok=True)
    return results_of(tmp_path, settings("wikitext", "climate"))


def test_data_and_manifest_by_hand(results):
    assert [cell.value for cell in table(results, "wikitext", "data").rows()[0]] == [
        "wikipedia-sample", "12", "3", "1", "9,000", "9, 1, 2", "9,000", "1,860", "18", "512"
    ]  # fmt: skip
    experiment = results.experiments["wikitext"]
    assert experiment.section.context(experiment, {})["skipped"] == {
        "wikipedia-sample": "near-duplicate: 1; encrypted: 2"
    }
    manifest = table(results, "climate", "manifest")
    assert [cell.value for cell in manifest.rows()[0]] == ["01.pdf", "Oceans", "4", "0", "5,000", "kept", ""]
    assert manifest.frame["reason"].iloc[2].startswith("broken: </script>")


def test_runs_that_cut_the_corpus_otherwise_are_rows_of_their_own(copy):
    blocks = copy.data / "blocks" / "trial" / "wikitext" / "no_dropout" / "blocks.json"
    change(blocks, blocks={"train": 36})
    frame = table(copy, "wikitext", "data").frame
    assert frame[["runs", "blocks_train"]].to_numpy().tolist() == [["tuned", 18], ["no_dropout", 36]]


def test_perplexity_and_its_protocol(results):
    frame = rows(results, "wikitext", "perplexity")
    assert frame["system"].tolist() == ["untuned model", "tuned", "no_dropout"]
    documents = results.experiments["wikitext"].find("tuned").documents
    assert frame.loc["tuned", "perplexity"] == pytest.approx(math.exp(documents["nll"].sum() / 1860))
    shown = frame.loc["tuned", ["text", "context", "stride", "bos", "joined", "tokens"]].tolist()
    assert shown == ["wikipedia-sample, test", 512, 256, "no", "apart", 1860]


def two_documents(first: float, second: float) -> pd.DataFrame:
    return pd.DataFrame({"document": ["a", "b"], "tokens": [1, 3], "nll": [first, second]})


@pytest.mark.usefixtures("always_resampled")
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
    frame = rows(results, "wikitext", "tests")
    assert frame.index.tolist() == ["base", "no_dropout"]
    perplexity = rows(results, "wikitext", "perplexity")["perplexity"]
    assert frame.loc["base", "ratio"] == pytest.approx(perplexity["tuned"] / perplexity["base"])
    assert frame.loc["base", "ratio_lower"] == pytest.approx(math.exp(-frame.loc["base", "difference_upper"]))
    assert frame["verdict"].tolist() == ["better", "no difference found"]
    assert (frame["p_holm"] >= frame["p"]).all()


def test_runs_that_score_otherwise_are_not_compared(copy):
    reconfigure(copy.root / "wikitext/no_dropout/config.yaml", evaluation={"stride": 512})
    assert rows(copy, "wikitext", "tests").index.tolist() == ["base"]
    with style():
        axes = copy.experiments["wikitext"].section.DRAWINGS["perplexity"].draw(copy.experiments["wikitext"]).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["untuned model", "tuned"]
    best = [[cell.best for cell in row][1] for row in table(copy, "wikitext", "perplexity").rows()]
    assert best == [False, True, False]  # alone in its protocol: no contest


def test_one_test_document_cannot_be_resampled(copy):
    for name in ("base", "tuned"):
        path = copy.root / "climate" / name / "documents.parquet"
        pd.read_parquet(path).head(1).to_parquet(path)
    assert pd.isna(rows(copy, "climate", "tests").loc["base", "difference"])
    assert "cannot be tested: there is one test document" in sentences(copy, "climate")
    one = copy.experiments["climate"]
    assert "one test document" in blanks(one, {part: build(part, one) for part in one.tables})["Conclusion"]


def test_training_by_hand(results):
    assert [cell.value for cell in table(results, "climate", "training").rows()[0]] == [
        "tuned", "4", "2", "8", "0.0002", "3", "60", "9,000", "2.700", "2.850", "2.907"
    ]  # fmt: skip
    assert [cell.value for cell in table(results, "climate", "cost").rows()[0]] == [
        "tuned", "Test CPU @ 2 GHz, 2 cores", "1.50", "310", "k_proj, o_proj, q_proj, v_proj: 30 of 30", "460,800",
        "0.3414", "1.9", "1,500", "41.0"
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
    frame = table(results, "climate", "ladder").frame.set_index("rung")
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
    row = rows(results, "wikitext", "tests").loc["base"]
    times = row["difference"] / (row["difference_upper"] - row["difference_lower"]) * 2
    assert "Tuning improved the model: the perplexity is 0.8" in text
    assert f"after Holm), {times:.1f} times half the width of its interval" in text
    tests = table(results, "wikitext", "tests").frame
    assert "With so few documents" in say.improvement(tests.assign(documents=9))
    assert "With so few documents" not in say.improvement(tests.assign(documents=10))
    assert "Next-token accuracy goes from 0.400 to 0.420; it agrees with the perplexity" in text
    assert "The tuned model against no_dropout: no difference found" in text
    assert "Training used batches of 4 with 2 accumulation steps (effective batch size 8) and took 1.5 minutes" in text
    assert "preferred the tuned model's answer in 70 % of cases" in text
    assert "ladder" not in text


@pytest.mark.parametrize(
    ("nats", "said"), [(3.4, "Tuning made the model worse"), (3.0, "Whether tuning improved the model cannot be told")]
)
def test_what_is_not_better_is_not_called_better(copy, nats, said):
    scored(nats, seed=5).to_parquet(copy.root / "wikitext/tuned/documents.parquet")
    text = sentences(copy, "wikitext")
    assert said in text
    assert "improved the model:" not in text.replace(said, "")


def test_an_accuracy_that_contradicts_the_perplexity_is_pointed_out(copy):
    path = copy.root / "wikitext/tuned/metrics.json"
    record = json.loads(path.read_text())
    change(path, metrics=record["metrics"] | {"token_accuracy": 0.2})
    assert "it does not agree with the perplexity" in sentences(copy, "wikitext")

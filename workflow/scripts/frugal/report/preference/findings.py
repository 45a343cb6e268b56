"""What the numbers say, in sentences whose words follow from the statistics."""

from frugal.report.results import ExperimentResults
from frugal.report.tables import format_value
from frugal.report.wording import (
    Tables,
    best_baseline,
    compared_with,
    difference,
    duration,
    interval,
    known,
    row_of,
    rows_of,
)


def findings(experiment: ExperimentResults, tables: Tables) -> list[str]:
    """The experiment's results in short; a result that is missing is said to be missing."""
    principal = experiment.principal.name
    always_a = [run.name for run in experiment.trained if run.section("pairs").get("answer_position") == "always_a"]
    return [
        *_training_helps(tables, principal),
        *_against_baselines(tables),
        *(sentence for name in always_a for sentence in _shortcut(tables, name)),
        *_cost(tables, principal),
    ]


def headline(experiment: ExperimentResults, tables: Tables) -> str:
    """The experiment in one sentence: the trained model against the untuned one and the best baseline."""
    accuracy, tests = (rows_of(tables, f"{name}") for name in ("accuracy", "tests"))
    trained, base = row_of(accuracy, run=experiment.principal.name), row_of(accuracy, run="base")
    parts = []
    for kind in ("easy", "hard"):
        name = f"accuracy_{kind}"
        best, test = best_baseline(accuracy, name), row_of(tests, run="base", kind=kind)
        if not known(trained, name) or not known(base, name) or not known(test, "verdict"):
            continue
        figures = " against ".join(format_value(row[name], ".3f") for row in (trained, base))
        figures = figures if parts else f"accuracy {figures}"
        text = f"on {kind} pairs the trained model {compared_with(test['verdict'], 'the untuned one')} ({figures})"
        against = row_of(tests, run=best["run"], kind=kind) if best is not None else None
        if known(against, "verdict"):
            text += f" and {compared_with(against['verdict'], best['system'])} ({format_value(best[name], '.3f')})"
        parts.append(text)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else "What the training is worth is missing."


def _training_helps(tables: Tables, principal: str) -> list[str]:
    accuracy = rows_of(tables, "accuracy")
    trained, base = row_of(accuracy, run=principal), row_of(accuracy, run="base")
    if not known(trained, "accuracy") or not known(base, "accuracy"):
        return ["Whether training helps cannot be said: the trained or the untuned model's results are missing."]
    sentences = [
        f"The trained model ({trained['system']}) has an accuracy of {interval(trained, 'accuracy')}, "
        f"the untuned model of {interval(base, 'accuracy')}."
    ]
    tests = rows_of(tables, "tests")
    compared = []
    for kind in ("all", "easy", "hard"):
        row = row_of(tests, run="base", kind=kind)
        if not known(row, "difference", "p_holm"):
            return [*sentences, "The paired test of this difference is missing."]
        compared.append(f"on {kind} pairs {difference(row)}")
    return [*sentences, f"Against the untuned model: {'; '.join(compared)}."]


def _against_baselines(tables: Tables) -> list[str]:
    """On easy and hard pairs, the comparison with the baseline that does best there."""
    accuracy, tests = (rows_of(tables, f"{name}") for name in ("accuracy", "tests"))
    sentences = []
    for kind in ("easy", "hard"):
        name = f"accuracy_{kind}"
        best = best_baseline(accuracy, name)
        if best is None:
            sentences.append(f"Baselines on {kind} pairs: missing.")
            continue
        text = f"The best baseline on {kind} pairs is {best['system']} with {interval(best, name)}"
        row = row_of(tests, run=best["run"], kind=kind)
        if known(row, "difference", "p_holm"):
            text += f"; the trained model against it: {difference(row)}"
        sentences.append(f"{text}.")
    return sentences


def _shortcut(tables: Tables, name: str) -> list[str]:
    row = row_of(rows_of(tables, "shortcut"), run=name)
    if row is None:
        return []
    if not known(row, "accuracy", "accuracy_liked_first", "p_a"):
        return ["The shortcut of the always-A data: missing."]
    guessing = known(row, "accuracy_lower") and row["accuracy_lower"] <= 0.5 <= row["accuracy_upper"]
    verdict_text = ", which does not differ significantly from guessing" if guessing else ""
    return [
        f"Trained on data whose right answer is always Option A, the model is right in "
        f"{100 * row['accuracy_liked_first']:.1f} % of the questions whose answer is A, the only ones that "
        f"such data can ask; asked in both orders its accuracy is {interval(row, 'accuracy')}{verdict_text}. "
        f"It answers A with a mean probability of {row['p_a']:.3f}."
    ]


def _cost(tables: Tables, principal: str) -> list[str]:
    row = row_of(rows_of(tables, "training"), run=principal)
    if not known(row, "minutes", "examples", "trainable_parameters", "trainable_share", "peak_rss_mb"):
        return ["What training costs: missing."]
    return [
        f"Training took {duration(row['minutes'])} for {row['examples']:,.0f} examples and a peak of "
        f"{row['peak_rss_mb']:,.0f} MB of memory; it trained {row['trainable_parameters']:,.0f} parameters, "
        f"{100 * row['trainable_share']:.2f} % of all."
    ]

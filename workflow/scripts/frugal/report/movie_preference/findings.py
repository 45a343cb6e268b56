"""What the numbers say, in sentences whose words follow from the statistics."""

from frugal.report.tables import format_value
from frugal.report.wording import (
    Tables,
    best_rule,
    difference,
    duration,
    interval,
    known,
    row_of,
    rows_of,
    told_apart,
)


def findings(tables: Tables, principal: str | None) -> list[str]:
    """The experiment's results in short; a result that is missing is said to be missing."""
    return [
        *_training_helps(tables, principal),
        *_against_rules(tables),
        *_shortcut(tables),
        *_cost(tables, principal),
    ]


def headline(tables: Tables, principal: str | None) -> str:
    """The experiment in one sentence: the trained model against the untuned one and the best rule, by kind of pair."""
    accuracy, tests = (rows_of(tables, f"movie_preference_{name}") for name in ("accuracy", "tests"))
    trained, base = row_of(accuracy, run=principal or ""), row_of(accuracy, run="base")
    parts = []
    for kind in ("easy", "hard"):
        name = f"accuracy_{kind}"
        best, test = best_rule(accuracy, name), row_of(tests, run="base", kind=kind)
        if not known(trained, name) or not known(base, name) or not known(test, "verdict"):
            continue
        figures = " against ".join(format_value(row[name], ".3f") for row in (trained, base))
        figures = figures if parts else f"accuracy {figures}"
        text = f"on {kind} pairs the trained model {told_apart(test['verdict'], 'the untuned one')} ({figures})"
        against = row_of(tests, run=best["run"], kind=kind) if best is not None else None
        if known(against, "verdict"):
            text += f" and {told_apart(against['verdict'], best['system'])} ({format_value(best[name], '.3f')})"
        parts.append(text)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else "What the training is worth is missing."


def _training_helps(tables: Tables, principal: str | None) -> list[str]:
    accuracy = rows_of(tables, "movie_preference_accuracy")
    trained, base = row_of(accuracy, run=principal or "tuned"), row_of(accuracy, run="base")
    if not known(trained, "accuracy") or not known(base, "accuracy"):
        return ["Whether training helps cannot be said: the trained or the untuned model's results are missing."]
    sentences = [
        f"The trained model ({trained['system']}) has an accuracy of {interval(trained, 'accuracy')}, "
        f"the untuned model of {interval(base, 'accuracy')}."
    ]
    tests = rows_of(tables, "movie_preference_tests")
    told = []
    for kind in ("all", "easy", "hard"):
        row = row_of(tests, run="base", kind=kind)
        if not known(row, "difference", "p_holm"):
            return [*sentences, "The paired test of this difference is missing."]
        told.append(f"on {kind} pairs {difference(row)}")
    return [*sentences, f"Against the untuned model: {'; '.join(told)}."]


def _against_rules(tables: Tables) -> list[str]:
    """On easy and hard pairs, the comparison with the rule that does best there."""
    accuracy, tests = (rows_of(tables, f"movie_preference_{name}") for name in ("accuracy", "tests"))
    sentences = []
    for kind in ("easy", "hard"):
        name = f"accuracy_{kind}"
        best = best_rule(accuracy, name)
        if best is None:
            sentences.append(f"Rules on {kind} pairs: missing.")
            continue
        text = f"The best rule on {kind} pairs is {best['system']} with {interval(best, name)}"
        row = row_of(tests, run=best["run"], kind=kind)
        if known(row, "difference", "p_holm"):
            text += f"; the trained model against it: {difference(row)}"
        sentences.append(f"{text}.")
    return sentences


def _shortcut(tables: Tables) -> list[str]:
    row = row_of(rows_of(tables, "movie_preference_shortcut"), run="always_a")
    if row is None:
        return []
    if not known(row, "accuracy", "accuracy_liked_first", "p_a"):
        return ["The shortcut of the always-A data: missing."]
    guessing = known(row, "accuracy_lower") and row["accuracy_lower"] <= 0.5 <= row["accuracy_upper"]
    verdict_text = ", which cannot be told from guessing" if guessing else ""
    return [
        f"Trained on data whose right answer is always Option A, the model is right in "
        f"{100 * row['accuracy_liked_first']:.1f} % of the questions whose answer is A, the only ones that "
        f"such data can ask; asked in both orders its accuracy is {interval(row, 'accuracy')}{verdict_text}. "
        f"It answers A with a mean probability of {row['p_a']:.3f}."
    ]


def _cost(tables: Tables, principal: str | None) -> list[str]:
    row = row_of(rows_of(tables, "movie_preference_training"), run=principal or "tuned")
    if not known(row, "minutes", "examples", "trainable_parameters", "trainable_share", "peak_rss_mb"):
        return ["What training costs: missing."]
    return [
        f"Training took {duration(row['minutes'])} for {row['examples']:,.0f} examples and a peak of "
        f"{row['peak_rss_mb']:,.0f} MB of memory; it changed {row['trainable_parameters']:,.0f} weights, "
        f"{100 * row['trainable_share']:.2f} % of all."
    ]

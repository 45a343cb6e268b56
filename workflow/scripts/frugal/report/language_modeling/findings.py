"""What the numbers of a language model's training say, in sentences whose words follow from rules over them."""

import pandas as pd

from frugal.report.results import ExperimentResults
from frugal.report.tables import format_value
from frugal.report.wording import Tables, difference, duration, interval, known, row_of, rows_of
from frugal.stats import FEW

#: Overfitting is said where the last validation loss is above the best one by more than this share of it.
TOLERANCE = 0.01
BATCHES = ("per_device_train_batch_size", "gradient_accumulation_steps", "effective_batch_size")


def findings(experiment: ExperimentResults, tables: Tables) -> list[str]:
    """The experiment's results in short; a result that is missing is said to be missing."""
    principal = experiment.principal.name
    table = {part: rows_of(tables, part) for part in experiment.tables}
    sentences = [
        perplexity(table["perplexity"], principal),
        improvement(table["tests"]),
        *_accuracy(table["perplexity"], principal),
        *_variants(table["tests"]),
        overfitting(table["training"], principal),
    ]
    if "ladder" in table:
        sentences += [*ladder(table["ladder"]), largest_batch(table["ladder"])]
    return [*sentences, cost(table["training"], principal), *(_ratings(table["ratings"]) if "ratings" in table else [])]


def headline(experiment: ExperimentResults, tables: Tables) -> str:
    """The experiment in one sentence: the tuned model's perplexity, and the test against the untuned one."""
    rows, tests = (rows_of(tables, part) for part in ("perplexity", "tests"))
    tuned, base = (row_of(rows, run=name) for name in (experiment.principal.name, "base"))
    test = row_of(tests, run="base")
    if not known(tuned, "perplexity") or not known(base, "perplexity") or not known(test, "ratio", "verdict"):
        return improvement(tests)
    opening = {
        "better": "Tuning lowers the perplexity",
        "worse": "Tuning raises the perplexity",
        "no difference found": "The perplexities of the tuned and the untuned model do not differ significantly",
    }[test["verdict"]]
    figures = f"{format_value(base['perplexity'], ',.2f')} untuned, {format_value(tuned['perplexity'], ',.2f')} tuned"
    return (
        f"{opening}: {figures}, a ratio of {interval(test, 'ratio')} over {_documents(test['documents'])}"
        f"{', which are few' if test['documents'] < FEW else ''}."
    )


def _documents(number: float) -> str:
    return f"{number:,.0f} test document{'' if number == 1 else 's'}"


def perplexity(rows: pd.DataFrame, principal: str) -> str:
    """The perplexities of the tuned and of the untuned model, with their intervals."""
    tuned, base = row_of(rows, run=principal), row_of(rows, run="base")
    if not known(tuned, "perplexity", "tokens") or not known(base, "perplexity"):
        return "Whether tuning lowers the perplexity cannot be said: the tuned or the untuned model's is missing."
    return (
        f"On {tuned['tokens']:,.0f} tokens of the test documents of {tuned['text'].removesuffix(', test')}, the tuned "
        f"model ({tuned['system']}) has a perplexity of {interval(tuned, 'perplexity', ',.2f')}, the untuned model of "
        f"{interval(base, 'perplexity', ',.2f')}."
    )


def improvement(tests: pd.DataFrame) -> str:
    """Whether tuning improved the model, and by how much relative to the interval of the difference."""
    row = row_of(tests, run="base")
    if known(row, "documents") and row["documents"] < 2:
        return "Whether tuning improved the model cannot be tested: there is one test document."
    if not known(row, "difference", "p_holm", "verdict"):
        return "The paired test of tuned against untuned is missing."
    opening = {
        "better": "Tuning improved the model",
        "worse": "Tuning made the model worse",
        "no difference found": "Whether tuning improved the model cannot be told",
    }[row["verdict"]]
    half = (row["difference_upper"] - row["difference_lower"]) / 2
    relative = f", {abs(row['difference']) / half:.1f} times half the width of its interval" if half > 0 else ""
    caution = " With so few documents the intervals are imprecise." if row["documents"] < FEW else ""
    return (
        f"{opening}: the perplexity is {row['ratio']:.3f} times the untuned one, over {row['documents']:,.0f} "
        f"documents that both scored; in log perplexity: {difference(row, '+.4f')}{relative}.{caution}"
    )


def _accuracy(rows: pd.DataFrame, principal: str) -> list[str]:
    """Next-token accuracy, and whether it goes the way of the perplexity; in the original it did not."""
    tuned, base = row_of(rows, run=principal), row_of(rows, run="base")
    names = ("token_accuracy", "perplexity")
    if not known(tuned, *names) or not known(base, *names):
        return []
    more_accurate = tuned["token_accuracy"] > base["token_accuracy"]
    agree = more_accurate == (tuned["perplexity"] < base["perplexity"])
    return [
        f"Next-token accuracy goes from {format_value(base['token_accuracy'], '.3f')} to "
        f"{format_value(tuned['token_accuracy'], '.3f')}; it {'agrees' if agree else 'does not agree'} with the "
        "perplexity on which model is the better one."
    ]


def _variants(tests: pd.DataFrame) -> list[str]:
    """The other trained variants, by what the paired tests say of them."""
    if tests.empty:
        return []
    rows = tests[(tests["role"] == "trained") & tests["verdict"].notna()]
    return [f"The tuned model against {row['second']}: {difference(row, '+.4f')}." for _, row in rows.iterrows()]


def overfitting(training: pd.DataFrame, principal: str) -> str:
    """Overfitting: the validation loss ends above its best value while the training loss went on falling."""
    row = row_of(training, run=principal)
    if not known(row, "best_eval_loss", "final_eval_loss", "validations"):
        return "Whether the model was overfitted cannot be said: its validation losses are missing."
    if row["validations"] < 2:
        return "Whether the model was overfitted cannot be said: the validation loss was measured once."
    best, last = (format_value(row[name], ".3f") for name in ("best_eval_loss", "final_eval_loss"))
    rose = row["final_eval_loss"] > (1 + TOLERANCE) * row["best_eval_loss"]
    if not rose:
        return (
            f"No overfitting: the validation loss ends at {last} and was {best} at its best, which is no rise of more "
            f"than {TOLERANCE:.0%}.".replace("%", " %")
        )
    losses = f"the validation loss rose from {best} to {last}"
    if not known(row, "loss_before", "loss_after"):
        return f"Whether the model was overfitted cannot be said: {losses}, and no training loss was logged after it."
    if row["loss_after"] < row["loss_before"]:
        return f"The model was overfitted in the end: {losses} while the training loss went on falling."
    return f"Not overfitting, but training went wrong in the end: {losses}, and the training loss did not fall."


def ladder(rows: pd.DataFrame) -> list[str]:
    """What all rungs save together, the largest single saving and its cost, and how well the estimate fits."""
    measured = ["peak_mb", "tokens_per_second"]
    rungs = rows if rows.empty else rows.dropna(subset=measured)
    if len(rungs) < 2:
        return ["What each saving of memory saves: missing."]
    first, last = rungs.iloc[0], rungs.iloc[-1]
    sentences = [
        f"From {_words(first)} to {_words(last)}, with all savings between them, the peak goes from "
        f"{first['peak_mb']:,.0f} to {last['peak_mb']:,.0f} MB ({last['peak_mb'] / first['peak_mb']:.2f} times) "
        f"and the speed from {first['tokens_per_second']:,.0f} to {last['tokens_per_second']:,.0f} tokens per second."
    ]
    # A saving is against the rung before it: where that one failed there is nothing to compare.
    values = rows[measured].astype(float)
    speed = (values["tokens_per_second"] / values["tokens_per_second"].shift()).dropna()
    saved = -values["peak_mb"].diff()[speed.index].dropna()
    if not saved.empty and saved.max() > 0:
        place = saved.idxmax()
        sentences.append(
            f"The largest single saving is {_words(rows.loc[place])}: {saved[place]:,.0f} MB less than the rung "
            f"before it, at {speed[place]:.2f} times its speed."
        )
    off = rungs["deviation"].abs().dropna()
    if not off.empty:
        worst = rungs.loc[off.idxmax()]
        sentences.append(f"The estimate is at most {off.max():.1%} off, at {_words(worst)}.".replace("%", " %"))
    return sentences


def largest_batch(ladder: pd.DataFrame) -> str:
    """The largest batch that fits the budget, over all rungs and on the first one."""
    rungs = ladder[ladder["largest_batch"].notna()] if not ladder.empty else ladder
    if rungs.empty or not known(rungs.iloc[0], "memory_budget_mb", "block_length"):
        asked = ladder.empty or ladder["peak_mb"].isna().all()
        return f"The largest batch under the memory budget: {'missing' if asked else 'it was not searched for'}."
    first, best = rungs.iloc[0], rungs.loc[rungs["largest_batch"].astype(float).idxmax()]
    budget, length = f"{first['memory_budget_mb']:,.0f} MB", f"{first['block_length']:,.0f} tokens"
    if not best["largest_batch"]:
        smallest = rungs["peak_mb"].min()
        need = f"; the smallest memory that was measured is {smallest:,.0f} MB" if pd.notna(smallest) else ""
        return f"No rung fits one block of {length} into the budget of {budget} (ladder.memory_budget_mb){need}."
    least = "at least " if best["unbounded"] else ""
    text = (
        f"The largest batch that fits into {budget} is {least}{_blocks(best['largest_batch'])} of {length}, "
        f"at {_words(best)}"
    )
    if first["rung"] == best["rung"]:
        return f"{text}."
    return f"{text}; at {_words(first)} it is {_blocks(first['largest_batch'])}."


def _blocks(number: float) -> str:
    return {0: "none", 1: "1 block"}.get(number, f"{number:,.0f} blocks")


def _words(rung: pd.Series) -> str:
    return f"'{rung['rung'].replace('_', ' ')}'"


def cost(training: pd.DataFrame, principal: str) -> str:
    """Batch, device, time, memory and weights of the principal run."""
    row = row_of(training, run=principal)
    names = (*BATCHES, "device", "minutes", "tokens", "peak_rss_mb", "trainable_parameters", "trainable_share")
    if not known(row, *names):
        return "What training costs: missing."
    batch, accumulation, effective = (f"{row[name]:,.0f}" for name in BATCHES)
    return (
        f"Training used batches of {batch} with {accumulation} accumulation steps (effective batch size {effective}) "
        f"and took {duration(row['minutes'])} for {row['tokens']:,.0f} tokens on {row['device']}, with a peak of "
        f"{memory(row)}; "
        f"it trained {row['trainable_parameters']:,.0f} parameters, {format_value(row['trainable_share'], '.3%')} % of "
        "all."
    )


def memory(row: pd.Series) -> str:
    if known(row, "peak_device_mb"):
        return f"{row['peak_device_mb']:,.0f} MB of GPU memory"
    return f"{row['peak_rss_mb']:,.0f} MB of process memory"


def _ratings(ratings: pd.DataFrame) -> list[str]:
    row = row_of(ratings, criterion="overall")
    if not known(row, "win_rate"):
        return []
    wins = format_value(row["win_rate"], ".0%")
    return [
        f"People who did not know which model wrote what preferred the tuned model's answer in {wins} % of cases, "
        "ties counted half."
    ]

"""What the numbers of an experiment on recommendation say, in sentences whose words follow from the statistics."""

from functools import partial

import pandas as pd

from frugal.report.recommendation.tables import FULL_PRECISION
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

METRIC = "NDCG@10"
tested = partial(difference, form="+.4f")


def findings(experiment: ExperimentResults, tables: Tables) -> list[str]:
    """The experiment's results in short; a result that is missing is said to be missing."""
    principal = experiment.principal.name
    table = {part: rows_of(tables, part) for part in experiment.tables}
    return [
        *_principal(table["ranking"], principal),
        *_against_baselines(table["ranking"], table["tests"]),
        *_against_variants(table["tests"]),
        *_shared_embeddings(table["tests"], without_sse(experiment)),
        *_lists(table["beyond"], principal, best_baseline(table["ranking"], METRIC)),
        *_groups(table["groups"], principal),
        *(_size(table["scaling"]) if "scaling" in table else []),
        *(_adapters(table["adapters"]) if "adapters" in table else []),
        *(_speed(table["efficiency"]) if "efficiency" in table else []),
        *_cost(table["training"], principal),
        *_budget(table["training"]),
    ]


def headline(experiment: ExperimentResults, tables: Tables) -> str:
    """The experiment in one sentence: the principal model, and how it stands to the best baseline and to all."""
    ranking, tests = (rows_of(tables, part) for part in ("ranking", "tests"))
    row, best = row_of(ranking, run=experiment.principal.name), best_baseline(ranking, METRIC)
    if not known(row, METRIC):
        return "How well the principal model ranks is missing."
    text = f"{row['system']} has an NDCG@10 of {interval(row, METRIC, '.4f')}"
    if best is None or not known(against := row_of(tests, run=best["run"]), "verdict"):
        return f"{text}; the test against the best baseline is missing."
    baselines = tests[(tests["role"] == "baseline") & tests["verdict"].notna()]
    beaten = int((baselines["verdict"] == "better").sum())
    against_best = f"{compared_with(against['verdict'], best['system'])} ({format_value(best[METRIC], '.4f')})"
    return f"{text}; it {against_best}, the best baseline, and is better than {beaten} of {len(baselines)} baselines."


def without_sse(experiment: ExperimentResults) -> str | None:
    """The run that lacks the principal one's stochastic shared embeddings and is like it in all else."""
    keys = {"sse_user_probability": 0, "sse_item_probability": 0}
    principal = experiment.principal
    if principal.section("model").get("architecture") != "ssept" or keys.items() <= principal.section("model").items():
        return None
    wanted = principal.config | {"model": principal.section("model") | keys}
    return next((run.name for run in experiment.trained if run.config == wanted), None)


def _principal(ranking: pd.DataFrame, principal: str) -> list[str]:
    row = row_of(ranking, run=principal)
    if not known(row, METRIC, "HR@10"):
        return ["How well the principal model ranks cannot be said: its results are missing."]
    seeds = f", over {row['seeds']:.0f} seeds" if known(row, "seeds") and row["seeds"] > 1 else ", with one seed"
    spread = ""
    if known(row, f"{METRIC}_std"):
        spread = f", with a standard deviation of {format_value(row[f'{METRIC}_std'], '.4f')} between them"
    return [
        f"The principal model ({row['system']}) has an NDCG@10 of {interval(row, METRIC, '.4f')} and an HR@10 of "
        f"{interval(row, 'HR@10', '.4f')}{seeds}{spread}."
    ]


def _against_baselines(ranking: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """The comparison with the baseline that does best on the same data."""
    best = best_baseline(ranking, METRIC)
    if best is None:
        return ["Whether the model is better than a simple method cannot be said: the baselines' results are missing."]
    text = f"The best baseline is {best['system']} with an NDCG@10 of {interval(best, METRIC, '.4f')}"
    row = row_of(tests, run=best["run"])
    if not known(row, "difference", "p_holm"):
        return [f"{text}; the paired test against it is missing."]
    relative = f"; relative to it {format_value(row['relative'], '+.1%')} %" if known(row, "relative") else ""
    return [f"{text}; the principal model against it: {tested(row)}{relative}."]


def _against_variants(tests: pd.DataFrame) -> list[str]:
    """The other trained variants, by what the paired tests say of them."""
    if tests.empty:
        return []
    rows = tests[(tests["role"] == "trained") & tests["verdict"].notna()]
    if rows.empty:
        return []
    words = {"better": "better than", "no difference found": "not significantly different from", "worse": "worse than"}
    parts = [
        f"{word} {', '.join(rows.loc[rows['verdict'] == verdict, 'second'])}"
        for verdict, word in words.items()
        if (rows["verdict"] == verdict).any()
    ]
    return [f"Against the other trained variants, the principal model is {'; '.join(parts)}."]


def _shared_embeddings(tests: pd.DataFrame, without: str | None) -> list[str]:
    if without is None:
        return []
    row = row_of(tests, run=without)
    if not known(row, "difference", "p_holm"):
        return ["Whether stochastic shared embeddings help cannot be said: results are missing."]
    return [f"Stochastic shared embeddings: the model with them, against the same one without: {tested(row)}."]


def _lists(beyond: pd.DataFrame, principal: str, best: pd.Series | None) -> list[str]:
    """How much of the catalogue the first ten items cover and how popular they are, beside the best baseline's."""
    row = row_of(beyond, run=principal)
    if not known(row, "coverage@10", "popularity_lift@10"):
        return ["How much of the catalogue the lists cover, and how popular their items are: missing."]
    text = f"The first ten items of all lists cover {_covered(row)}"
    other = None if best is None else row_of(beyond, run=best["run"])
    return [f"{text}; of {best['system']}, {_covered(other)}." if known(other, "popularity_lift@10") else f"{text}."]


def _covered(row: pd.Series) -> str:
    lift = row["popularity_lift@10"]
    than = f"{format_value(abs(lift), '.0%')} % {'more' if lift >= 0 else 'less'} popular than those of the histories"
    return f"{format_value(row['coverage@10'], '.1%')} % of the catalogue and are on average {than}"


def _groups(groups: pd.DataFrame, principal: str) -> list[str]:
    """Where the principal model is better or worse than the best baseline."""
    rows = groups[groups["run"] == principal] if "run" in groups else groups
    if rows.empty or rows["verdict"].isna().all():
        return ["Where the model gains and where it loses against the best baseline: missing."]
    tested = rows[rows["verdict"].notna()]
    found = [
        f"{word} for {', '.join(tested.loc[tested['verdict'] == word, 'group'])}"
        for word in ("better", "worse")
        if (tested["verdict"] == word).any()
    ]
    rest = "a difference is found in no group" if not found else "; ".join(found)
    if found and (tested["verdict"] == "no difference found").any():
        rest += "; elsewhere no difference is found"
    return [f"By groups, in {METRIC} against {tested['against'].iloc[0]}: {rest}."]


def _size(scaling: pd.DataFrame) -> list[str]:
    if len(scaling) < 2 or scaling[METRIC].isna().any():
        return ["What more size gives cannot be said: results of a size are missing."]
    steps = [
        f"{row['system']} against {row['before']}: {tested(row)}"
        for _, row in scaling.iloc[1:].iterrows()
        if known(row, "difference", "p_holm")
    ]
    sizes = [
        f"{format_value(row[METRIC], '.4f')} with {row['encoder_parameters']:,.0f} encoder weights ({row['system']})"
        for _, row in scaling.iterrows()
    ]
    return [f"Size: NDCG@10 is {', '.join(sizes)}. {'; '.join(steps) or 'The paired tests are missing'}."]


def _adapters(adapters: pd.DataFrame) -> list[str]:
    sentences = []
    for _, row in adapters.iterrows():
        if not known(row, METRIC, "trainable_share"):
            sentences.append(f"What the adapter {row['system']} keeps: missing.")
            continue
        text = (
            f"The adapter {row['system']} ({ADAPTERS.get(row['method'], row['method'])}) trains "
            f"{format_value(row['trainable_share'], '.2%')} % of the weights and has an NDCG@10 of "
            f"{interval(row, METRIC, '.4f')}"
        )
        if known(row, "difference", "p_holm"):
            text += f"; against {row['backbone']}, which it starts from: {tested(row)}"
        sentences.append(f"{text}.")
    return sentences


ADAPTERS = {"lora": "LoRA", "ilora": "iLoRA"}


def _speed(efficiency: pd.DataFrame) -> list[str]:
    """For each machine and its largest measured size, the modes against float32."""
    if efficiency.empty:
        return ["What the modes of training cost and save: missing."]
    sentences = []
    for machine, rows in efficiency.groupby("hardware", sort=False):
        compared = rows[rows["speedup"].notna() & ~rows["mode"].isin(FULL_PRECISION)]
        if compared.empty:
            sentences.append(f"On {machine}, no mode can be compared with float32: there is no such row.")
            continue
        size = compared.loc[compared["parameters"].astype(float).idxmax(), "size"]
        modes = [
            f"{row['mode']} {row['speedup']:.2f} times" for _, row in compared[compared["size"] == size].iterrows()
        ]
        sentences.append(f"On {machine}, size {size}, sequences per second against float32: {', '.join(modes)}.")
    return sentences


def _cost(training: pd.DataFrame, principal: str) -> list[str]:
    row = row_of(training, run=principal)
    if not known(row, "minutes", "epochs", "parameters", "peak_rss_mb"):
        return ["What training costs: missing."]
    return [
        f"Training one seed of the principal model ({row['parameters']:,.0f} weights) took "
        f"{duration(row['minutes'])} for {row['epochs']:.1f} epochs and a peak of {row['peak_rss_mb']:,.0f} MB of "
        "memory."
    ]


def _budget(training: pd.DataFrame) -> list[str]:
    """Whether training went on until validation stopped improving: undertrained models are no evidence."""
    if "stopped" not in training or training["stopped"].isna().all():
        return []
    runs = training[training["stopped"].notna()]
    stopped, seeds = int(runs["stopped"].sum()), int(runs["seeds"].sum())
    if stopped == seeds:
        return [f"Early stopping ended all {seeds} trainings before their epochs were used up."]
    return [
        f"Early stopping ended {stopped} of {seeds} trainings; the others used up their epochs, and might have "
        "become better with more."
    ]

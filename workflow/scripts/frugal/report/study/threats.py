"""Threats to validity: what limits the results of this study, told from its own settings and numbers.

A sentence stands only where the study gives the reason for it: a study with three seeds is not said to have one.
"""

from collections.abc import Collection
from typing import Any

import pandas as pd

from frugal.report.contents import LANGUAGE_MODELS, RECOMMENDERS
from frugal.report.frames import machine_key
from frugal.report.recommenders.findings import METRIC
from frugal.report.recommenders.tables import data
from frugal.report.results import LADDER, Results, Run
from frugal.report.statistics import FEW
from frugal.report.tables import format_value
from frugal.report.wording import Tables, known, row_of, rows_of

#: The data sets and base models of the originals, by the names that they have here.
ORIGINAL_DATA = {
    "movie_preference": ("movielens-1m",),
    "ssept": ("movielens-20m",),
    "bert4rec": ("movielens-20m", "amazon-electronics-2014", "amazon-electronics-2018"),
    "wikitext": ("wikitext-2-raw",),
}
ORIGINAL_MODELS = {"movie_preference": "llama-3-8b", "wikitext": "llama-3.2-1b", "climate": "llama-3.2-3b"}
Sentences = list[str]


def of_the_study(results: Results, tables: dict[str, Tables], notes: Collection[str] = ()) -> Sentences:
    """What limits the study as a whole.

    Args:
        tables: experiment -> name -> table.
        notes: what the study's configuration says in `report.threats`, which no result file can know.
    """
    return [*notes, *_gaps(results), *_versions(results), *_timings(results), *_multiplicity(tables)]


def of_experiment(results: Results, experiment: str, tables: Tables, random_models: Collection[str]) -> Sentences:
    """What limits one experiment.

    Args:
        random_models: base models whose weights are random.
    """
    special = {"movie_preference": _movie_preference} | dict.fromkeys(RECOMMENDERS, _recommenders)
    special |= dict.fromkeys(LANGUAGE_MODELS, _language_models)
    run = results.principal(experiment)
    if run is None or not run.config:
        return ["What limits this experiment cannot be said: the settings of its principal run are missing."]
    found = [
        *_base_model(run, random_models),
        *_other_than_the_original(run),
        *_seeds(run),
        *special[experiment](results, run, tables),
    ]
    return list(dict.fromkeys(found))  # two splits of one data set have the same ties


def _gaps(results: Results) -> Sentences:
    absent = [run for run in results.runs if run.record is None]
    if not absent:
        return []
    return [
        f"The study is not complete: of {_count(len(results.runs), 'result')}, {len(absent):,d} "
        f"{_are(len(absent))} missing, and no comparison includes {_them(len(absent))}."
    ]


def _versions(results: Results) -> Sentences:
    """Results of other code, packages or machines than the rest."""
    records = [run.provenance for run in results.runs if run.provenance]
    commits = {(record.get("commit") or "unknown").partition("+")[0] for record in records}
    changed = sum("+" in (record.get("commit") or "") for record in records)
    versions = {str(record.get("versions")) for record in records}
    machines = {machine_key(record.get("hardware") or {}) for record in records}
    found = []
    if "unknown" in commits:
        found.append("Some results do not know the commit of the code that made them.")
    if len(commits - {"unknown"}) > 1:
        found.append(
            f"The results were made by {len(commits - {'unknown'})} commits of the code, which the provenance names; "
            "a result is made again only where the code that it depends on has changed."
        )
    if changed:
        found.append(
            f"When {changed:,d} of {_count(len(records), 'result')} {_was(changed)} made, files differed from the "
            "commit that is named."
        )
    if len(versions) > 1:
        found.append(f"The results were made with {len(versions)} sets of package versions.")
    if len(machines) > 1:
        found.append(f"The results come from {len(machines)} machines: speeds of different ones cannot be compared.")
    return found


def _timings(results: Results) -> Sentences:
    trained = [run for run in results.runs if run.role == "trained" and "seconds" in run.training]
    if not trained:
        return []
    return [
        "Speeds, times and memory were measured once in each training, without a repetition, and nothing records what "
        "else the machine was doing: a difference of some per cent means nothing."
    ]


def _multiplicity(tables: dict[str, Tables]) -> Sentences:
    tests = [
        int(table.frame["p_holm"].notna().sum())
        for named in tables.values()
        for table in named.values()
        if table is not None and "p_holm" in table.frame and table.frame["p_holm"].notna().any()
    ]
    if len(tests) < 2:
        return []
    return [
        f"The report makes {sum(tests):,d} tests in {len(tests)} tables. The p values are adjusted within each table, "
        f"not over all of them: the chance of a false finding somewhere is up to {min(100, 5 * len(tests))} %."
    ]


def _base_model(run: Run, random_models: Collection[str]) -> Sentences:
    model = run.config.get("base_model")
    if model in random_models:
        return [f"{model} has random weights: the figures show that the workflow runs, and nothing else."]
    if model is None:
        return []
    return [
        f"Nothing records whether the text that {model} was first trained on holds {run.config['dataset']}, its test "
        "part included; the untuned model's row would have the same advantage."
    ]


def _other_than_the_original(run: Run) -> Sentences:
    """Data and model, where they are not those that the original used."""
    data_sets, model = ORIGINAL_DATA.get(run.experiment, ()), ORIGINAL_MODELS.get(run.experiment)
    others = []
    if data_sets and run.config["dataset"] not in data_sets:
        others.append(f"the data are {run.config['dataset']}, not {', '.join(data_sets)}")
    if model and run.config["base_model"] != model:
        others.append(f"the model is {run.config['base_model']}, not {model}")
    if not others:
        return []
    return [
        f"Other than in the original, {'; '.join(others)}: what it states of scores, speed and memory can be neither "
        "confirmed nor refuted by what was measured here."
    ]


def _seeds(run: Run) -> Sentences:
    if run.experiment in RECOMMENDERS:
        seeds = len(run.seeds)
        told = "the standard deviations over them are rough" if seeds > 1 else "no spread over seeds is known"
        return [f"Models were trained with {_count(seeds, 'seed')}: {told}."] if 0 < seeds < 10 else []
    return [
        f"There is one seed ({run.config.get('seed')}): intervals tell what other test "
        f"{'documents' if run.experiment in LANGUAGE_MODELS else 'users'} might give, not what another training would."
    ]


def _resolution(row: pd.Series | None, against: str, form: str) -> Sentences:
    """How small a difference could not have been found."""
    if not known(row, "difference_lower", "difference_upper"):
        return []
    half = (row["difference_upper"] - row["difference_lower"]) / 2
    if not half:
        return []
    return [
        f"The interval of the difference from {against} reaches {format_value(half, form)} to either side: smaller "
        "differences cannot be found with so few cases."
    ]


def _movie_preference(results: Results, run: Run, tables: Tables) -> Sentences:
    found = ["The other film of a pair is one that the user never rated, which is not the same as one not liked."]
    row = row_of(rows_of(tables, "movie_preference_tests"), run="base", kind="hard")
    found += _resolution(row, "the untuned model on hard pairs", ".3f")
    answers = max((len(one.examples or ()) for one in results.of(run.experiment)), default=0)
    if answers:
        found.append(f"Free answers were asked for {_count(answers, 'question')} of each model only.")
    return found


def _recommenders(results: Results, run: Run, tables: Tables) -> Sentences:
    settings, found = run.section("data"), []
    if settings.get("split") == "leave_one_out":
        found.append(
            "Each user's last item is left out, whenever it came: models learn from other users' later interactions, "
            "which no recommender in use could."
        )
    for row in data(results, run.experiment):
        if row["ties"] and row["users"]:
            found.append(
                f"In {row['dataset']}, {row['ties']:,d} of {row['users']:,d} users have several last interactions at "
                "one time; which of them is the target is decided by the order of the file."
            )
        if row["ordered"] == "no":
            found.append(f"{row['dataset']} has no order in time: the next item is any item.")
    if str(run.config["dataset"]).startswith("movielens"):
        found.append("The histories are in the order in which films were rated, which need not be that of watching.")
    limits = [f"{settings['max_users']:,d} users" if settings.get("max_users") else ""]
    limits += [f"{100 * settings['fraction']:g} % of the shards" if (settings.get("fraction") or 1) < 1 else ""]
    if any(limits):
        found.append(f"Only a part of the data is used: {' and '.join(filter(None, limits))}.")
    shape = run.section("model")
    changes = ["rotary positions"] * (shape.get("positions") == "rotary")
    changes += ["scores that are cosines"] * (shape.get("score") == "cosine")
    if changes:
        found.append(f"{run.name} has {' and '.join(changes)}: its scores are not those of the model as published.")
    if run.section("loss").get("name") == "sampled_softmax":
        found.append("The loss of the principal model is over sampled items, an approximation of the whole catalogue.")
    training = rows_of(tables, f"{run.experiment}_training")
    row = row_of(training, run=run.name)
    if known(row, "stopped", "seeds") and row["stopped"] < row["seeds"]:
        found.append(
            f"{row['seeds'] - row['stopped']:.0f} of {row['seeds']:.0f} trainings of {run.name} used up their epochs "
            "before validation stopped improving: longer ones might rank better."
        )
    tests = rows_of(tables, f"{run.experiment}_tests")
    rules = tests[tests["role"] == "rule"].dropna(subset=["difference"]) if "difference" in tests else tests
    if len(rules):
        nearest = rules.loc[rules["difference"].astype(float).idxmin()]
        found += _resolution(nearest, f"{nearest['second']} in {METRIC}", ".4f")
    return found


def _language_models(results: Results, run: Run, tables: Tables) -> Sentences:
    found, experiment = [], run.experiment
    documents = run.documents
    if documents is not None:
        number = int((documents["tokens"] > 0).sum())
        few = ", and of so few they are rough" if number < FEW else ""
        found.append(f"Intervals resample {_count(number, 'test document')}{few}.")
    limit = run.section("corpus").get("max_test_tokens")
    if limit:
        found.append(f"Of each test document only the first {limit:,d} tokens are scored.")
    window = run.section("evaluation")
    length, stride = window.get("context_length"), window.get("stride")
    if length and stride:
        found.append(
            f"A token is scored with at least {length - stride:,d} tokens before it, where its text has so many; more "
            "context would lower all perplexities."
        )
    if run.section("model").get("compute_dtype") in ("bfloat16", "float16"):
        found.append(f"The models compute in {run.section('model')['compute_dtype']}, which rounds each loss.")
    if any(one.answers for one in results.of(experiment)):
        found.append("Each answer to a prompt was drawn once; another seed would give other words.")
    ratings = results.ratings(experiment)
    if not ratings:
        found.append("Nobody has rated the answers: perplexity says nothing of whether they are good.")
    elif ratings.get("raters") == 1:
        found.append("One person has rated the answers: agreement between raters is not known.")
    return found + _ladder(results.measurements(experiment, LADDER))


def _ladder(measured: dict[str, Any]) -> Sentences:
    rungs = [rung for rung in measured.get("rungs") or () if not rung.get("error")]
    if not rungs:
        return []
    found = [
        f"Each rung of the memory ladder was measured once, over {_count(measured.get('steps') or 0, 'step')}: enough "
        "for memory, few for speed."
    ]
    if not (measured.get("hardware") or {}).get("gpus"):
        found.append("Without a GPU the ladder's memory is that of the whole process, its libraries included.")
    return found


def _count(number: int, noun: str) -> str:
    return f"{number:,d} {noun}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"

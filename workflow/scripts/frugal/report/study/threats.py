"""Threats to validity: what limits the results of this study, derived from its own settings and numbers.

A sentence stands only where the study gives the reason for it: a study with three seeds is not said to have one.
"""

from collections.abc import Collection

from frugal.report.frames import machine_key
from frugal.report.results import ExperimentResults, Results, Run
from frugal.report.wording import Tables, count

Sentences = list[str]
#: What stands in place of a commit where the code does not know it.
NAMELESS = {"unknown", "archive"}


def of_the_study(results: Results, tables: dict[str, Tables]) -> Sentences:
    """What limits the study as a whole; first what its configuration says in `report.threats`.

    Args:
        tables: experiment -> part -> table.
    """
    return [*results.notes, *_gaps(results), *_versions(results), *_timings(results), *_multiplicity(tables)]


def of_experiment(experiment: ExperimentResults, tables: Tables, random_models: Collection[str]) -> Sentences:
    """What limits one experiment.

    Args:
        random_models: base models whose weights are random.
    """
    run = experiment.principal
    if not run.config:
        return ["What limits this experiment cannot be said: the settings of its principal run are missing."]
    found = [
        *_base_model(run, random_models),
        *_other_than_the_original(run),
        *_seeds(run),
        *experiment.section.threats(experiment, tables),
    ]
    return list(dict.fromkeys(found))  # two splits of one data set have the same ties


def _gaps(results: Results) -> Sentences:
    absent = [run for run in results.runs if run.record is None]
    if not absent:
        return []
    verb, them = ("is", "it") if len(absent) == 1 else ("are", "them")
    return [
        f"The study is not complete: of {count(len(results.runs), 'result')}, {len(absent):,d} {verb} missing, and no "
        f"comparison includes {them}."
    ]


def _versions(results: Results) -> Sentences:
    """Results of other code, packages or machines than the rest."""
    records = [run.provenance for run in results.runs if run.provenance]
    commits = {(record.get("commit") or "unknown").partition("+")[0] for record in records}
    changed = sum((record.get("commit") or "").endswith("+changes") for record in records)
    versions = {str(record.get("versions")) for record in records}
    machines = {machine_key(record.get("hardware") or {}) for record in records}
    found = []
    if commits & NAMELESS:
        found.append("Some results do not know the commit of the code that made them.")
    if len(commits - NAMELESS) > 1:
        found.append(
            f"The results were made by {len(commits - NAMELESS)} commits of the code, which the provenance names; "
            "a result is made again only where the code that it depends on has changed."
        )
    if changed:
        found.append(
            f"When {changed:,d} of {count(len(records), 'result')} {'was' if changed == 1 else 'were'} made, files "
            "differed from the commit that is named."
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
    original = run.experiment.original
    if original is None:
        return []
    others = []
    if original.datasets and run.config["dataset"] not in original.datasets:
        others.append(f"the data are {run.config['dataset']}, not {', '.join(original.datasets)}")
    if original.base_model and run.config["base_model"] != original.base_model:
        others.append(f"the model is {run.config['base_model']}, not {original.base_model}")
    if not others:
        return []
    return [
        f"Other than in the original, {'; '.join(others)}: what it states of scores, speed and memory can be neither "
        "confirmed nor refuted by what was measured here."
    ]


def _seeds(run: Run) -> Sentences:
    if not run.experiment.kind.has_base_model:
        seeds = len(run.seeds)
        spread = "the standard deviations over them are rough" if seeds > 1 else "no spread over seeds is known"
        return [f"Models were trained with {count(seeds, 'seed')}: {spread}."] if 0 < seeds < 10 else []
    cases = "documents" if run.experiment.kind.reads == "documents" else "users"
    return [
        f"There is one seed ({run.config.get('seed')}): intervals cover the choice of test {cases}, not the variation "
        "between trainings."
    ]

"""A search for a recommender's settings: each trial is a training of `frugal.recsys.training`, judged on validation.

Optuna chooses the trials and keeps them in a journal. A search that was killed continues from it, and the trial that
was under way from its checkpoint. Trial n depends on the seed, on n and on the trials before it alone, so a search that
was interrupted has the same trials as one that was not.
"""

import csv
import io
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import ValidationError
from transformers import TrainerCallback

from frugal.config.recommendation import RecommendationRun
from frugal.config.search import OF_THE_MACHINE, RANDOM, SECTIONS, Domain, SearchSettings
from frugal.config.search_space import value_of, with_values
from frugal.errors import FrugalError, blaming, first_line, lacks_memory
from frugal.fingerprint import settings_hash
from frugal.recsys.histories import Split
from frugal.recsys.shards import read_split
from frugal.recsys.trainer import CRITERION
from frugal.recsys.training import build_model, resolve_precision, train_recommender
from frugal.run.progress import PROGRESS

JOURNAL = "journal.log"
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
#: Trials that fail one after the other, after which a search ends.
FAILURES = 20
#: The user attribute of an Optuna trial that has its record; a trial without was interrupted, and is done again.
RECORD = "record"
#: A validation's figures: in records and in validations.csv.
FIGURES = (CRITERION, "HR@10")

optuna.logging.set_verbosity(optuna.logging.WARNING)


def read_without_test(folder: Path, fraction: float) -> Split:
    """The split in ``folder``, which `leave_out_test.py` has made.

    Raises:
        FrugalError: there are test targets in it.
    """
    split = read_split(folder, fraction)
    if len(split.test.items):
        raise FrugalError(
            f"{folder}: holds test targets, which a search must not read; give it what leave_out_test.py makes"
        )
    return split


def search(
    run: RecommendationRun, settings: SearchSettings, split: Split, name: str, folder: Path, device: str
) -> list[dict[str, Any]]:
    """Run the trials that are still to come, and return the records of all.

    Args:
        run: the settings that all trials share, with a number of GPUs.
        split: training and validation part; the test part is empty.
        name: of the run, in messages.
        folder: keeps the journal, and the checkpoint of the trial under way.
        device: see `frugal.run.hardware.choose_device`.

    Returns:
        One record a trial: "trial" (from 1), "state" (complete, pruned, failed), "settings" (`section.key` to value),
        "seed", NDCG@10 and HR@10 of its best validation, "best_epoch", "epochs", "seconds" of training and validation,
        "error" of a failed one, and "validations", each with "epoch", NDCG@10 and HR@10.

    Raises:
        DeadlineReached: the time limit came first; run it again to continue.
        FrugalError: no trial could be trained to its end.
    """
    study = open_study(folder, settings)
    records = recorded(study)
    while not spent(settings, records):
        number = len(records) + 1
        study.sampler = sampler(settings, number)
        trial = study.ask(distributions(settings.space))
        PROGRESS.say(f"{name}: trial {number}: {', '.join(f'{key} {value}' for key, value in trial.params.items())}")
        record = {"trial": number, **run_trial(run, settings, trial, split, f"{name} trial {number}", folder, device)}
        trial.set_user_attr(RECORD, record)
        finish(study, trial.number, record)
        records.append(record)
        PROGRESS.say(f"{name}: {outcome(record, records, settings.trials)}")
    if not any(record["state"] == COMPLETE for record in records):
        raise FrugalError(
            f"{name}: none of the {len(records)} trials could be trained to its end; the first: {records[0]['error']}"
        )
    return records


def open_study(folder: Path, settings: SearchSettings) -> optuna.Study:
    """The Optuna study whose journal is in ``folder``; what was under way in an interrupted search is closed.

    Raises:
        FrugalError: the journal is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / JOURNAL
    if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
        journal.write_bytes(content[: content.rfind(b"\n") + 1])  # a line that a killed process has not ended
    pruner = optuna.pruners.MedianPruner() if settings.pruning == "median" else optuna.pruners.NopPruner()
    with blaming(journal, "damaged", "; delete it, and the search begins anew"):
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name="search",
            direction="maximize",
            pruner=pruner,
            load_if_exists=True,
        )
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        finish(study, trial.number, trial.user_attrs.get(RECORD, {"state": FAILED}))
    return study


def recorded(study: optuna.Study) -> list[dict[str, Any]]:
    """The records of the trials that came to an end, in their order."""
    return [trial.user_attrs[RECORD] for trial in study.get_trials(deepcopy=False) if RECORD in trial.user_attrs]


def spent(settings: SearchSettings, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the budget is used up, or nothing but failures comes."""
    if settings.trials is not None and len(records) >= settings.trials:
        return True
    if len(records) >= FAILURES and all(record["state"] == FAILED for record in records[-FAILURES:]):
        return True
    return settings.hours is not None and sum(record["seconds"] for record in records) >= settings.hours * 3600


def sampler(settings: SearchSettings, number: int) -> optuna.samplers.BaseSampler:
    """What chooses trial ``number``: with its own seed, so that it does not matter who has chosen the trials before."""
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    return (optuna.samplers.RandomSampler if settings.sampler == RANDOM else optuna.samplers.TPESampler)(seed=seed)


def distributions(space: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """A space in Optuna's terms."""
    return {key: _distribution(domain) for key, domain in space.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.choices is not None:
        return CategoricalDistribution(domain.choices)
    if domain.whole:
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step or 1)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def finish(study: optuna.Study, number: int, record: Mapping[str, Any]) -> None:
    """Report a trial's end to Optuna, which learns nothing from failed ones."""
    if record["state"] == COMPLETE:
        study.tell(number, record[CRITERION])
    else:
        study.tell(number, state=TrialState.PRUNED if record["state"] == PRUNED else TrialState.FAIL)


def run_trial(
    run: RecommendationRun,
    settings: SearchSettings,
    trial: optuna.Trial,
    split: Split,
    name: str,
    folder: Path,
    device: str,
) -> dict[str, Any]:
    """Train one trial's settings, and return its record without the number."""
    record = {"state": FAILED, "settings": dict(trial.params), "seed": settings.seed, "seconds": 0.0}
    checkpoints = folder / f"trial-{settings_hash([trial.params, settings.seed])}"
    reporter, started = Reporter(trial, settings.pruning != "none"), time.monotonic()
    try:
        chosen = with_values(run, trial.params)
        record["settings"] = {key: value_of(chosen, key) for key in trial.params}
        training = chosen.training.model_copy(update={"report_to": [], "profile_steps": 0})
        chosen, _ = resolve_precision(chosen.model_copy(update={"training": training}), device)
        model = build_model(chosen.model, split.item_count, split.user_count, settings.seed)
        trainer, trained = train_recommender(
            model, split, chosen, settings.seed, checkpoints, name, callbacks=[reporter]
        )
    except ValidationError as error:
        record["error"] = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
    except (FrugalError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, FrugalError) or lacks_memory(error)):
            raise
        record |= {"error": first_line(error), "seconds": round(time.monotonic() - started, 2)}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    else:
        validations = reporter.validations(trainer.state)
        best = max(validations, key=lambda one: one[CRITERION])
        record |= {
            "state": PRUNED if reporter.pruned else COMPLETE,
            **{name: best[name] for name in FIGURES},
            "best_epoch": best["epoch"],
            "epochs": trained["epochs"],
            "seconds": trained["seconds"],
            "validations": validations,
        }
    shutil.rmtree(checkpoints, ignore_errors=True)
    return record


class Reporter(TrainerCallback):
    """Reports each validation to Optuna; ends the training of a trial that is to be pruned.

    Attributes:
        pruned: whether it has.
    """

    def __init__(self, trial: optuna.Trial, prunes: bool):
        self.trial, self.prunes, self.pruned = trial, prunes, False

    def on_train_begin(self, args, state, control, **kwargs):
        for one in self.validations(state):  # of a training that continues
            self._report(one["epoch"], one[CRITERION])

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self._report(round(state.epoch, 4), metrics[f"eval_{CRITERION}"])
        if self.prunes and state.global_step < state.max_steps and self.trial.should_prune():
            self.pruned = control.should_training_stop = True
        return control

    def _report(self, epoch: float, value: float) -> None:
        self.trial.report(value, round(epoch))

    @staticmethod
    def validations(state) -> list[dict[str, float]]:
        """The figures of each validation that the trainer's history has."""
        return [
            {"epoch": round(entry["epoch"], 4), **{name: entry[f"eval_{name}"] for name in FIGURES}}
            for entry in state.log_history
            if f"eval_{CRITERION}" in entry
        ]


def best_of(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The complete trial with the highest NDCG@10 on validation; of equal ones the first."""
    return max((one for one in records if one["state"] == COMPLETE), key=lambda one: one[CRITERION])


def outcome(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]], trials: int | None) -> str:
    """A line on a trial that came to its end, and on the best so far."""
    of = f" of {trials}" if trials else ""
    if record["state"] == FAILED:
        return f"trial {record['trial']}{of} failed: {record['error']}"
    line = f"trial {record['trial']}{of} {record['state']}: {CRITERION} {record[CRITERION]:.4f}"
    if any(one["state"] == COMPLETE for one in records):
        best = best_of(records)
        line += f"; best {best[CRITERION]:.4f}, trial {best['trial']}"
    return line


def trials_csv(records: Sequence[Mapping[str, Any]], space: Mapping[str, Domain]) -> str:
    """trials.csv: a row a trial."""
    columns = ["trial", "state", *space, "seed", *FIGURES, "best_epoch", "epochs", "seconds", "error"]
    return _csv(columns, [{**record, **record["settings"]} for record in records])


def validations_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """validations.csv: a row a validation of a trial."""
    rows = [{"trial": record["trial"], **one} for record in records for one in record.get("validations", ())]
    return _csv(["trial", "epoch", *FIGURES], rows)


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def recipe(
    run: RecommendationRun,
    settings: SearchSettings,
    records: Sequence[Mapping[str, Any]],
    where: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of best.yaml: the settings of the best trial as a recipe, the figures that it reached, and ``where``.

    Every setting is written but those that belong to the machine, so that the recipe does not depend on defaults.
    """
    best = best_of(records)
    chosen = with_values(run, best["settings"])
    sections = {section: getattr(chosen, section) for section in SECTIONS}
    states = Counter(record["state"] for record in records)
    return {
        "settings": {
            section: {
                name: getattr(values, name)
                for name in type(values).model_fields
                if name not in OF_THE_MACHINE.get(section, ())
            }
            for section, values in sections.items()
        },
        "found": {
            "dataset": run.dataset,
            "validation": {name: round(best[name], 6) for name in FIGURES},
            "best_epoch": best["best_epoch"],
            "seconds": best["seconds"],
            "trial": best["trial"],
            "trials": {state: states[state] for state in (COMPLETE, PRUNED, FAILED)},
            "search": settings.model_dump(mode="json", exclude_defaults=True) | {"seed": settings.seed},
            "optuna": optuna.__version__,
            **where,
        },
    }

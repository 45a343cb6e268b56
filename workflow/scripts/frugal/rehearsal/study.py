"""The study file of a rehearsal, and what its server gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from frugal.config.study import LONGEST_NAME, Study, load_study
from frugal.errors import FrugalError
from frugal.rehearsal.mapping import Change, map_experiments, not_rehearsed
from frugal.rehearsal.server import Site
from frugal.rehearsal.standins import PREFIX, stand_in_dataset, stand_in_model

#: Stands in the report, first among the threats to validity.
WARNING = (
    "This is a rehearsal: synthetic data, random models and a few steps of training. Every number shows only that the "
    "workflow computes it."
)


@dataclass(frozen=True)
class Rehearsal:
    """A study's rehearsal.

    Attributes:
        config: its study file, as plain values.
        changes: settings that differ from the study's.
        stand_ins: the name of a data set or model of the study, and what stands in for it.
        not_rehearsed: sentences.
    """

    name: str
    config: dict[str, Any]
    changes: list[Change]
    stand_ins: dict[str, str]
    not_rehearsed: list[str]


def rehearse(study: Study, data: Mapping[str, Any], site: Site, url: str, conda: bool = False) -> Rehearsal:
    """Derive the rehearsal of a study, and put its stand-ins on ``site``.

    Args:
        study: the study, resolved.
        data: its file, as parsed.
        url: the address of the server of ``site``.
        conda: whether jobs run in the environments of envs/.

    Raises:
        FrugalError: a data set is of a form that no stand-in is made in, or the name is too long.
    """
    name = f"{PREFIX}{study.name}"
    if len(name) > LONGEST_NAME:
        raise FrugalError(f"study: '{study.name}' is too long for a rehearsal's name, {PREFIX}<study>")
    experiments, changes = map_experiments(study, data)
    runs = [run for one in study.experiments.values() for run in one.runs.values()]
    used = {run.dataset: study.datasets[run.dataset] for run in runs}
    models = {run.base_model: study.models[run.base_model] for run in runs if hasattr(run, "base_model")}
    made = {key: stand_in_dataset(key, entry, site, url) for key, entry in used.items()}
    made_models = {key: stand_in_model(key, entry, site, url) for key, entry in models.items()}
    for entry in experiments.values():
        for one in (entry, *(entry.get("variants") or {}).values()):
            _name_stand_ins(one, used, models)
    config = {
        "study": name,
        "datasets": {f"{PREFIX}{key}": entry for key, (entry, _) in made.items()},
        "models": {f"{PREFIX}{key}": entry for key, (entry, _) in made_models.items()},
        "report": {"threats": [WARNING, *study.report.threats]},
        "experiments": experiments,
    }
    config = {key: value for key, value in config.items() if value}
    load_study(config, f"the rehearsal of '{study.name}'")
    stand_ins = {key: words for key, (_, words) in (made | made_models).items()}
    return Rehearsal(name, config, changes, stand_ins, not_rehearsed(study, conda))


def _name_stand_ins(settings: dict[str, Any], datasets: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    for key, known in (("dataset", datasets), ("base_model", models)):
        if settings.get(key) in known:
            settings[key] = f"{PREFIX}{settings[key]}"

"""The tables of the study as a whole: what training cost, the machines, and other studies beside this one."""

from typing import Any

from frugal.report.contents import ACROSS, LANGUAGE_MODELS, RECOMMENDERS
from frugal.report.frames import frame, gpu_names, machine, machine_key, metric_values, system_values
from frugal.report.language_models import tables as language_models
from frugal.report.movie_preference import tables as movie_preference
from frugal.report.recommenders import tables as recommenders
from frugal.report.results import Results, Run
from frugal.report.study.layouts import LAYOUTS, SCORES, TITLES
from frugal.report.study.others import found_runs
from frugal.report.tables import Table

LABELS = {"movie_preference": movie_preference.label} | dict.fromkeys(RECOMMENDERS, recommenders.label)
LABELS |= dict.fromkeys(LANGUAGE_MODELS, language_models.label)
#: The hardware that the original write-ups name.
ORIGINAL_GPUS = {
    "movie_preference": "RTX 3090, 24 GB",
    "ssept": "not named",
    "bert4rec": "A100, V100 and L4",
    "wikitext": "T4 of Google Colab",
    "climate": "H100",
}
Rows = list[dict[str, Any]]


def build(name: str, results: Results) -> Table:
    """`efficiency`, `machines`, or `across_<experiment>`; rows of missing results are there and empty."""
    builders = {"efficiency": efficiency, "machines": machines}
    builders |= {table: lambda results, one=experiment: across(results, one) for experiment, table in ACROSS.items()}
    return Table(name, LAYOUTS[name], frame(LAYOUTS[name], builders[name](results)))


def label(run: Run) -> str:
    """A run as its experiment's tables call it."""
    return LABELS[run.experiment](run)


def cost(run: Run) -> dict[str, Any]:
    """What training a run cost: device, weights, minutes, speed, memory; of a run that trained nothing the device."""
    record, hardware = run.training, run.provenance.get("hardware") or {}
    names = ("parameters", "trainable_parameters", "trainable_share", "peak_rss_mb", "peak_device_mb")
    speed = "target_positions_per_second" if run.experiment in RECOMMENDERS else "tokens_per_second"
    values = {name: record.get(name) for name in (*names, "matmul_peak_share")}
    values |= {"minutes": run.minutes, "per_second": record.get(speed)}
    if hardware:
        values["device"] = machine(hardware, on_gpu=record.get("peak_device_mb") is not None)
    return values


def efficiency(results: Results) -> Rows:
    """One row a trained run of any experiment."""
    rows = []
    for run in (run for run in results.runs if run.role == "trained"):
        seeds = len(run.training.get("by_seed") or {})
        row = system_values(run, label(run)) | {"experiment": TITLES[run.experiment]}
        rows.append(row | {"trainings": seeds or 1 if run.training else None} | cost(run))
    return rows


def machines(results: Results) -> Rows:
    """One row a machine of each study, and one a write-up that names its hardware."""
    rows = []
    for name, study in studies(results).items():
        found: dict[tuple, dict[str, Any]] = {}
        for run in study.runs:
            hardware = run.provenance.get("hardware") or {}
            if hardware:
                values = {key: hardware.get(key) for key in ("processor", "cores")}
                values |= {"memory_gb": _gigabytes(hardware), "gpus": gpu_names(hardware) or "none"}
                row = found.setdefault(machine_key(hardware), values | {"titles": [], "results": 0})
                row["titles"].append(TITLES[run.experiment])
                row["results"] += 1
        # A study without any result is a row of its own, and missing.
        rows += [
            row | {"study": name, "original": "no", "experiments": ", ".join(dict.fromkeys(row.pop("titles", [])))}
            for row in found.values() or [{}]
        ]
    present = {run.experiment for study in studies(results).values() for run in study.runs}
    return rows + [
        {"study": "original", "original": "yes", "experiments": TITLES[experiment], "gpus": gpus}
        for experiment, gpus in ORIGINAL_GPUS.items()
        if experiment in present
    ]


def _gigabytes(hardware: dict[str, Any]) -> float | None:
    return hardware["memory_mb"] / 1024 if hardware.get("memory_mb") else None


def studies(results: Results) -> dict[str, Results]:
    """This study under its own name, and the others by the names that the configuration gives them."""
    others = {name: Results(folder, name, found_runs(folder)) for name, folder in results.compare.items()}
    return {results.study: results} | others


def across(results: Results, experiment: str) -> Rows:
    """One row a run and study, the rows of a run together."""
    found = studies(results)
    names = dict.fromkeys(run.name for study in found.values() for run in study.of(experiment))
    rows = []
    for run_name in names:
        own = results.find(experiment, run_name)
        for study_name, study in found.items():
            if (run := study.find(experiment, run_name)) is not None:
                row = system_values(run, label(run)) | {"study": study_name} | metric_values(run, SCORES[experiment])
                row |= {"data": _data(run, study), "model": (run.config or {}).get("base_model")} | cost(run)
                rows.append(row | {"settings": _settings(own, run) if run is not own else None})
    return rows


def _data(run: Run, study: Results) -> str | None:
    """Data set, and of recommenders split and share; rules share those of their experiment's principal run."""
    if run.experiment in RECOMMENDERS:
        return recommenders.protocol(run, study)
    source = study.principal(run.experiment) if run.role == "rule" else run
    return (source.config or {}).get("dataset") if source else None


def _settings(own: Run | None, other: Run) -> str | None:
    """Whether two runs of one name have the same settings; None where those of one are not there."""
    if own is None or not own.config or not other.config:
        return None
    return "the same" if own.config == other.config else "others"

"""How finished runs come into the MLflow store: from their files, however they were trained."""

import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from frugal.files import read_json, sha256_tree
from frugal.run.tracking import RUN, open_store

#: Tag in the store: what a run's files were when it was logged.
CONTENT = "frugal.sha256"
#: A larger file stays where it is.
LARGEST_ARTIFACT = 50 * 10**6
#: MLflow takes so many values at once.
BATCH = 100


def log_study(results: Path, uri: str) -> dict[str, int]:
    """Bring all runs of a study into the store: parameters, metrics, history and files of each.

    A run that is there as it is now is left alone, and one that has changed takes its place. A training that was
    tracked while it ran is completed.

    Args:
        results: `results/<study>`.
        uri: of the store.

    Returns:
        How many runs were logged, and how many were there.
    """
    study = results.name
    client = open_store(uri, study)
    experiment = client.get_experiment_by_name(study).experiment_id
    counts = {"logged": 0, "there": 0}
    ids: dict[str, str] = {}
    for folder in run_folders(results):
        name = folder.relative_to(results).as_posix()
        content = sha256_tree([path for path in folder.iterdir() if path.is_file()])
        known = client.search_runs([experiment], f"tags.`{RUN}` = '{name}'")
        if any(run.data.tags.get(CONTENT) == content for run in known):
            ids[name] = next(run.info.run_id for run in known if run.data.tags.get(CONTENT) == content)
            counts["there"] += 1
            continue
        live = next((run for run in known if CONTENT not in run.data.tags), None)
        for run in known:
            if run is not live:
                client.delete_run(run.info.run_id)
        run = live or client.create_run(experiment, run_name=name, tags={RUN: name})
        ids[name] = run.info.run_id
        _log_run(client, run, folder, with_history=live is None)
        parent = ids.get(name.partition("/seeds/")[0])
        if parent and parent != run.info.run_id:
            client.set_tag(run.info.run_id, "mlflow.parentRunId", parent)
        client.set_tag(run.info.run_id, CONTENT, content)  # last: a run without it is logged again
        client.set_terminated(run.info.run_id)
        counts["logged"] += 1
    return counts


def run_folders(results: Path) -> Iterator[Path]:
    """The folders of all finished runs, each before those of its seeds."""
    for metrics in sorted(results.glob("*/*/metrics.json")):
        yield metrics.parent
        yield from (training.parent for training in sorted(metrics.parent.glob("seeds/*/training.json")))


def _log_run(client: Any, run: Any, folder: Path, with_history: bool) -> None:
    from mlflow.entities import Metric, Param

    now, run_id = int(time.time() * 1000), run.info.run_id
    seed = folder.name if folder.parent.name == "seeds" else None
    configuration = (folder.parents[1] if seed else folder) / "config.yaml"
    parameters = flat(yaml.safe_load(configuration.read_text(encoding="utf-8"))) if configuration.exists() else {}
    parameters |= {"seed": seed} if seed else {}
    parameters = {key: value for key, value in parameters.items() if key not in run.data.params}
    for start in range(0, len(parameters), BATCH):
        some = list(parameters.items())[start : start + BATCH]
        client.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in some])
    metrics = [Metric(name, value, now, 0) for name, value in final_metrics(folder).items()]
    if with_history and (folder / "history.csv").exists():
        metrics += [Metric(name, value, now, step) for name, value, step in history(folder / "history.csv")]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
    left = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inside = path.relative_to(folder)
        if inside.parts[0] in ("seeds", "settings") or path.name.startswith("."):
            continue
        if path.stat().st_size > LARGEST_ARTIFACT:
            left.append(str(inside))
            continue
        client.log_artifact(run_id, str(path), "" if inside.parent == Path() else str(inside.parent))
    client.set_tag(run_id, "frugal.folder", str(folder))
    if left:
        client.set_tag(run_id, "frugal.left_out", ", ".join(left))


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"training": {"gpus": 1}}`` as ``{"training.gpus": 1}``."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def final_metrics(folder: Path) -> dict[str, float]:
    """The numbers of a run's metrics.json and training.json, with the bounds of the intervals; `@` is spelt out."""
    numbers: dict[str, Any] = {}
    if (folder / "metrics.json").exists():
        result = read_json(folder / "metrics.json")
        numbers |= result["metrics"]
        for name, (low, high) in result["intervals"].items():
            numbers |= {f"{name}.low": low, f"{name}.high": high}
    if (folder / "training.json").exists():
        numbers |= {f"training.{name}": value for name, value in read_json(folder / "training.json").items()}
    return {_metric_name(name): float(value) for name, value in numbers.items() if _is_number(value)}


def history(path: Path) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of every number in a history."""
    with open(path, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            step = int(row.pop("step"))
            yield from ((_metric_name(name), float(value), step) for name, value in row.items() if value)


def _metric_name(name: str) -> str:
    return name.replace("@", "_at_")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

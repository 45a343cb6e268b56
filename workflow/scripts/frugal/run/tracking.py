"""Experiment trackers: where those of a training write to.

Nothing leaves the machine unless the environment asks for it (`WANDB_MODE=online`, `MLFLOW_TRACKING_URI`, ...).
"""

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

from frugal.files import lock

STORE = Path("mlruns")
#: Tags in the store: which run this is, and which training of it.
RUN, CHECKPOINTS = "frugal.run", "frugal.checkpoints"


def store_uri(store: Path = STORE) -> str:
    """The address of the MLflow store in a folder."""
    return f"sqlite:///{store}/mlflow.db"


def prepare(trackers: Sequence[str], folder: Path, checkpoints: Path) -> None:
    """Tell the trackers of a training where to write, unless the environment does.

    Args:
        trackers: of `training.report_to`.
        folder: the run's results, `results/<study>/<experiment>/<variant>[/seeds/<seed>]`.
        checkpoints: where the training continues from; so does its run in MLflow.
    """
    name = run_name(folder)
    study, _, run = name.partition("/")
    if "tensorboard" in trackers:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", f"logs/tensorboard/{name}")
    if "wandb" in trackers:
        Path("logs").mkdir(exist_ok=True)  # a folder that is not there is not used
        for key, value in {
            "WANDB_MODE": "offline",
            "WANDB_DIR": "logs",
            "WANDB_PROJECT": f"frugal-{study}",
            "WANDB_RUN_GROUP": run.split("/")[0],
            "WANDB_CONSOLE": "off",
            "WANDB_SILENT": "true",
            "WANDB_ERROR_REPORTING": "false",
        }.items():
            os.environ.setdefault(key, value)
    if "mlflow" in trackers:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_TRACKING_URI", store_uri())
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", study)
        os.environ.setdefault("MLFLOW_TAGS", json.dumps({RUN: run, CHECKPOINTS: checkpoints.name}))
        if int(os.environ.get("RANK", 0)) == 0 and (begun := _begun(study, run, checkpoints)):
            os.environ.setdefault("MLFLOW_RUN_ID", begun)


def run_name(folder: Path) -> str:
    """`<study>/<experiment>/<variant>[/seeds/<seed>]` of a folder of results."""
    parts = folder.parts
    return "/".join(parts[-5:] if "seeds" in parts[-2:-1] else parts[-3:])


def _begun(study: str, run: str, checkpoints: Path) -> str | None:
    """The run of a training that ended before its end, which the next attempt goes on with."""
    client = open_store(os.environ["MLFLOW_TRACKING_URI"], study)
    if not any(checkpoints.glob("checkpoint-*")):
        return None
    experiment = client.get_experiment_by_name(study)
    wanted = f"tags.`{RUN}` = '{run}' and tags.`{CHECKPOINTS}` = '{checkpoints.name}'"
    found = client.search_runs([experiment.experiment_id], wanted, max_results=1)
    return found[0].info.run_id if found else None


def open_store(uri: str, study: str):
    """A client of the store, which has the study's experiment; of several processes one makes it at a time."""
    from mlflow import MlflowClient

    STORE.mkdir(exist_ok=True)
    with open(STORE / ".lock", "a", encoding="utf-8") as stream:
        lock(stream, fcntl.LOCK_EX)
        client = MlflowClient(tracking_uri=uri)
        if client.get_experiment_by_name(study) is None:
            client.create_experiment(study)
    return client

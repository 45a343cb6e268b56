"""What `dvc metrics` and `dvc plots` show: every run's figures and histories, gathered from the result files.

`dvc.yaml` names files one by one, and the study decides which runs there are: hence one folder of metrics, and one
table for each plot.
"""

from pathlib import Path

import pandas as pd

from frugal.files import atomic_path, read_json, write_json, write_text

#: plot -> the column of the histories that it shows
PLOTS = {"loss": "loss", "validation_loss": "eval_loss", "validation_ndcg": "NDCG@10"}
COLUMNS = ("experiment", "run", "step", "epoch")


def write_overview(results: Path, experiments: list[str]) -> None:
    """Write ``dvc/metrics/<experiment>/<run>.json`` and ``dvc/plots/<plot>.csv`` below a study's ``results``.

    The metrics are those of the run's metrics.json without intervals and provenance. The plots are tables in long form:
    a row for each logged step of each training.
    """
    with atomic_path(results / "dvc/metrics") as folder:
        for experiment in experiments:
            for file in sorted((results / experiment).glob("*/metrics.json")):
                write_json(folder / experiment / f"{file.parent.name}.json", read_json(file)["metrics"])
    histories = pd.concat([_history(file, results) for name in experiments for file in _histories(results / name)])
    for plot, value in PLOTS.items():
        rows = histories.reindex(columns=[*COLUMNS, value]).dropna(subset=value)
        write_text(results / f"dvc/plots/{plot}.csv", rows.to_csv(index=False, lineterminator="\n"))


def _histories(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*/history.csv"), *folder.glob("*/seeds/*/history.csv")])


def _history(file: Path, results: Path) -> pd.DataFrame:
    """A training's history, with its experiment and run; the seed where a run has several."""
    experiment, run, *seed = file.parent.relative_to(results).parts
    return pd.read_csv(file).assign(experiment=experiment, run=f"{run}, seed {seed[1]}" if seed else run)

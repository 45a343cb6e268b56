"""What `make repeat` repeats, and how it finds the runs whose results are not those of most."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from frugal.errors import FrugalError
from frugal.files import write_json

COLUMNS = "output_file\tdate\trule\tlog-file(s)\tinput-file(s)\tshellcmd\tstatus\tplan"
LOG = "logs/smoke/evaluate_movie_preference/base.log"


@pytest.fixture(scope="module")
def repeat():
    spec = importlib.util.spec_from_file_location("repeat", Path("tests/repeat/__main__.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job(repeat, command: str, *outputs: str):
    return repeat.Job("evaluate_movie_preference/base", "evaluate_movie_preference", command, list(outputs))


def test_trainings_and_evaluations_are_repeated_and_nothing_else(repeat):
    rows = [
        ("results/a.json", "x", "evaluate_movie_preference", LOG, "in", "python e.py", "ok", "-"),
        ("results/a.parquet", "x", "evaluate_movie_preference", LOG, "in", "python e.py", "ok", "-"),
        (
            "results/model",
            "x",
            "train_recommender",
            "logs/smoke/train_ssept/ssept/1.log",
            "in",
            "python t.py",
            "ok",
            "-",
        ),
        ("results/report.md", "x", "write_report", "-", "in", "python r.py", "ok", "-"),
        ("results/never", "-", "train_recommender", "-", "-", "-", "missing", "update pending"),
    ]
    jobs = repeat.repeatable("\n".join([COLUMNS, *map("\t".join, rows)]))
    assert [(each.name, each.command, each.outputs) for each in jobs] == [
        ("evaluate_movie_preference/base", "python e.py", ["results/a.json", "results/a.parquet"]),
        ("train_ssept/ssept/1", "python t.py", ["results/model"]),
    ]


def test_the_odd_run_is_named_even_where_it_is_the_first(repeat, tmp_path):
    runs = [tmp_path / str(number) for number in range(4)]
    for number, run in enumerate(runs):
        run.mkdir()
        write_json(run / "metrics.json", {"accuracy": 0.5, "seconds": number})  # times may differ
        probability = np.nextafter(0.5, 1) if number == 0 else 0.5
        pd.DataFrame({"p": [0.25, probability]}).to_parquet(run / "predictions.parquet")
    assert repeat.odd_ones(runs) == {1: ["predictions.parquet: differs"]}
    assert repeat.odd_ones(runs[1:]) == {}


def test_a_job_runs_again_from_its_inputs_alone(repeat, tmp_path):
    """Its outputs and checkpoints are gone before, and it has as many threads as asked for."""
    folder = tmp_path / "work"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / "results/out").write_text("old")
    command = "test ! -e checkpoints; test ! -e results/out; OMP_NUM_THREADS=8 sh -c"
    command += " 'echo $OMP_NUM_THREADS > results/out' 2>&1 | tee logs/a.log"
    repeat.repeat(job(repeat, command, "results/out"), folder, tmp_path / "kept", 3)
    assert (tmp_path / "kept/results/out").read_text() == "3\n"
    with pytest.raises(FrugalError, match="evaluate_movie_preference/base failed"):
        repeat.repeat(job(repeat, "echo no; false", "results/out"), folder, tmp_path / "kept", 1)

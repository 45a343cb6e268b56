"""A whole study of made-up results, and its report."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from frugal.claims.ledger import load_claims, make_ledger
from frugal.report import claims, tables
from frugal.report.contents import TABLES
from frugal.report.render import SECTIONS, Content, render
from frugal.report.results import Results
from frugal.report.study.layouts import LAYOUTS
from frugal.report.study.section import table_names

from .language_models import LANGUAGE_MODELS, make_language_models
from .preference import RUNS, make_preference
from .recommenders import RECOMMENDER_RULES, VARIANTS, make_recommender

ARGUMENTS = [f"movie_preference/{name}" for name in RUNS]
ARGUMENTS += [
    f"{experiment}/{name}"
    for experiment, variants in VARIANTS.items()
    for name in (*(f"baseline_{rule}" for rule in RECOMMENDER_RULES), *variants)
]
ARGUMENTS += [f"{experiment}/{name}" for experiment, (_, runs) in LANGUAGE_MODELS.items() for name in runs]

SERVER = {"processor": "Server CPU", "cores": 64, "memory_mb": 524288, "gpus": [{"name": "A GPU", "memory_mb": 81920}]}


def make_study(root: Path) -> Path:
    """A whole study below ``root``: results/trial and data/prepared. Returns the results folder."""
    folder = root / "results" / "trial" / "movie_preference"
    make_preference(folder)
    prepared = root / "data" / "prepared" / "movielens-100k"
    prepared.mkdir(parents=True)
    summary = {
        "rows_read": 100000, "rows_kept": 99990, "users": 943, "items": 1682, "density": 0.063,
        "ties_at_last_position": 415, "first_timestamp": 874724710,
        "inputs": {"ml-100k.inter": "c" * 64},
    }  # fmt: skip
    (prepared / "summary.json").write_text(json.dumps(summary))
    for experiment in VARIANTS:
        make_recommender(folder.parent / experiment)
    make_language_models(root)
    make_server(folder.parents[1])
    return folder.parent


def make_server(results: Path) -> None:
    """A part of the study once more, as if a machine with a GPU had run it: its figures are others."""
    for run in ("wikitext/base", "wikitext/tuned", "ssept/ssept", "ssept/baseline_ease"):
        source, target = results / "trial" / run, results / "server" / run
        shutil.copytree(source, target)
        record = json.loads((source / "metrics.json").read_text())
        record["provenance"]["hardware"] = SERVER
        if record["training"]:
            record["training"] |= {"seconds": record["training"]["seconds"] / 30, "peak_device_mb": 2100.5}
            for speed in {"tokens_per_second", "target_positions_per_second"} & record["training"].keys():
                record["training"][speed] *= 30
        (target / "metrics.json").write_text(json.dumps(record))
    settings = yaml.safe_load((results / "server/wikitext/tuned/config.yaml").read_text())
    (results / "server/wikitext/tuned/config.yaml").write_text(yaml.safe_dump(settings | {"seed": 7}))


def options(root: Path) -> list[str]:
    """The options that all three scripts share, for a study that `make_study` made."""
    results, data = root / "results" / "trial", root / "data"
    return [
        "--results",
        str(results),
        "--study",
        "trial",
        "--data",
        str(data),
        "--efficiency",
        "bert4rec",
        "--ladder",
        "climate",
        *(["--compare", f"a server={root / 'results' / 'server'}"] if (root / "results" / "server").exists() else []),
        "--runs",
        *ARGUMENTS,
    ]


def write_report_of(root: Path, folder: Path) -> None:
    """The three scripts, one after the other, in this process."""
    import make_tables
    import plot_figures
    import write_report

    for script, more in (
        (make_tables, ["--output", str(folder / "tables")]),
        (plot_figures, ["--output", str(folder / "figures")]),
        (write_report, ["--report", str(folder)]),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [script.__name__, *options(root), *more])
            script.main()


def markdown_of(results: Results, folder: Path) -> str:
    """report.md of the tables and figures in ``folder``, and of the result files that are there now."""
    experiments = {
        experiment: {name: tables.load(name, SECTIONS[experiment].LAYOUTS[name], folder / "tables") for name in names}
        for experiment, names in TABLES.items()
    }
    study = {name: tables.load(name, LAYOUTS[name], folder / "tables") for name in table_names(results)}
    ledger = claims.build(make_ledger(load_claims("config/claims.yaml"), results.root))
    return render(Content(results, folder, experiments, study, ledger), "md")

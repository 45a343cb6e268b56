"""Whole studies of synthetic results, and their reports."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from frugal.claims.ledger import load_claims, make_ledger
from frugal.config.registry import load_datasets
from frugal.config.study import Study, dump_yaml, load_study
from frugal.files import write_json, write_text
from frugal.kinds import LANGUAGE_MODELING, PREFERENCE
from frugal.report.contents import describe, reproduces_any
from frugal.report.frames import build
from frugal.report.render import load, render
from frugal.report.results import Results
from frugal.report.tables import Table

from .language_modeling import make_documents, make_language_modeling
from .preference import make_preference
from .recommendation import make_recommendation

#: The study that most tests are about; its name is `trial`.
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "movie_preference": {
        "kind": "preference", "title": "Movie preference", "reproduces": "movie_preference",
        "dataset": "movielens-100k", "base_model": "smollm2-135m-instruct",
        "variants": {
            "tuned": {}, "always_a": {"pairs": {"answer_position": "always_a"}},
            "next_film": {"pairs": {"format": "next_item"}},
        },
    },
    "ssept": {
        "kind": "recommendation", "title": "SSE-PT", "reproduces": "ssept", "dataset": "movielens-100k",
        "seeds": [1, 2], "evaluation": {"cutoffs": [5, 10]},
        "model": {"architecture": "ssept", "positions": "rotary", "score": "cosine", "user_embedding_size": 32},
        "variants": {
            "ssept": {}, "without_sse": {"model": {"sse_user_probability": 0, "sse_item_probability": 0}},
            "retrained": {"warm_start": {"path": "SSE_PT_tf.pth"}},
        },
    },
    "bert4rec": {
        "kind": "recommendation", "title": "BERT4Rec", "reproduces": "bert4rec", "dataset": "movielens-100k",
        "seeds": [1, 2], "model": {"architecture": "bert4rec", "positions": "rotary", "score": "cosine"},
        "efficiency": {"item_count": 100, "sizes": {"1m": {}, "5m": {}}},
        "variants": {
            "bert4rec": {}, "large": {"model": {"hidden_size": 128}},
            "sampled_loss": {"loss": {"name": "sampled_softmax", "negatives": 100}},
            "sasrec": {"model": {"architecture": "sasrec"}},
            "lora": {"adapter": {"method": "lora", "r": 8}, "warm_start": {"variant": "bert4rec"}},
            "ilora": {
                "seeds": [1], "adapter": {"method": "ilora", "r": 8, "experts": 4},
                "warm_start": {"variant": "bert4rec"},
            },
            "by_time": {"data": {"split": "global_time", "test_share": 0.1}},
        },
    },
    "wikitext": {
        "kind": "language_modeling", "title": "Language model on Wikipedia text", "reproduces": "wikitext",
        "dataset": "wikipedia-sample", "base_model": "smollm2-135m-instruct",
        "variants": {"tuned": {}, "no_dropout": {}},
    },
    "climate": {
        "kind": "language_modeling", "title": "Language model on climate documents", "reproduces": "climate",
        "dataset": "climate-chapters", "base_model": "smollm2-135m-instruct", "ladder": {},
    },
}  # fmt: skip
TEXTS = {
    "lora": {"r": 8, "lora_alpha": 32, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "prompts": {"texts": ["The sea is", "Ice melts when"]},
    "rating": {"sheets": ["sheet-1.csv", "sheet-2.csv"]},
}
for _name in ("wikitext", "climate"):
    EXPERIMENTS[_name] |= copy.deepcopy(TEXTS)

SERVER = {"processor": "Server CPU", "cores": 64, "memory_mb": 524288, "gpus": [{"name": "A GPU", "memory_mb": 81920}]}
DATASETS = load_datasets("config/datasets.yaml")


def settings(*names: str, **experiments: dict[str, Any]) -> dict[str, Any]:
    """A configuration of these experiments of `EXPERIMENTS` (all, where none is given) and of others."""
    chosen = {name: EXPERIMENTS[name] for name in names or ({} if experiments else EXPERIMENTS)}
    return copy.deepcopy({"study": "trial", "experiments": chosen | experiments})


def results_of(root: Path, config: dict[str, Any] | None = None) -> Results:
    """The results of a study below ``root``, with those of a server beside them where they are there."""
    config, server = config or settings(), root / "results" / "server"
    if server.exists():
        config = config | {"report": {"compare": {"a server": str(server)}, **config.get("report", {})}}
    described = describe(load_study(config, "synthetic.yaml"))
    return Results(root / "results" / config["study"], described, root / "data")


def make_study(root: Path, config: dict[str, Any] | None = None) -> Path:
    """A whole study below ``root``: results/trial, data/prepared and data/blocks. Returns the results' folder."""
    study = load_study(config or settings(), "synthetic.yaml")
    folder = root / "results" / study.name
    for name, experiment in study.experiments.items():
        if experiment.kind is PREFERENCE:
            make_preference(folder / name, experiment)
        elif experiment.kind is LANGUAGE_MODELING:
            make_language_modeling(folder / name, experiment, root / "data" / "blocks" / study.name / name)
        else:
            make_recommendation(folder / name, experiment)
    _make_data(root / "data" / "prepared", study)
    return folder


def _make_data(prepared: Path, study: Study) -> None:
    summary = {
        "rows_read": 100000, "rows_kept": 99990, "users": 943, "items": 1682, "density": 0.063,
        "ties": {"order": "random", "seed": 0, "users_at_end": 415, "at_end": 0.44, "elsewhere": 0.25},
        "first_timestamp": 874724710,
        "inputs": {"ml-100k.inter": "c" * 64},
    }  # fmt: skip
    for experiment in study.experiments.values():
        for name in {run.dataset for run in (experiment.shared, *experiment.runs.values())}:
            if experiment.kind.reads == "documents":
                make_documents(prepared / name)
            else:
                write_json(prepared / name / "summary.json", summary)


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
    config = yaml.safe_load((results / "server/wikitext/tuned/config.yaml").read_text())
    (results / "server/wikitext/tuned/config.yaml").write_text(yaml.safe_dump(config | {"seed": 7}))


def describe_study(results: Results) -> Path:
    """Write the study.yaml of a study; returns its path."""
    path = results.root / "study.yaml"
    write_text(path, dump_yaml(results.described))
    return path


def options(results: Results) -> list[str]:
    """The options that all three scripts share."""
    return ["--study", str(describe_study(results)), "--data", str(results.data)]


def write_report_of(results: Results, folder: Path) -> Path:
    """The three scripts, one after the other, in this process; returns ``folder``, which takes the report."""
    import make_tables
    import plot_figures
    import write_report

    for script, more in (
        (make_tables, ["--output", str(folder / "tables")]),
        (plot_figures, ["--output", str(folder / "figures")]),
        (write_report, ["--report", str(folder)]),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [script.__name__, *options(results), *more])
            script.main()
    return folder


def ledger_of(results: Results) -> pd.DataFrame | None:
    """The claims ledger of a study."""
    if not reproduces_any(results.described):
        return None
    return make_ledger(load_claims("config/claims.yaml"), results.root, results.described)


def markdown_of(results: Results, folder: Path) -> str:
    """report.md of the tables and figures in ``folder``, and of the result files that are there now."""
    return render(load(results, folder, ledger_of(results)), "md")


# What tests ask of one experiment.


def tables_of(results: Results, experiment: str) -> dict:
    one = results.experiments[experiment]
    return {part: build(part, one) for part in one.tables}


def table(results: Results, experiment: str, part: str) -> Table:
    return build(part, results.experiments[experiment])


def draw(results: Results, experiment: str, part: str) -> Figure:
    one = results.experiments[experiment]
    return one.section.DRAWINGS[part].draw(one)


def rows(results: Results, experiment: str, part: str) -> pd.DataFrame:
    return table(results, experiment, part).frame.set_index("run")


def sentences(results: Results, experiment: str) -> str:
    """What the report finds."""
    one = results.experiments[experiment]
    return " ".join(one.section.findings(one, tables_of(results, experiment)))


def change(path: Path, **parts) -> None:
    """Replace parts of a JSON file."""
    write_json(path, json.loads(path.read_text()) | parts)


def reconfigure(path: Path, **parts) -> None:
    """Change settings in a YAML file, section by section."""
    config = yaml.safe_load(path.read_text())
    for name, value in parts.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config))

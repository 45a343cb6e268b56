"""A small synthetic study on disk, and its report."""

import importlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from frugal.report.claims import LAYOUTS as CLAIMS
from frugal.report.render import SECTIONS
from frugal.report.results import Results
from frugal.report.study.layouts import LAYOUTS as STUDY

# What several tests share: made-up results here; tracing and the browser at the top, for other folders too.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
made_up, language_models, plain_text, preference, whole = (
    importlib.import_module(name)
    for name in (
        "made_up",
        "made_up.language_models",
        "made_up.plain_text",
        "made_up.preference",
        "made_up.study",
    )
)


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """The root of a study with all its results."""
    root = tmp_path_factory.mktemp("study")
    whole.make_study(root)
    return root


@pytest.fixture(scope="session")
def synthetic() -> SimpleNamespace:
    """What the tests need to make studies and reports of their own."""
    return SimpleNamespace(
        options=whole.options,
        predictions=preference.predictions,
        runs=whole.ARGUMENTS,
        hostile=made_up.HOSTILE,
        write=whole.write_report_of,
        scored=language_models.scored,
    )


@pytest.fixture(scope="session")
def written(study) -> Path:
    """The study's report folder, written once."""
    folder = study / "results" / "trial" / "report"
    whole.write_report_of(study, folder)
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """The root of a study of the experiments on plain text alone."""
    root = tmp_path_factory.mktemp("plain")
    language_models.make_language_models(root)
    return root


@pytest.fixture
def plain_results(plain) -> Results:
    return plain_text.results_of(plain)


@pytest.fixture
def plain_copy(plain, tmp_path) -> Results:
    """The same study where files may be changed."""
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    return plain_text.results_of(tmp_path)


@pytest.fixture(scope="session")
def layouts() -> dict[str, dict[str, str]]:
    """Table -> heading -> column of its CSV file."""
    layouts = CLAIMS | STUDY | {name: layout for module in SECTIONS.values() for name, layout in module.LAYOUTS.items()}
    return {name: {column.label: column.name for column in layout.columns} for name, layout in layouts.items()}


@pytest.fixture
def always_resampled(monkeypatch):
    """Few cases are resampled as well: so few that all their samples can be written down."""
    monkeypatch.setattr("frugal.report.statistics.FEW", 0)


@pytest.fixture(autouse=True)
def _closed_figures():
    """Figures that a test has drawn do not outlive it."""
    yield
    plt.close("all")

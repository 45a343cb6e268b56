"""A small synthetic study on disk, and its report."""

import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

# What several tests share: synthetic results here; tracing and the browser at the top, for other folders too.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from synthetic.study import make_server, make_study, results_of, settings, write_report_of  # noqa: E402

from frugal.report.results import Results  # noqa: E402


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """The root of a study with all its results, and of a part of them from another machine."""
    root = tmp_path_factory.mktemp("study")
    make_server(make_study(root).parent)
    return root


@pytest.fixture
def results(study) -> Results:
    return results_of(study)


@pytest.fixture
def copy(study, tmp_path) -> Results:
    """The same study where files may be changed; what was read of them before stays as it was."""
    shutil.copytree(study / "results", tmp_path / "results", ignore=shutil.ignore_patterns("report"))
    shutil.copytree(study / "data", tmp_path / "data")
    return results_of(tmp_path)


@pytest.fixture
def empty(tmp_path) -> Results:
    """The same study without any result."""
    return results_of(tmp_path / "nothing")


@pytest.fixture(scope="session")
def written(study) -> Path:
    """The study's report folder, written once."""
    return write_report_of(results_of(study), study / "results" / "trial" / "report")


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    """The root of a study of the experiments on plain text alone."""
    root = tmp_path_factory.mktemp("texts")
    make_study(root, settings("wikitext", "climate"))
    return root


@pytest.fixture
def always_resampled(monkeypatch):
    """Few cases are resampled as well: so few that all their samples can be written down."""
    monkeypatch.setattr("frugal.stats.FEW", 0)


@pytest.fixture(autouse=True)
def _closed_figures():
    """Figures that a test has drawn do not outlive it."""
    yield
    plt.close("all")

"""Figures: one style, and files whose bytes depend on nothing but what is drawn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal.files import atomic_path
from frugal.report.contents import FIGURE_FORMATS
from frugal.report.results import Results

#: Points; text must be readable when the figure is as wide as a page.
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.edgecolor": "#5f6672",
    "axes.labelcolor": "#23272f",
    "grid.color": "#e4e7ec",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "svg.fonttype": "path",  # the same letters wherever the file is shown
    "svg.hashsalt": "frugal",  # element ids would differ from run to run
    "pdf.fonttype": 42,
}
# Dates and versions out of the files: the same results give the same bytes.
METADATA = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
WIDTH = 7.2
QUIET = "#8a919c"


@dataclass(frozen=True)
class Drawing:
    """A figure: how it is drawn, what it is made of, and what is said below it."""

    draw: Callable[[Results], Figure]
    needs: tuple[str, ...]
    caption: str


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures: white grid, a palette that colour-blind people can tell apart."""
    with plt.rc_context():
        sns.set_theme(style="whitegrid", palette="colorblind", rc=STYLE)
        yield


def colours(names: list[str]) -> dict[str, tuple[float, float, float]]:
    """A colour for each name, by its place."""
    return dict(zip(names, sns.color_palette("colorblind", max(len(names), 1)), strict=False))


def say_missing(axes: Axes, text: str = "missing") -> None:
    """Write in the middle of empty axes that there is nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET, style="italic")
    axes.grid(False)


def draw_intervals(axes: Axes, values: list[float], bounds: list[list[float] | None], places, **look) -> None:
    """Values at heights ``places``, each with its interval where it has one."""
    points = np.array(values, dtype=float)
    lower, upper = np.array([b or (v, v) for v, b in zip(values, bounds, strict=True)]).reshape(-1, 2).T
    # A percentile interval may leave out its own point by a hair; a bar cannot be negative.
    spread = np.clip([points - lower, upper - points], 0, None)
    axes.errorbar(points, places, xerr=spread, markersize=6, elinewidth=1.6, capsize=0, **look)


def name_rows(axes: Axes, names: list[str]) -> None:
    """Rows from top to bottom: the first name stands highest."""
    axes.set_yticks(range(len(names))[::-1], names)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.grid(axis="y", visible=False)


def save(figure: Figure, name: str, folder: Path) -> None:
    """Write <name>.svg and .pdf, and close the figure."""
    for extension in FIGURE_FORMATS:
        with atomic_path(folder / f"{name}.{extension}") as temporary:
            figure.savefig(temporary, format=extension, metadata=METADATA[extension], bbox_inches="tight")
    plt.close(figure)

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
from matplotlib.lines import Line2D

from frugal.files import atomic_path
from frugal.report.contents import FIGURE_FORMATS
from frugal.report.results import ExperimentResults, Run

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
#: Role of a system -> its name in a legend, and its marker.
ROLES = {"trained": ("trained model", "o"), "untuned": ("untuned model", "o"), "baseline": ("baseline", "s")}


@dataclass(frozen=True)
class Drawing:
    """A figure: how it is drawn, what it is made of, and what is said below it."""

    draw: Callable[[ExperimentResults], Figure]
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


def draw_systems(runs: list[Run], metrics: dict[str, str]) -> tuple[Figure, Axes]:
    """Metrics with their intervals, a row a system; of a single metric each seed's value too.

    Args:
        metrics: metric -> its name in the legend.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.44 * max(len(runs), 2)))
    palette, single, handles = colours(list(metrics)), len(metrics) == 1, {}
    for y, run in zip(range(len(runs))[::-1], runs, strict=True):
        for place, (metric, name) in enumerate(metrics.items()):
            at, marker, colour = y + (0 if single else 0.14 - 0.28 * place), "os"[place], palette[metric]
            if single:
                name, marker = ROLES[run.role]
                colour = colour if run.role == "trained" else QUIET
            if metric not in run.metrics:
                axes.annotate(
                    "missing", (0.02, at), xycoords=("axes fraction", "data"), va="center", color=QUIET, style="italic"
                )
                continue
            value = run.metrics[metric]
            lower, upper = run.intervals.get(metric) or (value, value)
            # A percentile interval may leave out its own point by a hair; a bar cannot be negative.
            spread = [[max(value - lower, 0)], [max(upper - value, 0)]]
            axes.errorbar([value], [at], xerr=spread, fmt=marker, color=colour, markersize=6, elinewidth=1.6, capsize=0)
            handles[name] = Line2D([], [], marker=marker, color=colour, label=name)
            seeds = [one[metric] for one in run.by_seed.values() if metric in one]
            if single and len(seeds) > 1:
                axes.scatter(seeds, np.full(len(seeds), at - 0.27), s=12, color=colour, alpha=0.7, linewidths=0)
                handles["one seed"] = Line2D(
                    [], [], marker="o", markersize=3.5, linestyle="", color=colour, label="one seed"
                )
    name_rows(axes, [run.label for run in runs])
    below = -0.62 / max(figure.get_figheight() - 0.9, 1)
    if handles:
        axes.legend(handles=list(handles.values()), loc="upper center", bbox_to_anchor=(0.45, below), ncols=4)
    sns.despine(figure, left=True)
    return figure, axes


def name_rows(axes: Axes, names: list[str]) -> None:
    """Rows from top to bottom: the first name stands highest."""
    axes.set_yticks(range(len(names))[::-1], names)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.grid(axis="y", visible=False)


def loss(experiment: ExperimentResults) -> Figure:
    """Training and validation loss by tokens, or by steps where tokens are not counted; a dot at the best validation.

    A colour is a run, the training's line thin and the validation's dashed.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 4.0))
    drawn = [run for run in experiment.trained if run.history is not None and "loss" in run.history]
    tokens = all("num_input_tokens_seen" in run.history for run in drawn)
    x, palette = "num_input_tokens_seen" if tokens else "step", colours([run.name for run in experiment.trained])
    handles = [Line2D([], [], color=palette[run.name], label=run.label) for run in drawn]
    validated = False
    for run in drawn:
        training, colour = run.history.dropna(subset=["loss"]), palette[run.name]
        axes.plot(training[x], training["loss"], color=colour, linewidth=1.2, alpha=0.6)
        if "eval_loss" in run.history and run.history["eval_loss"].notna().any():
            validated, validation = True, run.history.dropna(subset=["eval_loss"])
            best = validation.loc[validation["eval_loss"].idxmin()]
            axes.plot(validation[x], validation["eval_loss"], "--", color=colour, linewidth=1.8)
            axes.plot(best[x], best["eval_loss"], "o", color=colour, markersize=6)
    if validated:
        handles += [
            Line2D([], [], color=QUIET, linewidth=1.2, label="training"),
            Line2D([], [], color=QUIET, linewidth=1.8, linestyle="--", label="validation"),
            Line2D([], [], color=QUIET, marker="o", linestyle="", label="best validation"),
        ]
    if drawn:
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=4)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.locator_params(axis="x", nbins=6)
    else:
        say_missing(axes)
    axes.set(xlabel="tokens trained on" if tokens else "optimiser step", ylabel="loss (nats per token)")
    sns.despine(figure)
    return figure


def save(figure: Figure, name: str, folder: Path) -> None:
    """Write <name>.svg and .pdf, and close the figure."""
    for extension in FIGURE_FORMATS:
        with atomic_path(folder / f"{name}.{extension}") as temporary:
            figure.savefig(temporary, format=extension, metadata=METADATA[extension], bbox_inches="tight")
    plt.close(figure)

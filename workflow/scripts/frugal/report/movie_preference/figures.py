"""The figures of the `movie_preference` experiment, from its result files."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from frugal.report.figures import QUIET, WIDTH, Drawing, colours, draw_intervals, name_rows, say_missing
from frugal.report.movie_preference.tables import EXPERIMENT, has_options, label
from frugal.report.results import Results


def loss(results: Results) -> Figure:
    """Training loss by optimiser step, a line a trained run."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
    runs = [run for run in results.trained(EXPERIMENT) if run.history is not None]
    histories = [run.history.assign(run=label(run)) for run in runs]
    if histories:
        palette = colours([label(run) for run in results.trained(EXPERIMENT)])
        few = all(len(history) <= 60 for history in histories)
        sns.lineplot(
            pd.concat(histories),
            x="step",
            y="loss",
            hue="run",
            style="run",
            palette=palette,
            markers=few,
            dashes=False,
            markeredgewidth=0,
            ax=axes,
        )
        axes.set_ylim(bottom=0)
        axes.legend(title=None)
    else:
        say_missing(axes)
    axes.set(xlabel="optimiser step", ylabel="training loss (nats per token)")
    sns.despine(figure)
    return figure


def accuracy(results: Results) -> Figure:
    """Accuracy of each system with its interval, on easy and on hard pairs."""
    runs = results.of(EXPERIMENT)
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.48 * max(len(runs), 2)))
    places = np.arange(len(runs))[::-1]
    palette = colours(["easy", "hard"])
    for kind, shift, marker in (("easy", 0.14, "o"), ("hard", -0.14, "s")):
        name = f"accuracy_{kind}"
        known = [(run, y + shift) for run, y in zip(runs, places, strict=True) if name in run.metrics]
        values, bounds = ([getattr(run, part).get(name) for run, _ in known] for part in ("metrics", "intervals"))
        look = {"fmt": marker, "color": palette[kind], "label": f"{kind} pairs"}
        draw_intervals(axes, values, bounds, [y for _, y in known], **look)
    for run, y in zip(runs, places, strict=True):
        if not run.metrics:
            axes.text(0.5, y, "  missing", ha="left", va="center", color=QUIET, style="italic")
    axes.axvline(0.5, color="#5f6672", linewidth=1, linestyle="--", zorder=0)
    axes.annotate(
        "guessing", (0.5, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
        ha="center", fontsize=9, color="#5f6672",
    )  # fmt: skip
    axes.set(xlabel="accuracy (share of questions answered rightly), with 95 % intervals")
    name_rows(axes, [label(run) for run in runs])
    axes.set_xlim(*_limits(axes.get_xlim()))
    below = -0.62 / max(figure.get_figheight() - 0.9, 1)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=2)
    sns.despine(figure, left=True)
    return figure


def _limits(drawn: tuple[float, float]) -> tuple[float, float]:
    """The x-axis: what is drawn, with the line at one half always in sight."""
    return max(min(drawn[0], 0.4), -0.02), min(max(drawn[1], 0.7), 1.02)


def position_bias(results: Results) -> Figure:
    """How P(A) is distributed, apart for questions whose right answer is A and B; a panel a model."""
    runs = [run for run in results.of(EXPERIMENT) if run.role != "rule" and has_options(run)]
    columns = min(max(len(runs), 1), 3)
    rows = -(-max(len(runs), 1) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(WIDTH, 2.7 * rows + 0.4), sharex=True, squeeze=False)
    palette = colours(["A", "B"])
    for axes, run in zip(panels.flat, runs, strict=False):
        axes.set_title(label(run))
        if run.predictions is None:
            say_missing(axes)
            continue
        sns.histplot(
            _questions(run.predictions),
            x="p_a",
            hue="right answer",
            palette=palette,
            bins=np.linspace(0, 1, 21),
            stat="proportion",
            common_norm=False,
            element="step",
            alpha=0.35,
            legend=False,
            ax=axes,
        )
        axes.axvline(0.5, color="#5f6672", linewidth=1, linestyle="--", zorder=0)
    if not runs:
        say_missing(panels[0, 0])
    for axes in panels.flat[max(len(runs), 1) :]:
        axes.set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour, alpha=0.6) for colour in palette.values()]
    figure.legend(
        handles, [f"right answer is {name}" for name in palette], loc="upper center", ncols=2,
        bbox_to_anchor=(0.5, 0.02),
    )  # fmt: skip
    for axes in panels.flat:
        axes.set(xlim=(0, 1), xlabel="", ylabel="")
        axes.tick_params(labelbottom=True)  # a panel of the upper row may have none below it
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    figure.supxlabel("P(A), probability of answering A", fontsize=11)
    figure.supylabel("share of questions", fontsize=11)
    figure.tight_layout()
    sns.despine(figure)
    return figure


def _questions(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a question: P(A), and which answer is right."""
    return pd.DataFrame(
        {
            "p_a": np.concatenate([predictions["p_liked_a"], predictions["p_liked_b"]]),
            "right answer": ["A"] * len(predictions) + ["B"] * len(predictions),
        }
    )


DRAWINGS = {
    "movie_preference_accuracy": Drawing(
        accuracy,
        ("metrics.json",),
        "Accuracy of every system on easy pairs (the negative shares no genre with the history) and hard "
        "pairs (the negative is as popular as the liked film), with 95 % intervals over resampled users.",
    ),
    "movie_preference_position_bias": Drawing(
        position_bias,
        ("predictions.parquet",),
        "Probability of answering A, apart for questions whose right answer is A and B. A model that knows "
        "the answer keeps the two apart; one that has learnt a position piles both up at one end.",
    ),
    "movie_preference_loss": Drawing(
        loss,
        ("history.csv",),
        "Training loss by optimiser step. Runs on different answers are not comparable by their loss: "
        "an answer that is always A costs nothing.",
    ),
}

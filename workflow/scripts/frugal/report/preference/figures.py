"""The figures of an experiment on preferences, from its result files."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from frugal.report.figures import WIDTH, Drawing, colours, draw_systems, loss, say_missing
from frugal.report.preference.tables import has_options
from frugal.report.results import ExperimentResults


def accuracy(experiment: ExperimentResults) -> Figure:
    """Accuracy of each system with its interval, on easy and on hard pairs."""
    figure, axes = draw_systems(experiment.runs, {"accuracy_easy": "easy pairs", "accuracy_hard": "hard pairs"})
    axes.axvline(0.5, color="#5f6672", linewidth=1, linestyle="--", zorder=0)
    axes.annotate(
        "guessing", (0.5, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
        ha="center", fontsize=9, color="#5f6672",
    )  # fmt: skip
    axes.set(xlabel="accuracy (share of questions answered rightly), with 95 % intervals")
    left, right = axes.get_xlim()  # the line at one half is always in sight
    axes.set_xlim(max(min(left, 0.4), -0.02), min(max(right, 0.7), 1.02))
    return figure


def position_bias(experiment: ExperimentResults) -> Figure:
    """How P(A) is distributed, apart for questions whose right answer is A and B; a panel a model."""
    runs = [run for run in experiment.runs if run.role != "baseline" and has_options(run)]
    columns = min(max(len(runs), 1), 3)
    rows = -(-max(len(runs), 1) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(WIDTH, 2.7 * rows + 0.4), sharex=True, squeeze=False)
    palette = colours(["A", "B"])
    for axes, run in zip(panels.flat, runs, strict=False):
        axes.set_title(run.label)
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
    "accuracy": Drawing(
        accuracy,
        ("metrics.json",),
        "Accuracy of every system on easy pairs (the negative shares no attribute with the history) and hard "
        "pairs (the negative is as popular as the liked item), with 95 % intervals over resampled users.",
    ),
    "position_bias": Drawing(
        position_bias,
        ("predictions.parquet",),
        "Probability of answering A, apart for questions whose right answer is A and B. A model that knows "
        "the answer keeps the two apart; one that has learned a position piles both up at one end.",
    ),
    "loss": Drawing(
        loss,
        ("history.csv",),
        "Training loss. Runs on different answers are not comparable by their loss: "
        "an answer that is always A costs nothing.",
    ),
}

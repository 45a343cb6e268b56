"""The figures of an experiment on plain text, from its result files."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from frugal.report.contents import LADDER
from frugal.report.figures import QUIET, WIDTH, Drawing, colours, draw_systems, loss, name_rows, say_missing
from frugal.report.language_modeling.tables import PARTS, comparable, ladder
from frugal.report.results import ExperimentResults


def perplexity(experiment: ExperimentResults) -> Figure:
    """Perplexity of each system with its interval."""
    figure, axes = draw_systems(comparable(experiment), {"perplexity": "perplexity"})
    axes.set_xlabel("perplexity on the test documents, with 95 % intervals (lower is better)")
    axes.locator_params(axis="x", nbins=7)
    axes.margins(x=0.1)
    return figure


def memory(experiment: ExperimentResults) -> Figure:
    """Memory by rung, the estimate split into its parts and the measurement beside it; and the speed."""
    rows = ladder(experiment)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 1.3 + 0.36 * max(len(rows), 3)), sharey=True, width_ratios=(2, 1)
    )
    accent = colours(["speed"])["speed"]
    palette = dict(zip(PARTS, sns.color_palette("colorblind", len(PARTS)), strict=True))
    for y, row in zip(range(len(rows))[::-1], rows, strict=True):
        start = 0.0
        for part in PARTS:
            left.barh(y, row.get(part) or 0, left=start, height=0.62, color=palette[part], linewidth=0)
            start += row.get(part) or 0
        if row.get("peak_mb") is not None:
            left.plot(row["peak_mb"], y, "D", color="#1d2129", markersize=6, markeredgecolor="white")
        for axes, name, x in ((left, "peak_mb", start), (right, "tokens_per_second", 0)):
            if row.get(name) is None:
                axes.text(x, y, " failed" if row.get("error") else " missing", va="center", fontsize=9, color=QUIET)
        right.barh(y, row.get("tokens_per_second") or 0, height=0.62, color=accent, linewidth=0)
    name_rows(left, [row["rung"].replace("_", " ") for row in rows])
    right.grid(axis="y", visible=False)
    left.set_xlabel("peak memory (MB)")
    right.set_xlabel("tokens per second")
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        if not rows:
            say_missing(axes)
    if rows:
        handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in palette.values()]
        handles.append(Line2D([], [], marker="D", linestyle="", color="#1d2129"))
        names = [*(f"{part.replace('optimizer', 'optimiser')} (estimate)" for part in PARTS), "measured"]
        figure.legend(handles, names, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 0.0))
    figure.tight_layout()
    sns.despine(figure, left=True)
    return figure


DRAWINGS = {
    "perplexity": Drawing(
        perplexity,
        ("config.yaml", "metrics.json"),
        "Perplexity on the test documents, with 95 % intervals over resampled documents. The intervals hold for each "
        "system by itself; whether two differ is told by the paired test.",
    ),
    "loss": Drawing(
        loss,
        ("history.csv",),
        "Loss on the training blocks (thin lines) and on the validation documents (dashed) by tokens trained on, with "
        "a dot at the best validation loss.",
    ),
    "ladder": Drawing(
        memory,
        (LADDER,),
        "The memory ladder, each rung with all savings above it: estimated memory by its parts, the measured peak as "
        "a diamond, and the speed. Where loading needs more than training, the weights include the file that they are "
        "made from.",
    ),
}

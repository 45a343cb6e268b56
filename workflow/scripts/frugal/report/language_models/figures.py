"""The figures of the experiments on plain text, from their result files."""

from functools import partial

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from frugal.report.contents import FIGURES, LANGUAGE_MODELS
from frugal.report.figures import QUIET, WIDTH, Drawing, colours, draw_intervals, name_rows, say_missing
from frugal.report.language_models.tables import PARTS, comparable, label, ladder
from frugal.report.results import LADDER, Results


def perplexity(results: Results, experiment: str) -> Figure:
    """Perplexity of each system with its interval."""
    runs = comparable(results, experiment)
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.48 * max(len(runs), 2)))
    accent = colours(["model"])["model"]
    for y, run in zip(range(len(runs))[::-1], runs, strict=True):
        if "perplexity" not in run.metrics:
            axes.annotate(
                "missing", (0.02, y), xycoords=("axes fraction", "data"), va="center", color=QUIET, style="italic"
            )
            continue
        bounds, colour = run.intervals.get("perplexity"), QUIET if run.role == "untuned" else accent
        draw_intervals(axes, [run.metrics["perplexity"]], [bounds], [y], fmt="o", color=colour)
    name_rows(axes, [label(run) for run in runs])
    axes.set_xlabel("perplexity on the test documents, with 95 % intervals (lower is better)")
    axes.locator_params(axis="x", nbins=7)
    axes.margins(x=0.1)
    sns.despine(figure, left=True)
    return figure


def loss(results: Results, experiment: str) -> Figure:
    """Training and validation loss by tokens, a colour a run; a dot at the best validation loss."""
    figure, axes = plt.subplots(figsize=(WIDTH, 4.0))
    runs = results.trained(experiment)
    palette, drawn = colours([run.name for run in runs]), []
    for run in runs:
        history = run.history
        if history is None or not {"num_input_tokens_seen", "loss"} <= set(history):
            continue
        drawn.append(run)
        training, colour = history.dropna(subset=["loss"]), palette[run.name]
        axes.plot(training["num_input_tokens_seen"], training["loss"], color=colour, linewidth=1.2, alpha=0.6)
        validation = history.dropna(subset=["eval_loss"]) if "eval_loss" in history else history.iloc[:0]
        if len(validation):
            axes.plot(validation["num_input_tokens_seen"], validation["eval_loss"], "--", color=colour, linewidth=1.8)
            best = validation.loc[validation["eval_loss"].idxmin()]
            axes.plot(best["num_input_tokens_seen"], best["eval_loss"], "o", color=colour, markersize=6)
    if drawn:
        handles = [Line2D([], [], color=palette[run.name], label=label(run)) for run in drawn]
        handles += [
            Line2D([], [], color=QUIET, linewidth=1.2, label="training"),
            Line2D([], [], color=QUIET, linewidth=1.8, linestyle="--", label="validation"),
            Line2D([], [], color=QUIET, marker="o", linestyle="", label="best validation"),
        ]
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=4)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.locator_params(axis="x", nbins=6)
    else:
        say_missing(axes)
    axes.set(xlabel="tokens trained on", ylabel="loss (nats per token)")
    sns.despine(figure)
    return figure


def memory(results: Results, experiment: str) -> Figure:
    """Memory by rung, the estimate split into its parts and the measurement beside it; and the speed."""
    rows = ladder(results, experiment)
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
            say_missing(axes, "missing" if experiment in results.ladder else "not asked for")
    if rows:
        handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in palette.values()]
        handles.append(Line2D([], [], marker="D", linestyle="", color="#1d2129"))
        names = [*(f"{part.replace('optimizer', 'optimiser')} (estimate)" for part in PARTS), "measured"]
        figure.legend(handles, names, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 0.0))
    figure.tight_layout()
    sns.despine(figure, left=True)
    return figure


KINDS = {
    "perplexity": (
        perplexity,
        ("config.yaml", "metrics.json"),
        "Perplexity on the test documents, with 95 % intervals over resampled documents. The intervals hold for each "
        "system by itself; whether two differ is told by the paired test.",
    ),
    "loss": (
        loss,
        ("history.csv",),
        "Loss on the training blocks (thin lines) and on the validation documents (dashed) by tokens trained on, with "
        "a dot at the best validation loss.",
    ),
    "ladder": (
        memory,
        (LADDER,),
        "The memory ladder, each rung with all savings above it: estimated memory by its parts, the measured peak as "
        "a diamond, and the speed. Where loading needs more than training, the weights include the file that they are "
        "made from.",
    ),
}
DRAWINGS = {
    name: Drawing(partial(draw, experiment=experiment), needs, caption)
    for experiment in LANGUAGE_MODELS
    for part, (draw, needs, caption) in KINDS.items()
    if (name := f"{experiment}_{part}") in FIGURES[experiment]
}

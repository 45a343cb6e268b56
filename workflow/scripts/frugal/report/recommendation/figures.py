"""The figures of an experiment on recommendation, from its result files."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from frugal.report.contents import EFFICIENCY
from frugal.report.figures import QUIET, WIDTH, Drawing, colours, draw_systems, say_missing
from frugal.report.recommendation.groups import group_rows
from frugal.report.recommendation.protocol import comparable
from frugal.report.recommendation.tables import efficiency, scaled
from frugal.report.results import ExperimentResults

METRIC = "NDCG@10"
#: The palette has ten colours; further lines are told apart by their strokes.
STROKES = ("-", "--", ":")


def ranking(experiment: ExperimentResults) -> Figure:
    """NDCG@10 of each system with its interval, and of each seed."""
    figure, axes = draw_systems(comparable(experiment), {METRIC: METRIC})
    axes.set_xlabel("NDCG@10, with 95 % intervals over users")
    axes.set_xlim(left=0)
    return figure


def convergence(experiment: ExperimentResults) -> Figure:
    """Validation NDCG@10 by training time, a line a seed, a colour a variant, a dot at each best value."""
    figure, axes = plt.subplots(figsize=(WIDTH, 4.0))
    runs = [run for run in comparable(experiment) if run.role == "trained"]
    palette = colours([run.name for run in runs])
    handles, longest = [], 0.0
    for place, run in enumerate(runs):
        stroke = STROKES[place // 10 % len(STROKES)]
        curves = [
            history.dropna(subset=[METRIC])
            for history in run.histories.values()
            if {METRIC, "seconds"} <= set(history.columns)
        ]
        curves = [curve for curve in curves if len(curve)]
        for curve in curves:
            minutes = curve["seconds"] / 60
            axes.plot(minutes, curve[METRIC], stroke, color=palette[run.name], linewidth=1.4, alpha=0.85)
            best = curve[METRIC].to_numpy().argmax()
            axes.plot(minutes.iloc[best], curve[METRIC].iloc[best], "o", color=palette[run.name], markersize=4.5)
            longest = max(longest, minutes.max())
        name = run.label if curves else f"{run.label} (missing)"
        handles.append(Line2D([], [], linestyle=stroke, color=palette[run.name] if curves else QUIET, label=name))
    if longest:
        axes.set_ylim(bottom=0)
    else:
        say_missing(axes)
    axes.set(xlabel="training time (minutes)", ylabel="NDCG@10 on validation")
    if handles:
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
    sns.despine(figure)
    return figure


def groups(experiment: ExperimentResults) -> Figure:
    """NDCG@10 of the best models and the best baseline in each group of users and of targets."""
    rows = group_rows(experiment)
    counts = {(row["by"], row["group"]): (row["users"], row["few"]) for row in rows if row["users"] is not None}
    # A gap between the groups of users and those of targets.
    at = {group: place + 0.5 * (group[0] == "popularity") for place, group in enumerate(counts)}
    figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + 0.62 * max(len(at), 2)))
    systems = {row["system"]: row["role"] for row in rows}
    palette = colours(list(systems))
    # Markers and their faces tell the systems apart in black and white too.
    looks = {name: {"fmt": "o", "color": palette[name], "markersize": 6.5, "clip_on": False} for name in systems}
    for place, (name, role) in enumerate(systems.items()):
        if role == "baseline":
            looks[name] |= {"fmt": "s", "color": QUIET}
        elif place:
            looks[name]["markerfacecolor"] = "white"
    drawn = {}
    for row in (row for row in rows if row[METRIC] is not None):
        offset = list(systems).index(row["system"]) - (len(systems) - 1) / 2
        value, lower, upper = (row[name] for name in (METRIC, f"{METRIC}_lower", f"{METRIC}_upper"))
        spread = None if lower is None else [[max(value - lower, 0)], [max(upper - value, 0)]]
        y = at[row["by"], row["group"]] + 0.24 * offset
        drawn[row["system"]] = axes.errorbar([value], [y], xerr=spread, elinewidth=1.6, **looks[row["system"]])
    if drawn:
        labels = [
            f"{group}\n{users:,d} user{'' if users == 1 else 's'}{', few' if few else ''}"
            for (_, group), (users, few) in counts.items()
        ]
        axes.set_yticks(list(at.values()), labels)
        axes.set_ylim(max(at.values()) + 0.6, -0.6)
        axes.legend(
            [bars[0] for bars in drawn.values()], list(drawn), loc="lower center", bbox_to_anchor=(0.4, 1), ncols=3
        )
        axes.grid(axis="y", visible=False)
        axes.set_xlim(left=0)
    else:
        say_missing(axes)
    axes.set_xlabel("NDCG@10, with 95 % intervals over users")
    sns.despine(figure, left=True)
    return figure


def scaling(experiment: ExperimentResults) -> Figure:
    """NDCG@10 by encoder weights on a logarithmic axis, with each seed."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.8))
    accent = colours(["model"])["model"]
    known = [r for r in scaled(experiment) if METRIC in r.metrics and r.training.get("encoder_parameters")]
    if known:
        weights = [run.training["encoder_parameters"] for run in known]
        values = [run.metrics[METRIC] for run in known]
        spread = [run.std.get(METRIC, 0) for run in known]
        axes.set_xscale("log")
        axes.errorbar(weights, values, yerr=spread, fmt="o-", color=accent, markersize=6, elinewidth=1.6, capsize=3)
        for run, x, y in zip(known, weights, values, strict=True):
            seeds = [metrics[METRIC] for metrics in run.by_seed.values() if METRIC in metrics]
            axes.scatter([x] * len(seeds), seeds, s=14, facecolors="none", edgecolors=accent, linewidths=0.8)
            axes.annotate(run.label, (x, y), xytext=(7, 7), textcoords="offset points", fontsize=9)
        axes.set_xticks(weights, [_count(x) for x in weights])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12, y=0.2)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    else:
        say_missing(axes)
    axes.set(xlabel="weights of the encoder, without embeddings", ylabel="NDCG@10")
    sns.despine(figure)
    return figure


def _count(number: float) -> str:
    """``85M`` for 85 million."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def speed(experiment: ExperimentResults) -> Figure:
    """Sequences per second and peak memory by mode and size; a row of panels a machine."""
    rows = efficiency(experiment)
    machines = list(dict.fromkeys(row["hardware"] for row in rows))
    most_modes = len({row["mode"] for row in rows})
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    height = 0.9 + 0.28 * max(most_modes, 2) * max(len(sizes), 1)
    shape = (max(len(machines), 1), 2)
    figure, panels = plt.subplots(*shape, figsize=(WIDTH, height * shape[0] + 0.5), sharey="row", squeeze=False)
    palette = colours(sizes)
    for machine, (left, right) in zip(machines, panels, strict=False):
        here = {(row["mode"], row["size"]): row for row in rows if row["hardware"] == machine}
        modes = list(dict.fromkeys(mode for mode, _ in here))
        left.set_title(machine, loc="left", fontsize=10)
        _bars(left, here, modes, palette, ("samples_per_second",))
        _bars(right, here, modes, palette, ("peak_device_mb", "peak_rss_mb"))
        left.set_xlabel("sequences per second")
        right.set_xlabel("peak memory (MB)")
        left.set_ylim(len(modes) - 0.5, -0.5)
    if rows:
        handles = [plt.Rectangle((0, 0), 1, 1, color=palette[size]) for size in sizes]
        figure.legend(handles, sizes, loc="upper center", ncols=max(len(sizes), 1), bbox_to_anchor=(0.5, 0.0))
    else:
        for axes in panels.flat:
            say_missing(axes)
    figure.tight_layout()
    sns.despine(figure)
    return figure


def _bars(axes: Axes, rows: dict, modes: list[str], palette: dict, names: tuple[str, ...]) -> None:
    """A bar a mode and size, of the first of ``names`` that is measured; the others say why there is none."""
    sizes, width = list(palette), 0.8 / len(palette)
    for y, mode in enumerate(modes):
        for place, size in enumerate(sizes):
            row, at = rows.get((mode, size)), y + (place - (len(sizes) - 1) / 2) * width
            value = next((row[name] for name in names if row.get(name) is not None), None) if row else None
            if value is not None:
                axes.barh(at, value, height=width * 0.9, color=palette[size], linewidth=0)
            elif row:
                axes.text(0, at, " failed" if row.get("error") else " missing", va="center", fontsize=8, color=QUIET)
    axes.set_yticks(range(len(modes)), modes)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="y", visible=False)


DRAWINGS = {
    "ranking": Drawing(
        ranking,
        ("config.yaml", "metrics.json"),
        "NDCG@10 of every system over the whole catalogue, with 95 % intervals over resampled users. Small dots "
        "are single seeds; baselines are grey squares. Systems on other data or another split are left out.",
    ),
    "convergence": Drawing(
        convergence,
        ("config.yaml", "history.csv"),
        "NDCG@10 on the validation targets while training, a line a seed and a dot at its best value, which is the "
        "model that is kept. A line that still rises where it ends was not trained long enough. Variants on other data "
        "or another split are left out.",
    ),
    "groups": Drawing(
        groups,
        ("beyond.json",),
        "What is gained where: NDCG@10 in groups of users by the length of their histories and of targets by "
        "popularity, with 95 % intervals over resampled users. The dot is the principal model, the ring the best other "
        "trained one, and the grey square the best baseline. A group of fewer than ten users has no interval.",
    ),
    "scaling": Drawing(
        scaling,
        ("config.yaml", "metrics.json"),
        "NDCG@10 by the number of encoder weights. Bars are standard deviations over seeds, circles single seeds.",
    ),
    "efficiency": Drawing(
        speed,
        (EFFICIENCY,),
        "Speed and peak memory of training by mode and size; the memory is the GPU's where one was used, or else "
        "that of the process.",
    ),
}

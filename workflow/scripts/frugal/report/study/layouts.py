"""The tables of the study as a whole, as they are shown."""

from dataclasses import replace

from frugal.report.columns import (
    MACHINE,
    MEMORY,
    MINUTES,
    PEAK_SHARE,
    RUN,
    SYSTEM,
    WEIGHTS_TRAINED,
)
from frugal.report.results import ExperimentResults
from frugal.report.tables import Column, Layout

STUDY = Column("study", "Study")
DEVICE = Column("device", "Device", wraps=0.2)
#: Runs of different experiments, data or machines do not compete.
NO_CONTEST = {"best": None}
DTYPE = Column("compute_dtype", "Type", optional=True)
SPEED = Column("per_second", "Tokens or targets per second", ",.0f")
MEMORY_COST = tuple(replace(column, **NO_CONTEST) for column in MEMORY)


def across(experiment: ExperimentResults) -> Layout:
    """One row a run and study."""
    return Layout(
        f"{experiment.title}: the same run in each study. Scores can be compared where data, model and settings are "
        "the same; speeds are those of training, on the device that is named. Settings and 95 % intervals are compared "
        "with those of this study.",
        (
            SYSTEM,
            STUDY,
            DEVICE,
            DTYPE,
            Column("data", "Data", wraps=0.12),
            Column("model", "Base model", optional=True, wraps=0.12),
            Column("settings", "Settings", optional=True),
            Column("agrees", "Intervals overlap", optional=True),
            *experiment.section.SCORES,
            MINUTES,
            replace(SPEED, label=experiment.section.SPEED[1]),
            *MEMORY_COST,
        ),
        keys=2,
        group="run",
    )


LAYOUTS = {
    "efficiency": Layout(
        "What training cost in all experiments. Recommenders are trained once for each seed, and their figures are "
        "means of one training. Speed is in tokens, or in target positions of the recommenders, and not comparable "
        "between these. Memory is the peak of the process; the share of peak is that of a large matrix product on the "
        "same machine.",
        (
            Column("experiment", "Experiment"),
            RUN,
            replace(DEVICE, varying=True),
            DTYPE,
            Column("trainings", "Trainings", "d"),
            Column("parameters", "Weights", ",d"),
            WEIGHTS_TRAINED,
            Column("trainable_share", "Share of weights, %", ".2%"),
            MINUTES,
            SPEED,
            *MEMORY_COST,
            replace(PEAK_SHARE, **NO_CONTEST),
        ),
        keys=2,
        group="experiment",
    ),
    "machines": Layout(
        "Where the results were measured, and the types of their matmuls and why these were chosen.",
        (
            STUDY,
            Column("experiments", "Experiments", wraps=0.3),
            *(replace(column, optional=False) for column in MACHINE),
            Column("instructions", "Instructions", optional=True),
            Column("compute_dtypes", "Computes in", optional=True, wraps=0.25),
            Column("results", "Results", ",d"),
        ),
        keys=2,
        group="original",
    ),
}

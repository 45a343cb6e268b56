"""The tables of the study as a whole, as they are shown."""

from dataclasses import replace

from frugal.report.columns import (
    MACHINE,
    MEMORY,
    MINUTES,
    PEAK_SHARE,
    RUN,
    SYSTEM,
    TOKENS_PER_SECOND,
    WEIGHTS_TRAINED,
)
from frugal.report.contents import ACROSS, LANGUAGE_MODELS, RECOMMENDERS
from frugal.report.tables import Column, Layout

TITLES = {
    "movie_preference": "Movie preference",
    "ssept": "SSE-PT",
    "bert4rec": "BERT4Rec",
    "wikitext": "Wikipedia text",
    "climate": "Climate documents",
}
STUDY = Column("study", "Study")
DEVICE = Column("device", "Device", wraps=0.2)
#: Runs of different experiments, data or machines do not compete.
NO_CONTEST = {"best": None}
SPEED = Column("per_second", "Tokens or targets per second", ",.0f")
COST = (
    MINUTES,
    replace(TOKENS_PER_SECOND, **NO_CONTEST),
    *(replace(column, **NO_CONTEST) for column in MEMORY),
)
#: What is measured in each kind of experiment.
SCORES = {
    "movie_preference": (
        Column("accuracy", "Accuracy", ".3f", interval=True),
        Column("accuracy_easy", "Easy pairs", ".3f", interval=True),
        Column("accuracy_hard", "Hard pairs", ".3f", interval=True),
    ),
    **dict.fromkeys(
        RECOMMENDERS,
        (
            Column("HR@10", "HR@10", ".4f", interval=True, spread=True),
            Column("NDCG@10", "NDCG@10", ".4f", interval=True, spread=True),
        ),
    ),
    **dict.fromkeys(
        LANGUAGE_MODELS,
        (
            Column("perplexity", "Perplexity", ",.2f", interval=True),
            Column("bits_per_byte", "Bits per byte", ".3f", interval=True),
            Column("token_accuracy", "Next-token accuracy", ".3f", interval=True),
        ),
    ),
}


def across(experiment: str) -> Layout:
    """One row a run and study."""
    speed = replace(SPEED, label="Targets per second") if experiment in RECOMMENDERS else COST[1]
    return Layout(
        f"{TITLES[experiment]}: the same run in each study. Scores can be compared where data, model and settings are "
        "the same; speeds are those of training, on the device that is named. Settings are compared with those of this "
        "study.",
        (
            SYSTEM,
            STUDY,
            DEVICE,
            Column("data", "Data", wraps=0.12),
            Column("model", "Base model", optional=True, wraps=0.12),
            Column("settings", "Settings", optional=True),
            *SCORES[experiment],
            MINUTES,
            replace(speed, name="per_second"),
            *COST[2:],
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
            Column("trainings", "Trainings", "d"),
            Column("parameters", "Weights", ",d"),
            WEIGHTS_TRAINED,
            Column("trainable_share", "Share of weights, %", ".2%"),
            MINUTES,
            SPEED,
            *COST[2:],
            replace(PEAK_SHARE, **NO_CONTEST),
        ),
        keys=2,
        group="experiment",
    ),
    "machines": Layout(
        "Where the results were measured, and the hardware that the original write-ups name.",
        (
            STUDY,
            Column("experiments", "Experiments", wraps=0.3),
            *(replace(column, optional=False) for column in MACHINE),
            Column("results", "Results", ",d"),
        ),
        keys=2,
        group="original",
    ),
}
LAYOUTS |= {name: across(experiment) for experiment, name in ACROSS.items()}

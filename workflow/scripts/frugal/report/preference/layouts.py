"""The tables of an experiment on preferences, as they are shown."""

from frugal.report.columns import (
    ADAPTED,
    EFFECT,
    EFFECT_OVER,
    FINAL_LOSS,
    HOLM,
    MEMORY,
    MINUTES,
    PEAK_SHARE,
    PROVENANCE,
    RUN,
    SYSTEM,
    TOKENS_PER_SECOND,
    TRAINING_COST,
    WEIGHTS_TRAINED,
)
from frugal.report.tables import Column, Layout

LAYOUTS = {
    "data": Layout(
        "Data. A step from one rating of a user to the next is tied if both have the same time; the order of ties is "
        "random, by a hash, or that of the file. A history is shortened, "
        "by its oldest items, where a prompt would be longer than model.max_length.",
        (
            Column("dataset", "Data set"),
            Column("users", "Users", ",d"),
            Column("items", "Items", ",d"),
            Column("ratings", "Ratings", ",d"),
            Column("skipped", "Rows skipped", ",d"),
            Column("density", "Density, %", ".2%"),
            Column("tied_ends", "Users whose last step is tied, %", ".1%"),
            Column("tied_steps", "Tied steps elsewhere, %", ".1%"),
            Column("tie_order", "Order of ties"),
            Column("train_pairs", "Training pairs", ",d"),
            Column("test_pairs_easy", "Easy test pairs", ",d"),
            Column("test_pairs_hard", "Hard test pairs", ",d"),
            Column("test_users", "Test users", ",d"),
            Column("train_shortened", "Training histories shortened", ",d"),
            Column("test_shortened", "Test histories shortened", ",d"),
        ),
        needs=("base/config.yaml", "summary.json", "base/predictions.parquet"),
    ),
    "accuracy": Layout(
        "Accuracy: the share of questions answered rightly, each test pair asked in both orders, "
        "with 95 % intervals over resampled users. Guessing gives 0.5.",
        (
            SYSTEM,
            Column("accuracy", "All pairs", ".3f", interval=True, best="max"),
            Column("accuracy_easy", "Easy pairs", ".3f", interval=True, best="max"),
            Column("accuracy_hard", "Hard pairs", ".3f", interval=True, best="max"),
            Column("accuracy_liked_first", "Liked item is A", ".3f", interval=True),
            Column("swap_consistency", "Same item in both orders", ".3f", interval=True),
        ),
        group="role",
    ),
    "calibration": Layout(
        "Probabilities, with 95 % intervals over resampled users: P(A) is the mean probability of answering A, 0.5 "
        "without a position bias; baselines state no probabilities. Mass on A and B, a check and no score, is what the "
        "model gives the two letters among all tokens. Invalid answers are a share of the free answers alone, with "
        "Wilson's interval.",
        (
            SYSTEM,
            Column("auc", "AUC", ".3f", interval=True, best="max"),
            Column("auc_easy", "AUC, easy", ".3f", interval=True, best="max"),
            Column("auc_hard", "AUC, hard", ".3f", interval=True, best="max"),
            Column("p_a", "P(A)", ".3f", interval=True),
            Column("brier", "Brier score", ".3f", interval=True, best="min"),
            Column("ece", "Calibration error", ".3f", interval=True, best="min"),
            Column("answer_mass", "Mass on A and B", ".3f", optional=True),
            Column("invalid_answer_rate", "Invalid answers, %", ".1%", interval=True, best="min", optional=True),
        ),
        group="role",
    ),
    "tests": Layout(
        "The trained model against each other system on the same test pairs: difference in accuracy, "
        "paired bootstrap over users, p values adjusted by Holm's method over all rows. A difference is "
        f"found where the interval leaves out zero and the adjusted p is below 0.05. {EFFECT_OVER.format('users')}",
        (
            Column("second", "Compared with"),
            Column("kind", "Pairs"),
            Column("pairs", "Count", ",d"),
            Column("difference", "Difference", "+.3f", interval=True),
            EFFECT,
            *HOLM,
            Column("verdict", "The trained model is"),
        ),
        needs=("predictions.parquet",),
        keys=2,
        group="second",
    ),
    "shortcut": Layout(
        "The shortcut: what a test set whose right answer is always Option A would show, beside the "
        "accuracy over both orders of the same pairs.",
        (
            SYSTEM,
            Column("accuracy_liked_first", "Right answer always A", ".3f", interval=True),
            Column("accuracy", "Both orders", ".3f", interval=True, best="max"),
            Column("gap", "Overstated by", "+.3f"),
            Column("p_a", "P(A)", ".3f", interval=True),
        ),
        group="role",
    ),
    "training": Layout(
        TRAINING_COST,
        (
            RUN,
            Column("steps", "Steps", ",d"),
            Column("examples", "Examples", ",d"),
            Column("tokens", "Tokens", ",d"),
            MINUTES,
            TOKENS_PER_SECOND,
            ADAPTED,
            WEIGHTS_TRAINED,
            Column("trainable_share", "Share of weights, %", ".3%"),
            *MEMORY,
            PEAK_SHARE,
            FINAL_LOSS,
        ),
    ),
    "inference": Layout(
        "What answering costs: scoring a pair takes both orders, a recommendation is a free answer.",
        (
            SYSTEM,
            Column("base_model_mb", "Model, MB", ",.1f"),
            Column("seconds_per_scored_pair", "Seconds per scored pair", ".3f", best="min"),
            Column("seconds_per_recommendation", "Seconds per recommendation", ".2f", best="min"),
            *MEMORY,
        ),
    ),
    "provenance": PROVENANCE,
}

"""The tables of an experiment on recommendation, as they are shown."""

from frugal.report.columns import (
    EFFECT,
    EFFECT_OVER,
    FINAL_LOSS,
    HOLM,
    MEMORY,
    MINUTES,
    P_HOLM,
    PEAK_SHARE,
    PROVENANCE,
    RUN,
    SYSTEM,
    WEIGHTS_TRAINED,
)
from frugal.report.contents import EFFICIENCY
from frugal.report.tables import Column, Layout

#: Empty, and left out, where all runs have the same data and split.
PROTOCOL = Column("protocol", "Data and split", optional=True, wraps=0.15)

LAYOUTS = {
    "data": Layout(
        "Data. Counts are those of the whole data set, but for test users. A target is tied if another interaction of "
        "its user has the same time; a step elsewhere, from one interaction of the training part to the next, if both "
        "have the same time. The order of ties is random, by a hash, or that of the file. A target is repeated if its "
        "user has had it before, and cold if nobody has it in the training part. Where the history is "
        "left out of the ranking, repeated targets are left out too. Users without history are not scored.",
        (
            Column("dataset", "Data set"),
            Column("split", "Split"),
            Column("users", "Users", ",d"),
            Column("items", "Items", ",d"),
            Column("interactions", "Interactions", ",d"),
            Column("mean_length", "Interactions per user", ",.1f"),
            Column("ordered", "Order in time"),
            Column("tied_targets", "Tied targets, %", ".1%", optional=True),
            Column("tied_steps", "Tied steps elsewhere, %", ".1%", optional=True),
            Column("tie_order", "Order of ties"),
            Column("min_rating", "Ratings used from", "g", optional=True),
            Column("max_users", "Users used at most", ",d", optional=True),
            Column("fraction", "Share of shards used, %", ".0%"),
            Column("cases", "Test users", ",d"),
            Column("repeated", "Repeated targets, %", ".1%", optional=True),
            Column("cold", "Cold targets, %", ".1%", optional=True),
            Column("without_history", "Test interactions of users without history, %", ".1%", optional=True),
            Column("history", "History", optional=True),
        ),
        needs=("config.yaml", "summary.json", "metrics.json"),
        keys=2,
    ),
    "ranking": Layout(
        "Ranking over the whole catalogue, with or without the history, as the table of the data says: means over test "
        "users and seeds, ± the standard deviation over seeds, and 95 % intervals over resampled users of the mean of "
        "the seeds. MRR counts every rank; coverage is the share of the catalogue in at least one user's first ten, no "
        "mean over users, and has no interval.",
        (
            SYSTEM,
            PROTOCOL,
            Column("seeds", "Seeds", "d"),
            Column("HR@10", "HR@10", ".4f", interval=True, spread=True, best="max"),
            Column("NDCG@10", "NDCG@10", ".4f", interval=True, spread=True, best="max"),
            Column("recall@10", "Recall@10", ".4f", interval=True, spread=True, best="max", optional=True),
            Column("MRR", "MRR", ".4f", interval=True, spread=True, best="max"),
            Column("coverage@10", "Coverage@10", ".3f", best="max"),
        ),
        keys=3,
        group="role",
        contest=("protocol",),
    ),
    "cutoffs": Layout(
        "The same ranking, cut off elsewhere: means over test users and seeds, ± the standard deviation over seeds, "
        "and 95 % intervals over resampled users.",
        (
            Column("k", "k", "d"),
            SYSTEM,
            PROTOCOL,
            Column("HR", "HR@k", ".4f", interval=True, spread=True, best="max"),
            Column("NDCG", "NDCG@k", ".4f", interval=True, spread=True, best="max"),
            Column("recall", "Recall@k", ".4f", interval=True, spread=True, best="max", optional=True),
            Column("coverage", "Coverage@k", ".3f", best="max"),
        ),
        keys=3,
        group="k",
        contest=("k", "protocol"),
    ),
    "tests": Layout(
        "The principal model against each other system: difference of the users' NDCG@10, each the mean over its "
        "seeds, by a paired bootstrap over users; p values adjusted by Holm's method over all rows. A difference is "
        "found where the interval leaves out zero and the adjusted p is below 0.05. The interval is over users; "
        f"it does not tell what other seeds would give. {EFFECT_OVER.format('users')}",
        (
            Column("second", "Compared with"),
            Column("users", "Users", ",d"),
            Column("difference", "Difference", "+.4f", interval=True),
            Column("relative", "Relative, %", "+.1%"),
            EFFECT,
            *HOLM,
            Column("verdict", "The principal model is"),
        ),
        needs=("predictions.parquet",),
        group="role",
    ),
    "sampled": Layout(
        "Sampled metrics: each target among negatives drawn at random instead of the whole catalogue. They are far "
        "higher, may order systems otherwise, and are not comparable with the full ranking (Krichene and Rendle, "
        "2020); they stand here only for older figures that were measured in this way, and without intervals.",
        (
            SYSTEM,
            PROTOCOL,
            Column("negatives", "Negatives", ",d"),
            Column("HR@10", "Sampled HR@10", ".4f", best="max"),
            Column("NDCG@10", "Sampled NDCG@10", ".4f", best="max"),
            Column("MRR", "Sampled MRR", ".4f", best="max"),
        ),
        keys=3,
        group="role",
        contest=("protocol",),
    ),
    "beyond": Layout(
        "The first ten items of all lists: means over seeds, ± the standard deviation over them, and 95 % intervals "
        "over resampled users. Coverage is the share of the catalogue in at least one list; the Gini index is 0 where "
        "all items are listed equally often and 1 where one item has every place. Popularity is the share of users "
        "who have an item in the training part, its mean over a list; beside it, by what this is above the mean over "
        "the histories. Novelty is the mean self-information of an item, in bits. Coverage and the Gini index have no "
        "interval: resampled users have fewer different lists than all users, and so cover less.",
        (
            SYSTEM,
            PROTOCOL,
            Column("coverage@10", "Coverage@10", ".3f", spread=True),
            Column("gini@10", "Gini@10", ".3f", spread=True),
            Column("popularity@10", "Popularity@10, %", ".1%", interval=True, spread=True),
            Column("popularity_lift@10", "Above the histories, %", "+.1%", interval=True, spread=True),
            Column("novelty@10", "Novelty@10, bits", ".2f", interval=True, spread=True),
        ),
        needs=("beyond.json",),
        keys=2,
        group="role",
    ),
    "groups": Layout(
        "What is gained where: the principal model, the best other trained one and the best baseline in groups of "
        "users by the length of their histories, and of targets by popularity. The head are the most popular items "
        "that have 20 % of all interactions of the training part, the tail the least popular ones that have 20 %; "
        "cold targets have none. Means over users and seeds, with 95 % intervals over resampled users; difference of "
        "NDCG@10 from the baseline by a paired bootstrap over users, found where the interval leaves out zero and p, "
        "adjusted by Holm's method over all rows, is below 0.05. Groups of fewer than 30 users are marked as few; "
        "with fewer than ten there is no interval and no test.",
        (
            Column("group", "Group"),
            SYSTEM,
            Column("users", "Users", ",d"),
            Column("few", "Few users", optional=True),
            Column("HR@10", "HR@10", ".3f", interval=True),
            Column("NDCG@10", "NDCG@10", ".3f", interval=True, best="max"),
            Column("difference", "From the baseline", "+.3f", interval=True),
            Column("verdict", "Than the baseline", wraps=0.17),
        ),
        needs=("beyond.json", "groups.parquet"),
        keys=2,
        group="group",
        contest=("group",),
    ),
    "training": Layout(
        "What training cost: means over seeds. A target position is one item that had to be predicted. Memory is the "
        "peak of the process; the share of peak is against a large matrix product on the same machine.",
        (
            RUN,
            Column("seeds", "Seeds", "d"),
            MINUTES,
            Column("epochs", "Epochs", ".1f"),
            Column("best_epoch", "Best epoch", ".1f"),
            Column("early", "Stopped early"),
            Column("samples_per_second", "Sequences per second", ",.0f", best="max"),
            Column("target_positions_per_second", "Target positions per second", ",.0f", best="max"),
            Column("parameters", "Weights", ",d"),
            Column("trainable_share", "Weights trained, %", ".2%"),
            *MEMORY,
            PEAK_SHARE,
            FINAL_LOSS,
        ),
        keys=2,
    ),
    "scaling": Layout(
        "The principal model by size, trained from random weights on the same data. Embeddings of items "
        "grow with the catalogue "
        "and the width, the encoder with width and depth. The last columns compare with the row above: difference of "
        "the users' NDCG@10 by a paired bootstrap over users, p adjusted by Holm's method over all rows. "
        f"{EFFECT_OVER.format('users')}",
        (
            SYSTEM,
            Column("encoder_parameters", "Encoder weights", ",d"),
            Column("item_embedding_parameters", "Item embeddings", ",d"),
            Column("parameters", "All weights", ",d"),
            Column("HR@10", "HR@10", ".4f", interval=True, spread=True, best="max"),
            Column("NDCG@10", "NDCG@10", ".4f", interval=True, spread=True, best="max"),
            Column("minutes", "Minutes", ".2f", best="min"),
            Column("difference", "NDCG@10 more than above", "+.4f", interval=True),
            EFFECT,
            P_HOLM,
            Column("verdict", "Than the row above"),
        ),
        needs=("config.yaml", "metrics.json", "predictions.parquet"),
    ),
    "adapters": Layout(
        "Adapters on a trained and frozen backbone, against this backbone: difference of the users' NDCG@10, paired "
        f"bootstrap over users, p values adjusted by Holm's method over all rows. {EFFECT_OVER.format('users')}",
        (
            SYSTEM,
            Column("method", "Method"),
            Column("r", "Rank", "d"),
            Column("experts", "Experts", "d", optional=True),
            Column("backbone", "Starts from"),
            WEIGHTS_TRAINED,
            Column("trainable_share", "Share of weights, %", ".2%"),
            Column("NDCG@10", "NDCG@10", ".4f", interval=True, spread=True),
            Column("backbone_NDCG@10", "NDCG@10 of the backbone", ".4f"),
            Column("difference", "Difference", "+.4f", interval=True),
            EFFECT,
            P_HOLM,
            Column("verdict", "Than the backbone"),
        ),
        needs=("config.yaml", "metrics.json", "predictions.parquet"),
        keys=5,
    ),
    "efficiency": Layout(
        "Speed and memory of training by size and mode, a process each. Speed-up is against float32 at the same size "
        "on the same machine. A type that the machine has no matmuls in is emulated, and measured over one step.",
        (
            Column("hardware", "Machine", wraps=0.25),
            Column("size", "Size"),
            Column("mode", "Mode"),
            Column("emulated", "Emulated", optional=True),
            Column("parameters", "Weights", ",d"),
            Column("trainable_share", "Weights trained, %", ".2%"),
            Column("batch_size", "Batch", ",d"),
            Column("sequence_length", "Length", ",d"),
            Column("samples_per_second", "Sequences per second", ",.1f", best="max"),
            Column("speedup", "Speed-up", ".2f", best="max"),
            Column("epoch_seconds", "Seconds per epoch", ",.1f", best="min"),
            *MEMORY,
            PEAK_SHARE,
            Column("error", "Failed", optional=True, wraps=0.15),
        ),
        needs=(EFFICIENCY,),
        keys=3,
        group="hardware",
        contest=("hardware", "size"),
    ),
    "provenance": PROVENANCE,
}

"""Columns that the tables of several experiments have in common, and captions that stand over more than one."""

from frugal.report.tables import Column, Layout

SYSTEM = Column("system", "System")
#: The same column where all systems are trained ones.
RUN = Column("system", "Run")
P_HOLM = Column("p_holm", "p, Holm", "p")
HOLM = (Column("p", "p", "p"), P_HOLM)
EFFECT = Column("effect", "Effect size", "+.2f")
EFFECT_OVER = (
    "With fewer than ten {0}, too few to resample, the interval and p are those of Student's t. The effect size is the "
    "mean difference over its standard deviation between {0} (Cohen's d_z)."
)
MINUTES = Column("minutes", "Minutes", ".2f")
TOKENS_PER_SECOND = Column("tokens_per_second", "Tokens per second", ",.0f", best="max")
WEIGHTS_TRAINED = Column("trainable_parameters", "Weights trained", ",d")
ADAPTED = Column("adapted", "Layers with an adapter", optional=True, wraps=0.18)
MEMORY = (
    Column("peak_rss_mb", "Memory, MB", ",.0f", best="min"),
    Column("peak_device_mb", "GPU memory, MB", ",.0f", best="min", optional=True),
)
PEAK_SHARE = Column("matmul_peak_share", "Share of peak, %", ".1%", best="max")
FINAL_LOSS = Column("final_loss", "Final loss", ".3f")

TRAINING_COST = (
    "What training cost. Memory is the peak of the process; the share of peak counts 4 operations per weight and "
    "token against a large matrix product on the same machine."
)
MACHINE = (
    Column("processor", "Processor", wraps=0.16),
    Column("cores", "Cores", "d"),
    Column("memory_gb", "Memory, GB", ".0f"),
    Column("gpus", "GPUs", optional=True),
)
PROVENANCE = Layout(
    "Where each result comes from: the beginnings of the commit and of the SHA-256 of its inputs.",
    (
        SYSTEM,
        Column("seed_list", "Seeds", optional=True),
        Column("commit", "Commit"),
        Column("config", "Settings", optional=True),
        Column("inputs", "Other inputs", optional=True, wraps=0.3),
        *MACHINE,
    ),
    keys=2,
)

"""What the report holds: the tables and figures of each experiment, in their order.

Snakemake reads this list too, to know which files come out; it therefore imports nothing.
"""

#: The experiments that rank items: their results have the same layout, and one trained model a seed.
RECOMMENDERS = ("ssept", "bert4rec")
#: The experiments in which a language model learns a corpus: perplexity, answers to prompts, ratings.
LANGUAGE_MODELS = ("wikitext", "climate")
#: experiment -> names of its tables
TABLES = {
    "movie_preference": (
        "movie_preference_data",
        "movie_preference_accuracy",
        "movie_preference_calibration",
        "movie_preference_tests",
        "movie_preference_shortcut",
        "movie_preference_training",
        "movie_preference_inference",
        "movie_preference_provenance",
    ),
    "ssept": (
        "ssept_data",
        "ssept_ranking",
        "ssept_cutoffs",
        "ssept_tests",
        "ssept_sampled",
        "ssept_training",
        "ssept_provenance",
    ),
    "bert4rec": (
        "bert4rec_data",
        "bert4rec_ranking",
        "bert4rec_cutoffs",
        "bert4rec_tests",
        "bert4rec_sampled",
        "bert4rec_scaling",
        "bert4rec_adapters",
        "bert4rec_training",
        "bert4rec_efficiency",
        "bert4rec_provenance",
    ),
    "wikitext": (
        "wikitext_data",
        "wikitext_perplexity",
        "wikitext_tests",
        "wikitext_training",
        "wikitext_cost",
        "wikitext_prompts",
        "wikitext_ratings",
        "wikitext_anchors",
        "wikitext_provenance",
    ),
    "climate": (
        "climate_data",
        "climate_manifest",
        "climate_perplexity",
        "climate_tests",
        "climate_training",
        "climate_cost",
        "climate_ladder",
        "climate_prompts",
        "climate_ratings",
        "climate_provenance",
    ),
}
#: What all experiments have in common: what training cost, and the machines beside those of the originals.
STUDY_TABLES = ("efficiency", "machines")
#: experiment -> the table of its results in this study and in others, which a study may name
ACROSS = {experiment: f"across_{experiment}" for experiment in TABLES}
#: experiment -> names of its figures
FIGURES = {
    "movie_preference": (
        "movie_preference_accuracy",
        "movie_preference_position_bias",
        "movie_preference_loss",
    ),
    "ssept": ("ssept_ranking", "ssept_convergence"),
    "bert4rec": (
        "bert4rec_ranking",
        "bert4rec_convergence",
        "bert4rec_scaling",
        "bert4rec_efficiency",
    ),
    "wikitext": ("wikitext_perplexity", "wikitext_loss"),
    "climate": ("climate_perplexity", "climate_loss", "climate_ladder"),
}
#: The tables of the claims ledger, which is about all experiments; they are made with the report itself.
CLAIMS_TABLES = ("claims_verdicts", "claims")
#: The ledger beside them, with its types.
CLAIMS_FILE = "claims.parquet"
TABLE_FORMATS = ("csv", "md", "tex")
FIGURE_FORMATS = ("svg", "pdf")
REPORT_FORMATS = ("md", "html", "tex")

"""What the report holds: the tables and figures of each experiment, in their order.

Snakemake reads this list too, to know which files come out; it therefore imports nothing.
"""

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
}
#: experiment -> names of its figures
FIGURES = {
    "movie_preference": (
        "movie_preference_accuracy",
        "movie_preference_position_bias",
        "movie_preference_loss",
    ),
}
TABLE_FORMATS = ("csv", "md", "tex")
FIGURE_FORMATS = ("svg", "pdf")
REPORT_FORMATS = ("md", "html", "tex")

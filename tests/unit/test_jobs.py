"""The jobs in Snakemake's summaries, brief and detailed."""

from jobs import Job, jobs_in

RUN = "results/chaos/movie_preference/always_a"
EVALUATION = "evaluate_movie_preference/always_a"
SUMMARY = f"""Building DAG of jobs...
output_file\tdate\trule\tlog-file(s)\tstatus\tplan
{RUN}/metrics.json\tx\tevaluate\tlogs/chaos/{EVALUATION}.log\tok\t-
{RUN}/predictions.parquet\tx\tevaluate\tlogs/chaos/{EVALUATION}.log\tok\t-
data/raw/movielens-100k\tx\tfetch\tlogs/fetch/movielens-100k.log,logs/more.log\tok\t-
results/chaos/tables\tx\ttables\t-\tok\t-
"""


def test_a_job_is_named_by_its_log_or_its_rule():
    assert jobs_in(SUMMARY, "chaos") == [
        Job(EVALUATION, "evaluate", "-", [f"{RUN}/metrics.json", f"{RUN}/predictions.parquet"]),
        Job("fetch/movielens-100k", "fetch", "-", ["data/raw/movielens-100k"]),
        Job("tables", "tables", "-", ["results/chaos/tables"]),
    ]


def test_a_detailed_summary_has_commands():
    columns = "output_file\tdate\trule\tlog-file(s)\tinput-file(s)\tshellcmd\tstatus\tplan"
    rows = ["a\tx\ttrain\tlogs/s/train/1.log\tin\tpython t.py\tok\t-", "b\t-\ttrain\t-\t-\t-\tmissing\tupdate pending"]
    assert jobs_in("\n".join([columns, *rows]), "s") == [
        Job("train", "train", "-", ["b"]),
        Job("train/1", "train", "python t.py", ["a"]),
    ]

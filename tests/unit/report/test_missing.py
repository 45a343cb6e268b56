"""Each result file that is not there is named in the report, with the command that makes it."""

import shutil

import pytest
from synthetic.study import markdown_of, results_of

FILES = [
    "movie_preference/tuned/config.yaml",
    "movie_preference/tuned/metrics.json",
    "movie_preference/tuned/predictions.parquet",
    "movie_preference/tuned/history.csv",
    "movie_preference/baseline_ease/metrics.json",
    "ssept/ssept/config.yaml",
    "ssept/ssept/metrics.json",
    "ssept/ssept/predictions.parquet",
    "ssept/ssept/beyond.json",
    "ssept/baseline_ease_recency/groups.parquet",
    "ssept/ssept/seeds/2/history.csv",
    "bert4rec/lora/metrics.json",
    "bert4rec/baseline_markov/predictions.parquet",
    "bert4rec/efficiency/measurements.json",
    "wikitext/tuned/config.yaml",
    "wikitext/base/metrics.json",
    "wikitext/tuned/history.csv",
    "wikitext/tuned/documents.parquet",
    "wikitext/base/answers.jsonl",
    "wikitext/rating/ratings.json",
    "climate/tuned/metrics.json",
    "climate/ladder/measurements.json",
    "prepared/movielens-100k/summary.json",
    "prepared/climate-chapters/manifest.parquet",
    "blocks/trial/wikitext/tuned/blocks.json",
]


@pytest.fixture(scope="module")
def parts(study, written, tmp_path_factory):
    """The study where its files may be taken away, with the folder of its finished report."""
    root = tmp_path_factory.mktemp("gaps")
    shutil.copytree(study / "results" / "trial", root / "results" / "trial", ignore=shutil.ignore_patterns("report"))
    shutil.copytree(study / "data", root / "data")
    return root, written


def report_of(root, written) -> str:
    """report.md from the finished tables and figures, and the result files that are there now."""
    return markdown_of(results_of(root), written)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named_with_its_command(parts, file):
    root, written = parts
    path = root / ("data" if file.split("/")[0] in ("prepared", "blocks") else "results/trial") / file
    content = path.read_bytes()
    path.unlink()
    try:
        text = report_of(root, written)
    finally:
        path.write_bytes(content)
    assert f"make it with* `snakemake {path}`" in text


def test_free_answers_that_are_missing_are_named(parts):
    root, written = parts
    paths = [
        root / "results/trial/movie_preference" / name / "examples.jsonl"
        for name in ("base", "tuned", "always_a", "next_film")
    ]
    contents = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    try:
        text = report_of(root, written)
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
    assert "make it with* `snakemake movie_preference`" in text.split("## Free answers")[1].split("## Claims")[0]


def test_nothing_is_missing_where_nothing_is(parts):
    assert "make it with" not in report_of(*parts)

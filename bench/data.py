"""Time the preparation of interactions against plain pandas, on generated rows in MovieLens-20M's format.

Both read the same ratings and films and write the same columns. Each run has a process of its own; the
two take turns, so that a busy machine is busy for both.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench import SCRIPTS
from frugal.errors import FrugalError, run_script
from frugal.files import sha256_file, write_json

USERS, FILMS, FIRST = 138_493, 27_278, 789_652_009
CHUNK = 1_000_000
TABLE = """datasets:
  bench:
    title: generated
    rating_range: [0.5, 5]
    tie_order: file  # pandas, on the other side, has no random one
    sources:
      - {{path: '{folder}', format: movielens-csv, members: {{ratings: ratings.csv, items: movies.csv}}}}
"""
# What a careful user of pandas would write: the same checks of duplicates, the same columns and order.
PANDAS = """
import sys
import pandas as pd

raw, out = sys.argv[1:]
ratings = pd.read_csv(f"{raw}/ratings.csv")
films = pd.read_csv(f"{raw}/movies.csv")
ratings = ratings.drop_duplicates(["userId", "movieId", "timestamp"], keep="last")
ratings = ratings.sort_values(["userId", "timestamp"], kind="stable")
known = sorted(set(films.movieId) | set(ratings.movieId.unique()))
items = pd.Categorical(ratings.movieId, categories=known).codes
users, _ = pd.factorize(ratings.userId, sort=True)
frame = pd.DataFrame(
    {
        "user": users.astype("int32"),
        "item": items.astype("int32"),
        "rating": ratings.rating.to_numpy("float32"),
        "timestamp": ratings.timestamp.to_numpy("int64"),
    }
)
frame.to_parquet(f"{out}/interactions.parquet", compression="zstd", index=False)
"""


def generate(folder: Path, rows: int) -> None:
    """Write ``ratings.csv`` and ``movies.csv``.

    Like the real ones: sorted by user and film, no user has a film twice, film ids have gaps, and a few
    films have most of the ratings.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pacsv

    random = np.random.default_rng(0)
    ids = np.sort(random.choice(131_262, FILMS, replace=False)) + 1
    pairs = np.empty(0, np.int64)
    while pairs.size < rows:
        user = random.integers(0, USERS, rows, dtype=np.int64)
        film = (FILMS * random.random(rows) ** 3).astype(np.int64)
        pairs = np.union1d(pairs, user * FILMS + film)
    pairs = np.delete(pairs, random.choice(pairs.size, pairs.size - rows, replace=False))
    schema = pa.schema([(name, pa.int64()) for name in ("userId", "movieId")])
    schema = schema.append(pa.field("rating", pa.float64())).append(pa.field("timestamp", pa.int64()))
    options = pacsv.WriteOptions(quoting_style="none", include_header=False)
    with (
        open(folder / "ratings.csv", "wb") as stream,
        pacsv.CSVWriter(stream, schema, write_options=options) as out,
    ):
        stream.write(b"userId,movieId,rating,timestamp\n")
        for start in range(0, rows, CHUNK):
            user, film = np.divmod(pairs[start : start + CHUNK], FILMS)
            rating = random.integers(1, 11, user.size) / 2
            when = FIRST + random.integers(0, 600_000_000, user.size)
            out.write(pa.table([user + 1, ids[film], rating, when], schema=schema))
    lines = [f"{film},Film {film} (1990),Drama|Comedy\n" for film in ids]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "".join(lines))


def timed(command: list[str]) -> dict[str, float]:
    """Run a command; wall seconds and the peak resident megabytes of its process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise FrugalError(f"the benchmark's command failed: {' '.join(command)[:300]}")
    # Linux counts kilobytes, macOS bytes.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": round(seconds, 2), "peak_rss_mb": round(peak / 1e6, 1)}


def same_rows(one: Path, two: Path) -> bool:
    """Whether two Parquet files hold the same columns and values."""
    import pyarrow.parquet as pq

    return pq.read_table(one).equals(pq.read_table(two))


def generated_data(
    folder: Path, generate: Callable[[Path, int], None], rows: int, table: str, raw: Path, out: Path
) -> list[str]:
    """Generate ``rows`` rows, fetch them into ``raw``, and return the command that prepares them into ``out``."""
    generated = folder / "generated"
    generated.mkdir()
    # In a process of its own: a child's peak memory counts from what its parent has in memory.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(generate, generated, rows).result()
    (folder / "table.yaml").write_text(table.format(folder=generated))
    named = ["--table", str(folder / "table.yaml"), "--name", "bench"]
    fetch = [sys.executable, str(SCRIPTS / "fetch_source.py"), *named, "--output", str(raw)]
    subprocess.run([*fetch, "--downloads", str(folder)], check=True)
    prepare = [sys.executable, str(SCRIPTS / "prepare_interactions.py"), *named, "--raw", str(raw)]
    for name in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json"):
        prepare += [f"--{Path(name).stem}", str(out / name)]
    return prepare


def measure(folder: Path, rows: int, runs: int) -> list[dict[str, Any]]:
    """Generate, prepare ``runs`` times each way, and check that both ways agree."""
    raw, ours, theirs = (folder / name for name in ("raw", "ours", "pandas"))
    theirs.mkdir()
    prepare = generated_data(folder, generate, rows, TABLE, raw, ours)
    commands = {"frugal": prepare, "pandas": [sys.executable, "-c", PANDAS, str(raw), str(theirs)]}
    # One reading for both before the clock runs, so that the first is not the only one from a cold disk.
    sha256_file(raw / "ratings.csv")
    results = []
    for run in range(runs):
        # Who goes first changes from run to run.
        for system in list(commands) if run % 2 == 0 else reversed(commands):
            results.append({"run": run, "system": system, **timed(commands[system])})
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    if not same_rows(ours / "interactions.parquet", theirs / "interactions.parquet"):
        raise FrugalError("the two ways gave different rows; the comparison would be worth nothing")
    return results


def summarise(results: list[dict[str, Any]], rows: int) -> dict[str, float]:
    """Medians of each system and the ratios between them."""

    def median(system: str, key: str) -> float:
        return statistics.median(result[key] for result in results if result["system"] == system)

    seconds, peak = median("frugal", "seconds"), median("frugal", "peak_rss_mb")
    return {
        "rows": rows,
        "seconds": seconds,
        "rows_per_second": round(rows / seconds),
        "rows_per_second_vs_pandas": round(median("pandas", "seconds") / seconds, 3),
        "peak_rss_mb": peak,
        "peak_rss_mb_vs_pandas": round(peak / median("pandas", "peak_rss_mb"), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.data", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3, help="paired runs")
    parser.add_argument("--output", type=Path, default=Path("results/bench/data.json"))
    options = parser.parse_args()
    import numpy
    import pandas
    import pyarrow

    with tempfile.TemporaryDirectory(prefix="frugal-bench-") as folder:
        results = measure(Path(folder), options.rows, options.runs)
    versions = {"python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in (numpy, pandas, pyarrow)}
    medians = summarise(results, options.rows)
    write_json(options.output, {**medians, "cpus": os.cpu_count(), "versions": versions, "runs": results})
    print(json.dumps(medians, indent=2))


if __name__ == "__main__":
    run_script(main)

"""Time the preparation of Amazon reviews, on generated lines in the format of 2018, packed by gzip."""

import argparse
import gzip
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from bench.data import generated_data, timed
from frugal.errors import FrugalError, run_script
from frugal.files import read_json, sha256_file, write_json

FIRST_DAY, DAYS, DAY = 938_649_600, 6_900, 86_400  # from 30 September 1999 to 2018
CHUNK = 100_000
TABLE = """datasets:
  bench:
    title: generated
    rating_range: [1, 5]
    on_bad_rows: skip
    sources:
      - {{path: '{folder}', format: amazon-json, members: {{ratings: reviews.json.gz}}}}
"""


def generate(folder: Path, rows: int) -> None:
    """Write ``reviews.json.gz``: about 600 bytes a line, sorted by product as the real files are.

    A few products have most of the reviews, and there are ten reviews for a user and forty for a product.
    """
    import numpy as np

    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(random.choice(letters, size)) for size in random.integers(2, 11, 5_000)])
    texts = [json.dumps(" ".join(random.choice(words, size))) for size in random.integers(5, 100, 5_000)]
    users, items = max(rows // 10, 1), max(rows // 40, 1)
    product = np.sort((items * random.random(rows) ** 3).astype(np.int64))
    with gzip.open(folder / "reviews.json.gz", "wt", compresslevel=1, encoding="utf-8", newline="\n") as out:
        for start in range(0, rows, CHUNK):
            asin = product[start : start + CHUNK].tolist()
            user = random.integers(0, users, len(asin)).tolist()
            stars = random.choice(5, len(asin), p=[0.08, 0.05, 0.08, 0.18, 0.61]).tolist()
            when = (FIRST_DAY + DAY * random.integers(0, DAYS, len(asin))).tolist()
            text = random.integers(0, len(texts), len(asin)).tolist()
            out.writelines(
                f'{{"overall": {s + 1}.0, "vote": "7", "verified": true, "reviewTime": "07 13, 2015", '
                f'"reviewerID": "A{u:013X}", "asin": "B{a:09X}", "style": {{"Color:": " Black"}}, '
                f'"reviewerName": "A customer", "reviewText": {texts[t]}, "summary": "Five stars", '
                f'"unixReviewTime": {w}}}\n'
                for s, u, a, w, t in zip(stars, user, asin, when, text, strict=True)
            )


def measure(folder: Path, rows: int) -> dict[str, Any]:
    """Generate, prepare once in a process of its own, and check that no review was lost."""
    raw, out = folder / "raw", folder / "out"
    prepare = generated_data(folder, generate, rows, TABLE, raw, out)
    # One reading before the clock runs, so that the disk's cache is warm in every benchmark.
    sha256_file(raw / "reviews.json.gz")
    result = timed(prepare)
    facts = read_json(out / "summary.json")
    if facts["rows_kept"] + facts["duplicates"]["removed"] != rows:
        raise FrugalError(f"of {rows} reviews {facts['rows_kept']} were kept; the measurement would be worth nothing")
    return {
        "rows": rows,
        "seconds": result["seconds"],
        "rows_per_second": round(rows / result["seconds"]),
        "peak_rss_mb": result["peak_rss_mb"],
        "file_mb": round((raw / "reviews.json.gz").stat().st_size / 1e6, 1),
        "users": facts["users"],
        "items": facts["items"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.amazon", description=__doc__)
    parser.add_argument("--rows", type=int, default=7_000_000)
    parser.add_argument("--output", type=Path, default=Path("results/bench/amazon.json"))
    options = parser.parse_args()
    import numpy
    import pyarrow

    with tempfile.TemporaryDirectory(prefix="frugal-bench-") as folder:
        result = measure(Path(folder), options.rows)
    versions = {"python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in (numpy, pyarrow)}
    write_json(options.output, {**result, "cpus": os.cpu_count(), "versions": versions})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    run_script(main)

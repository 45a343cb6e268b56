"""From two models' answers to a sheet, and from filled sheets to ratings, by the command lines."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

from frugal.llm.rating.sheet import CRITERIA

SCRIPTS = Path(__file__).parents[3] / "workflow/scripts"


def run(script, *options):
    command = [sys.executable, str(SCRIPTS / script), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_answers_to_ratings(tmp_path):
    for name in ("base", "tuned"):
        row = {"prompt": "One line\u2028or two", "answer": f"of {name}", "tokens": 3}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    outputs = ["--sheet", tmp_path / "sheet.csv", "--page", tmp_path / "sheet.html", "--key", tmp_path / "key.json"]
    inputs = ["--base", tmp_path / "base.jsonl", "--tuned", tmp_path / "tuned.jsonl"]
    written = run("write_rating_sheet.py", "--experiment", "wikitext", "--seed", 1, *inputs, *outputs)
    assert (written.returncode, written.stderr) == (0, "")
    assert "Rating sheet: wikitext" in (tmp_path / "sheet.html").read_text(encoding="utf-8")

    read = ["read_ratings.py", "--key", tmp_path / "key.json", "--output", tmp_path / "ratings.json", "--sheets"]
    empty = run(*read, tmp_path / "sheet.csv")
    assert empty.returncode == 1
    assert "fluency is empty; write 1, 2, 3, 4 or 5" in empty.stderr
    assert "Traceback" not in empty.stderr

    rows = list(csv.DictReader(io.StringIO((tmp_path / "sheet.csv").read_text(encoding="utf-8-sig"))))
    for row in rows:
        row.update(dict.fromkeys(CRITERIA, "5" if "tuned" in row["answer"] else "1"))
    with (tmp_path / "filled.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    filled = run(*read, tmp_path / "filled.csv")
    assert (filled.returncode, filled.stderr) == (0, "1 rater: tuned preferred in 100%\n")
    result = json.loads((tmp_path / "ratings.json").read_text())
    assert result["means"]["tuned"] == {"fluency": 5, "relevance": 5, "correctness": 5, "overall": 5}

"""Write the blind rating sheet of two models' answers: CSV, a one-file page, and the key to both."""

import argparse
import json
from pathlib import Path

from frugal.errors import FrugalError, first_line, run_script
from frugal.files import write_json, write_text
from frugal.llm.rating.sheet import make_items, sheet_csv, sheet_html, sheet_key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="named in the sheet's title")
    parser.add_argument("--base", required=True, type=Path, help="answers.jsonl of the base model")
    parser.add_argument("--tuned", required=True, type=Path, help="answers.jsonl of the tuned model")
    parser.add_argument("--seed", required=True, type=int, help="draws which answer comes first")
    parser.add_argument("--sheet", required=True, type=Path, help="output: sheet.csv")
    parser.add_argument("--page", required=True, type=Path, help="output: sheet.html")
    parser.add_argument("--key", required=True, type=Path, help="output: key.json; keep it from the raters")
    args = parser.parse_args()
    items = make_items({"base": read_answers(args.base), "tuned": read_answers(args.tuned)}, args.seed)
    write_text(args.sheet, sheet_csv(items))
    write_text(args.page, sheet_html(items, f"Rating sheet: {args.experiment}"))
    write_json(args.key, sheet_key(items))


def read_answers(path: Path) -> list[dict]:
    """Rows of answers.jsonl."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        for row in rows:
            if not (isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("prompt", "answer"))):
                raise ValueError("a line is no prompt with its answer")
            json.dumps(row, ensure_ascii=False).encode()  # JSON can spell halves of surrogate pairs
        return rows
    except (OSError, ValueError, RecursionError) as error:
        raise FrugalError(f"{path}: cannot be read: {first_line(error)}; evaluate the model again") from None


if __name__ == "__main__":
    run_script(main)

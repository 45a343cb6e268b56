"""Write config/<name>.yaml, a small study of one experiment: on your own data, or on a data set that comes with it."""

import argparse
import re
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any

import yaml

from frugal.config.errors import nearest
from frugal.config.own_data import describe_source
from frugal.config.study import LONGEST_NAME, NAME, load_study
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError, run_script
from frugal.files import in_full, write_text
from frugal.kinds import KINDS, PREFERENCE, Kind

TEMPLATES = Path("config/templates")
#: Kind -> the data set of config/datasets.yaml that stands in until the user's own is named.
STAND_INS = {"interactions": "movielens-100k", "documents": "climate-chapters"}
#: How the pairs of a preference experiment show their items: with attributes such as genres, or as titles alone.
ATTRIBUTES = "reasoning_fraction: 0.04         # training answers that give their reasons"
TITLES = """history_attributes: false        # these items have titles alone
      reasoning_fraction: 0            # so there is nothing to reason with"""
USAGE = "make new-study NAME=my-study KIND=recommendation DATA=ratings.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the study's name")
    parser.add_argument("--kind", required=True, help=f"{', '.join(KINDS)}")
    parser.add_argument("--data", default="", help="a CSV, Parquet or sequence file; a folder of tables, texts or PDFs")
    parser.add_argument("--fields", nargs="*", default=[], help="user=... item=... rating=... timestamp=...")
    args = parser.parse_args()
    file = Path("config") / f"{args.name}.yaml"
    _check_name(args.name, file)
    kind = _kind(args.kind)
    text, notes = study_text(args.name, kind, args.data, dict(map(_column, args.fields)))
    load_study(yaml.safe_load(text), str(file))
    write_text(file, text)
    print(f"{file}: written; nothing runs yet")
    for note in notes:
        print(f"  note: {note}")
    columns = "the columns, and " if kind.reads == "interactions" and args.data else ""
    print("Next:")
    print(f"  1. Look at {file}: {columns}the keys with comments")
    print(f"  2. make report STUDY={args.name}")
    print(f"  3. Open results/{args.name}/report/report.html")


def study_text(name: str, kind: Kind, data: str, columns: dict[str, str]) -> tuple[str, list[str]]:
    """The study's file, and notes on the data for the user.

    Raises:
        FrugalError: the data cannot be used, or its columns cannot be guessed.
    """
    if columns and not data:
        raise FrugalError("FIELDS: names columns of DATA, which is missing")
    notes: list[str] = []
    attributes, split = True, "leave_one_out"
    if data:
        source, notes = describe_source(_as_written(data), kind, columns)
        attributes = "attributes" in source.get("item_columns", {})
        split = "files" if "train" in source.get("members", {}) else split
        dataset, datasets = name, _entry(name, kind, source, notes)
    else:
        dataset = f"{STAND_INS[kind.reads]:27}# of config/datasets.yaml; your own data: name it here, as above"
        datasets = _example(kind)
    template = Template((TEMPLATES / f"{kind.name}.yaml").read_text(encoding="utf-8"))
    shown = ATTRIBUTES if attributes else TITLES
    values = {"study": name, "dataset": dataset, "datasets": datasets, "attributes": shown, "split": f"{split:25}"}
    return template.substitute(values), notes


def _entry(name: str, kind: Kind, source: dict[str, Any], notes: list[str]) -> str:
    """The study's key `datasets` with the user's data as its entry, and the keys that one may want as comments."""
    lines = ["datasets:                              # entries as in config/datasets.yaml", f"  {name}:"]
    lines += [f"    title: {_flow(name)}", "    sources:"]
    for index, (key, value) in enumerate(source.items()):
        if key == "columns":
            lines += [f"        # {note}" for note in notes]
            lines.append("        # Role: column. Please check.")
        lines.append(f"      {'-' if index == 0 else ' '} {key}: {_flow(value)}")
    if kind is PREFERENCE:
        words = {"noun": "item", **_attribute_words(source["item_columns"].get("attributes"))}
        lines.append(f"    items: {_flow(words)}   # what prompts call an item: book, film, product")
    if kind.reads == "interactions":
        lines.append("    on_bad_rows: error                 # skip: bad rows are left out, and counted")
        lines.append("    # rating_range: [1, 5]             # a rating outside is a bad row")
        lines.append("    # min_interactions: 5              # leave out users and items with fewer interactions")
    else:
        lines.append("    min_characters: 200                # shorter documents are left out")
        lines.append("    near_duplicate_similarity: 0.8     # the later of two similar documents is left out")
    return "\n".join(lines) + "\n"


def _attribute_words(column: str | None) -> dict[str, str]:
    """What an attribute is called, singular and plural, after its column; nothing without a column."""
    if column is None:
        return {}
    word = " ".join(re.sub(r"[^a-z]+", " ", column.lower()).split())[:30] or "attribute"
    single = f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("s") or word
    return {"attribute": single, "attributes": word if word.endswith("s") else f"{word}s"}


def _example(kind: Kind) -> str:
    """An entry for the user's data, as a comment."""
    if kind.reads == "documents":
        source = [
            "path: /data/reports",
            "format: pdf                  # or text: .txt, .jsonl, .ndjson",
        ]
    elif kind is PREFERENCE:
        source = ["path: /data/shop              # a folder with both files", "format: csv"]
        source += ["members: {ratings: orders.csv, items: products.csv}"]
        source += ["columns: {user: customer, item: sku, rating: stars, timestamp: when}"]
        source += ["item_columns: {item: sku, title: name, attributes: tags}"]
    else:
        source = ["path: /data/orders.csv", "format: csv"]
        source += ["columns: {user: customer, item: sku, rating: stars, timestamp: when}"]
    lines = ["datasets:", "  my-data:", "    title: My data", "    sources:", f"      - {source[0]}"]
    return "\n".join(f"# {line}" for line in [*lines, *(f"        {line}" for line in source[1:])]) + "\n"


def _check_name(name: str, file: Path) -> None:
    if not name:
        raise FrugalError(f"NAME is missing: {USAGE}")
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise FrugalError(
            f"NAME: '{name}' is made of a-z, 0-9, _ and -, begins with a letter or digit, and is at most "
            f"{LONGEST_NAME} characters long"
        )
    if file.exists():
        raise FrugalError(f"{file}: exists, and is not overwritten; choose another NAME")
    taken = []
    for other in sorted(file.parent.glob("*.yaml")):
        with suppress(FrugalError):  # a file with a mistake is no concern of this study
            if read_yaml(other).get("study") == name:
                taken.append(other)
    if taken:
        raise FrugalError(f"{taken[0]}: is the study '{name}' already; choose another NAME")


def _kind(name: str) -> Kind:
    if not name:
        raise FrugalError(f"KIND is missing; kinds: {', '.join(KINDS)}")
    if name not in KINDS:
        near = nearest(name, list(KINDS)).replace("known keys here", "kinds")
        raise FrugalError(f"KIND: there is no kind '{name}'{near}")
    return KINDS[name]


def _column(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role and equals and name):
        raise FrugalError(f"FIELDS: '{text}' is not of the form role=column, such as user=customer")
    return role, name


def _as_written(data: str) -> Path:
    """The path of the data: from the project's folder where it lies in it, so that the study can move with it."""
    path = in_full(data).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


if __name__ == "__main__":
    run_script(main)

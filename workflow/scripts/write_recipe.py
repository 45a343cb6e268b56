"""Keep the best settings of a finished search as a recipe, config/recipes/<name>.yaml, which studies can name."""

import argparse
from pathlib import Path

from frugal.config.recipes import read_recipe
from frugal.config.study import LONGEST_NAME, NAME
from frugal.errors import FrugalError, run_script
from frugal.files import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--search", required=True, type=Path, help="results/<study>/<experiment>/<variant>/search")
    parser.add_argument("--name", required=True, help="the recipe's name")
    parser.add_argument("--recipes", default=Path("config/recipes"), type=Path, help="folder of recipes")
    parser.add_argument("--replace", action="store_true", help="also where the recipe is there")
    args = parser.parse_args()
    if not NAME.fullmatch(args.name) or len(args.name) > LONGEST_NAME:
        raise FrugalError(
            f"--name: '{args.name}' is made of a-z, 0-9, _ and -, begins with a letter or digit, and is at most "
            f"{LONGEST_NAME} characters long"
        )
    source, recipe = args.search / "best.yaml", args.recipes / f"{args.name}.yaml"
    if not source.is_file():
        raise FrugalError(f"{source}: is not there; search first: make search STUDY=... EXPERIMENT=... VARIANT=...")
    if recipe.exists() and not args.replace:
        raise FrugalError(f"{recipe}: exists; choose another name, or add --replace")
    read_recipe(source)
    write_text(recipe, source.read_text(encoding="utf-8"))
    print(f"{recipe}: written; a variant uses it by `recipe: {recipe}`")


if __name__ == "__main__":
    run_script(main)

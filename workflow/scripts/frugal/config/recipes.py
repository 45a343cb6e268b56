"""Recipes: settings of a recommender that a search has found, for other studies to use."""

import copy
from pathlib import Path
from typing import Any

from pydantic import Field

from frugal.config.base import Settings
from frugal.config.errors import describe, validate
from frugal.config.originals import project_file
from frugal.config.recommendation import LossSettings, ModelSettings, TrainingSettings
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError

#: The kind whose experiments and variants take recipes.
KIND = "recommendation"


class RecipeSettings(Settings):
    """What a recipe sets; each section may be left out, or be in part."""

    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()


class Recipe(Settings):
    """A recipe's file."""

    settings: RecipeSettings
    found: dict[str, Any] = Field({}, description="The figures that it reached, and where.")


def read_recipe(path: Path | str) -> dict[str, Any]:
    """The content of a recipe's file, checked, as it stands there.

    Raises:
        FrugalError: the file cannot be read, or is faulty.
    """
    data = read_yaml(path)
    validate(Recipe, data, file=str(path))
    return data


def with_recipes(data: Any, file: str) -> Any:
    """A study whose experiments and variants have their recipe's settings below their own, in place of its name.

    Raises:
        FrugalError: a recipe is not there, or is faulty.
    """
    experiments = data.get("experiments") if isinstance(data, dict) else None
    if not isinstance(experiments, dict):
        return data
    data = data | {"experiments": dict(experiments)}
    for name, entry in experiments.items():
        if not isinstance(entry, dict) or entry.get("kind") != KIND:
            continue
        where = f"{file}: experiments.{name}"
        entry = _with_recipe(entry, where)
        if isinstance(variants := entry.get("variants"), dict):
            entry["variants"] = {
                variant: _with_recipe(changes, f"{where}.variants.{variant}") for variant, changes in variants.items()
            }
        data["experiments"][name] = entry
    return data


def _with_recipe(settings: Any, where: str) -> Any:
    if not isinstance(settings, dict):
        return settings
    settings = copy.deepcopy(settings)
    recipe = settings.pop("recipe", None)
    if recipe is None:
        return settings
    if not isinstance(recipe, str):
        raise FrugalError(f"{where}.recipe: must be the path of a recipe, got {describe(recipe)}")
    path = next((path for path in (Path(recipe), project_file(recipe)) if path.is_file()), None)
    if path is None:
        raise FrugalError(f"{where}.recipe: there is no file '{recipe}'; give its path from the project's folder")
    for section, values in read_recipe(path)["settings"].items():
        own = settings.get(section, {})
        if isinstance(own, dict):  # what else it may be, the section's own check reports
            settings[section] = {**values, **own}
    return settings

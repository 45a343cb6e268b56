"""A study: the experiments of one configuration file, checked and resolved before any job runs."""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from frugal.config.backends import uses_unsloth
from frugal.config.base import Settings
from frugal.config.errors import describe, nearest, validate
from frugal.config.originals import ORIGINALS_FILE, PROJECT, load_originals, project_file
from frugal.config.recipes import with_recipes
from frugal.config.recommendation import SPLIT_ADVICE, ModelSettings
from frugal.config.registry import (
    DATASETS_FILE,
    MODELS_FILE,
    DatasetEntry,
    ModelEntry,
    check_entries,
    load_datasets,
    load_models,
)
from frugal.config.search import SearchSettings
from frugal.config.search_space import can_be_searched, check_search
from frugal.config.sources import DOCUMENT_FORMATS
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.kinds import BASE, KINDS, RECOMMENDATION, Kind

#: What an experiment has beside the settings of its runs.
AROUND_RUNS = ("title", "reproduces", "script", "environment", "variants", "efficiency", "ladder", "recipe")
#: Names of targets of Snakemake, and of folders beside those of the experiments.
TARGETS = ("all", "data", "models", "preflight", "tables", "figures", "report", "machine", "dvc")
#: Folders of an experiment that are no variants.
TAKEN = (BASE, "efficiency", "ladder", "rating")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
#: Folders are called so, and logs and temporary files a little longer.
LONGEST_NAME = 80


class ReportSettings(Settings):
    """What the report holds beside the study's own results."""

    compare: dict[Annotated[str, Field(pattern=r"^[\w.-][\w. -]{0,39}$")], str] = Field(
        {},
        description="Results of other studies or machines, to stand beside these: the name that the report gives "
        "them, and their folder, such as results/full.",
    )
    threats: list[str] = Field(
        [],
        description="Sentences on the study's validity that no result file can know, such as how its settings were "
        "chosen; they stand among the threats to validity.",
    )


class StudySettings(Settings):
    """One configuration file."""

    study: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        max_length=LONGEST_NAME,
        description="Names the folder below results/ that takes the results.",
    )
    local_paths: dict[str, str] = Field(
        {},
        description="Your own copy of a data set or model: its name, and the file or folder that holds it.",
    )
    datasets: dict[str, Any] = Field(
        {}, description="Data sets of this study, beside those of config/datasets.yaml; entries are written as there."
    )
    models: dict[str, Any] = Field(
        {}, description="Base models of this study, beside those of config/models.yaml; entries are written as there."
    )
    report: ReportSettings = ReportSettings()
    experiments: dict[str, Any] = Field(
        min_length=1, description="Name of an experiment: its kind, its title, and the keys of its kind."
    )


@dataclass(frozen=True)
class Experiment:
    """One experiment of a study, resolved.

    Attributes:
        shared: the settings that all runs share.
        runs: variant -> its settings; first the untuned base model, `BASE`, where the kind has one.
        searches: variant -> the search for its settings, of those that have one.
    """

    name: str
    kind: Kind
    settings: Any
    shared: Any
    runs: Mapping[str, Any]
    searches: Mapping[str, SearchSettings] = field(default_factory=dict)

    @property
    def variants(self) -> list[str]:
        """The runs that train something."""
        return list(self.settings.variants)

    @property
    def baseline_runs(self) -> list[str]:
        """The folders of its baselines."""
        used = self.shared.baselines.use if hasattr(self.shared, "baselines") else self.kind.baselines
        return [f"baseline_{name}" for name in self.kind.baselines if name in used]

    @property
    def principal(self) -> str:
        """The variant that comparisons are about: the one called as the experiment, or `tuned`, or else the first."""
        return next((name for name in (self.name, "tuned") if name in self.variants), self.variants[0])

    @property
    def script(self) -> str:
        """Its training script, from the project's folder."""
        return self.settings.script or f"workflow/scripts/{self.kind.script}"

    def environment(self, variant: str) -> str:
        """The conda environment that a run trains in, from the project's folder."""
        name = "unsloth" if uses_unsloth(self.runs[variant]) else self.kind.environment
        return self.settings.environment or f"envs/{name}.yaml"

    @property
    def efficiency(self) -> Any:
        """What its efficiency measurement covers; None without one."""
        return getattr(self.settings, "efficiency", None)

    @property
    def ladder(self) -> Any:
        """What its memory ladder covers; None without one."""
        return getattr(self.settings, "ladder", None)


@dataclass(frozen=True)
class Study:
    """A configuration file, checked and resolved.

    Attributes:
        datasets: the data sets that it can name: those of config/datasets.yaml, and its own.
        models: the same, of base models.
    """

    name: str
    local_paths: Mapping[str, str]
    datasets: Mapping[str, DatasetEntry]
    models: Mapping[str, ModelEntry]
    report: ReportSettings
    experiments: Mapping[str, Experiment]

    def of_kind(self, *kinds: Kind) -> dict[str, Experiment]:
        """Name -> experiment, of these kinds, in the file's order."""
        return {name: experiment for name, experiment in self.experiments.items() if experiment.kind in kinds}


def read_study(path: Path | str) -> Study:
    """`load_study` of a file, and `check_names`.

    Raises:
        FrugalError: the file cannot be read, or is faulty.
    """
    study = load_study(read_yaml(path), str(path))
    check_names(study, str(path))
    return study


def load_study(data: dict[str, Any], file: str) -> Study:
    """Check a study, and resolve each variant of each experiment.

    Args:
        data: the parsed configuration.
        file: its name, for errors.

    Raises:
        FrugalError: one line for each fault, naming the file and the key.
    """
    _refuse_former_form(data, file)
    data = with_recipes(data, file)
    settings = validate(StudySettings, data, file=file)
    datasets, models = _tables(settings, file)
    experiments = {name: _load_experiment(data, name, file, datasets) for name in settings.experiments}
    study = Study(settings.study, settings.local_paths, datasets, models, settings.report, experiments)
    for experiment in study.of_kind(RECOMMENDATION).values():
        _check_warm_starts(study, experiment, file)
        _check_sizes(data, experiment, file)
        _check_splits(study, experiment, file)
    return study


def check_names(study: Study, file: str) -> None:
    """Every data set and model that a study names is in its table, and its kind can read it.

    Raises:
        FrugalError: one line for each fault, naming the file and the key.
    """
    if faults := [f"{file}: {key}: {fault}" for key, fault in _wrong_names(study)]:
        raise FrugalError("\n".join(faults))


def _wrong_names(study: Study) -> Iterator[tuple[str, str]]:
    """Each key that names a data set or model that no table has, or that its kind cannot read, and what is wrong."""
    for name, experiment in study.experiments.items():
        kind, shared = experiment.kind, experiment.shared
        tables = {"dataset": study.datasets} | ({"base_model": study.models} if kind.has_base_model else {})
        variants = {f".variants.{variant}": run for variant, run in experiment.runs.items() if variant != BASE}
        for place, run in {"": shared, **variants}.items():
            for key, table in tables.items():
                where, value = f"experiments.{name}{place}.{key}", getattr(run, key)
                if place and value == getattr(shared, key):
                    continue
                if value not in table:
                    yield where, f"'{value}' is not known{nearest(value, sorted(table), 'known')}"
                elif key == "dataset" and holds_documents(table[value]) != (kind.reads == "documents"):
                    wanted = "texts or PDFs" if kind.reads == "documents" else "interactions"
                    yield where, f"'{value}' does not hold {wanted}"
    for name in study.local_paths:
        if name not in study.datasets and name not in study.models:
            yield f"local_paths.{name}", "no data set or model has this name"


def _tables(settings: StudySettings, file: str) -> tuple[dict[str, DatasetEntry], dict[str, ModelEntry]]:
    """The entries of both tables, and the study's own, whose names are new to both: data/raw/<name> holds either."""
    datasets, models = load_datasets(project_file(DATASETS_FILE)), load_models(project_file(MODELS_FILE))
    shipped = {**dict.fromkeys(models, MODELS_FILE), **dict.fromkeys(datasets, DATASETS_FILE)}
    own = {key: check_entries(key, getattr(settings, key), file) for key in ("datasets", "models")}
    for key, entries in own.items():
        if taken := next((name for name in entries if name in shipped), None):
            raise FrugalError(f"{file}: {key}.{taken}: {shipped[taken]} has this name; choose another one")
    if both := own["datasets"].keys() & own["models"].keys():
        raise FrugalError(f"{file}: models.{min(both)}: a data set of this study has this name; choose another one")
    return datasets | own["datasets"], models | own["models"]


def _refuse_former_form(data: Any, file: str) -> None:
    if not isinstance(data, dict) or "experiments" in data:
        return
    originals = load_originals()
    if former := [key for key in originals if key in data]:
        forms = "\n".join(
            f"    {key}:\n      kind: {originals[key].kind}\n      title: {originals[key].title}\n"
            f"      reproduces: {key}\n      ..."
            for key in former
        )
        raise FrugalError(
            f"{file}: {', '.join(former)}: experiments now stand below the key 'experiments', each with a kind and a "
            f"title before its other keys:\n  experiments:\n{forms}"
        )


def _load_experiment(data: dict[str, Any], name: str, file: str, datasets: Mapping[str, Any]) -> Experiment:
    where = f"{file}: experiments.{name[:100]}"
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise FrugalError(
            f"{where}: an experiment's name is made of a-z, 0-9, _ and -, begins with a letter or digit, and is at "
            f"most {LONGEST_NAME} characters long"
        )
    if name in TARGETS:
        raise FrugalError(f"{where}: '{name}' is a target or folder of the workflow; give the experiment another name")
    entry = data["experiments"][name]
    if not isinstance(entry, dict):
        raise FrugalError(f"{where}: expected keys and values, got {describe(entry)}")
    kind = _kind(entry.get("kind"), where)
    settings = validate(kind.experiment, entry, file=file, prefix=("experiments", name))
    _check_original(settings.reproduces, kind, where)
    for key in ("script", "environment"):
        _check_project_file(getattr(settings, key), f"{where}.{key}")
    for variant in settings.variants:
        taken = variant in TAKEN or variant.startswith("baseline_")
        if not NAME.fullmatch(variant) or len(variant) > LONGEST_NAME or taken:
            raise FrugalError(
                f"{where}.variants.{variant[:100]}: a variant's name is made of a-z, 0-9, _ and -; "
                f"{', '.join(map(repr, TAKEN))} and names that begin with 'baseline_' are taken"
            )
    shared = resolve(data, name, BASE, file, datasets)
    runs = {BASE: shared} if kind.has_base_model else {}
    runs |= {variant: resolve(data, name, variant, file, datasets) for variant in settings.variants}
    searches = {}
    for variant in settings.variants if "search" in kind.experiment.model_fields else ():
        if search := _search(data, name, variant, file, runs[variant]):
            searches[variant] = search
    return Experiment(name, kind, settings, shared, runs, searches)


def _kind(name: Any, where: str) -> Kind:
    if name is None:
        raise FrugalError(f"{where}.kind: this key is required; kinds: {', '.join(KINDS)}")
    if not isinstance(name, str) or name not in KINDS:
        near = nearest(str(name), list(KINDS), "kinds")
        raise FrugalError(f"{where}.kind: there is no kind {describe(name)}{near}")
    return KINDS[name]


def _check_original(original: str | None, kind: Kind, where: str) -> None:
    """``original`` is an entry of config/originals.yaml, of the same kind."""
    if original is None:
        return
    originals = load_originals()
    if original not in originals:
        near = nearest(original, list(originals), "originals")
        raise FrugalError(f"{where}.reproduces: {ORIGINALS_FILE} has no '{original}'{near}")
    if originals[original].kind != kind.name:
        raise FrugalError(
            f"{where}.reproduces: '{original}' is of the kind '{originals[original].kind}', this experiment of "
            f"'{kind.name}'"
        )


def _check_project_file(path: str | None, where: str) -> None:
    if path is None:
        return
    file = (PROJECT / path).resolve()
    if not file.is_relative_to(PROJECT.resolve()):
        raise FrugalError(f"{where}: '{path}' lies outside the project's folder")
    if not file.is_file():
        raise FrugalError(f"{where}: there is no file '{path}'; give its path from the project's folder")


def _check_warm_starts(study: Study, experiment: Experiment, file: str) -> None:
    """A variant that begins with another's weights names one that exists and does not wait for this one."""
    for variant in experiment.variants:
        where = f"{file}: experiments.{experiment.name}.variants.{variant}.warm_start"
        visited, current = [(experiment.name, variant)], experiment.runs[variant]
        while (start := current.warm_start) and start.variant:
            name = start.experiment or visited[-1][0]
            origin = study.experiments.get(name)
            if origin is None:
                raise FrugalError(
                    f"{where}.experiment: there is no experiment '{name}'; there are: {', '.join(study.experiments)}"
                )
            if origin.kind is not experiment.kind:
                raise FrugalError(
                    f"{where}.experiment: '{name}' is of the kind '{origin.kind.name}'; weights come from an "
                    f"experiment of the kind '{experiment.kind.name}'"
                )
            if start.variant not in origin.runs:
                raise FrugalError(
                    f"{where}.variant: there is no variant '{start.variant}'; there are: {', '.join(origin.runs)}"
                )
            visited.append((name, start.variant))
            if visited[-1] in visited[:-1]:
                circle = " -> ".join(run if name == experiment.name else f"{name}/{run}" for name, run in visited)
                raise FrugalError(f"{where}.variant: begins with itself: {circle}")
            begun = origin.runs[start.variant]
            if not set(current.seeds) <= set(begun.seeds):
                raise FrugalError(
                    f"{where}.variant: '{start.variant}' is not trained with all of the seeds of '{visited[-2][1]}'"
                )
            if len(visited) == 2 and begun.adapter.method != "none":
                raise FrugalError(f"{where}.variant: '{start.variant}' is an adapter; name a whole model")
            current = begun


def _check_sizes(data: dict[str, Any], experiment: Experiment, file: str) -> None:
    """Each size of `efficiency` is a model."""
    if experiment.efficiency is None:
        return
    shared = data["experiments"][experiment.name].get("model") or {}
    for name, changes in experiment.efficiency.sizes.items():
        prefix = ("experiments", experiment.name, "efficiency", "sizes", name)
        validate(ModelSettings, overlay(shared, changes, file, prefix), file=file, prefix=prefix)


def _check_splits(study: Study, experiment: Experiment, file: str) -> None:
    """A run takes the split from the files of a data set if they are one."""
    for variant, run in experiment.runs.items():
        entry = study.datasets.get(run.dataset)
        if entry and entry.has_split != (run.data.split == "files"):
            where = f"{file}: experiments.{experiment.name}.variants.{variant}"
            raise FrugalError(f"{where}: data.split is '{run.data.split}' on {run.dataset}; {SPLIT_ADVICE}")


def resolve(
    data: dict[str, Any], experiment: str, variant: str, file: str, datasets: Mapping[str, Any] | None = None
) -> Settings:
    """The settings of one run: the experiment's own, with what the variant changes laid over them.

    The variant `BASE` changes nothing. A run whose settings name items takes the words of its data set.
    """
    kind = KINDS[data["experiments"][experiment]["kind"]]
    model, (settings, prefix) = kind.run, _laid_over(data, experiment, variant, file)
    if "search" in kind.experiment.model_fields:
        settings.pop("search", None)
    dataset = settings.get("dataset")
    if "items" in model.model_fields and isinstance(dataset, str) and dataset in (datasets or {}):
        settings = {"items": datasets[dataset].item_words.model_dump()} | settings
    return validate(model, settings, file=file, prefix=prefix)


def _laid_over(
    data: dict[str, Any], experiment: str, variant: str, file: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """An experiment's settings with those of a variant laid over them, and the keys that lead to the latter."""
    entry, prefix = data["experiments"][experiment], ("experiments", experiment)
    settings = {key: value for key, value in entry.items() if key not in AROUND_RUNS}
    if variant == BASE:
        return settings, prefix
    changes, prefix = (entry.get("variants") or {"tuned": {}})[variant], (*prefix, "variants", variant)
    if isinstance(changes, dict) and "search" in changes and changes["search"] is None:
        settings.pop("search", None)  # null: not of this variant
    return overlay(settings, changes, file, prefix), prefix


def _search(data: dict[str, Any], experiment: str, variant: str, file: str, run: Settings) -> SearchSettings | None:
    """The search for a variant's settings: the experiment's, with what the variant changes; None without one."""
    settings, prefix = _laid_over(data, experiment, variant, file)
    own = "search" in (data["experiments"][experiment].get("variants") or {}).get(variant, {})
    if settings.get("search") is None or not (own or can_be_searched(run)):
        return None
    prefix = (*(prefix if own else ("experiments", experiment)), "search")
    search = validate(SearchSettings, settings["search"], file=file, prefix=prefix)
    check_search(run, search, file, prefix)
    return search


def overlay(base: dict[str, Any], changes: Any, file: str, prefix: tuple[str, ...]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, section by section."""
    if not isinstance(changes, dict):
        raise FrugalError(f"{file}: {'.'.join(prefix)}: expected keys and values, got {describe(changes)}")
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        if isinstance(merged.get(key), dict):
            value = overlay(merged[key], value, file, (*prefix, str(key)))
        merged[key] = value
    return merged


def holds_documents(dataset: DatasetEntry) -> bool:
    """Whether a data set is made of texts or PDFs; the others are interactions."""
    return dataset.sources[0].format in DOCUMENT_FORMATS


def dump_yaml(settings: dict[str, Any]) -> str:
    """Plain settings as YAML, in their own order."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)

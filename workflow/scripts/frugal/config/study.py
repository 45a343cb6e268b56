"""A study: the experiments of one configuration file, checked and resolved before any job runs."""

import copy
import re
from collections.abc import Iterable
from typing import Annotated, Any

import yaml
from pydantic import Field

from frugal.config.base import Settings
from frugal.config.errors import describe, validate
from frugal.config.language_modeling import LanguageModeling, LanguageModelingRun
from frugal.config.movie_preference import MoviePreference, MoviePreferenceRun
from frugal.config.recommenders import SSEPT, BERT4Rec, ModelSettings, RecommenderRun
from frugal.errors import FrugalError

#: The run that trains nothing: the base model under the settings that all variants share.
BASE = "base"
#: Rows of the results that no configuration names.
BASELINES = {
    "movie_preference": ("always_a", "popularity", "genre_overlap", "ease"),
    "ssept": ("popularity", "item_knn", "ease", "ease_recency", "markov"),
    "bert4rec": ("popularity", "item_knn", "ease", "ease_recency", "markov"),
    "wikitext": (),
    "climate": (),
}
#: The experiments on recommenders: their runs have several seeds, and no base model.
RECOMMENDERS = ("ssept", "bert4rec")
#: The experiments in which a language model learns a corpus.
LANGUAGE_MODELS = ("wikitext", "climate")
#: What an experiment has beside the settings of its runs.
AROUND_RUNS = ("variants", "efficiency", "ladder")
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


class Study(Settings):
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
    report: ReportSettings = ReportSettings()
    movie_preference: MoviePreference
    ssept: SSEPT
    bert4rec: BERT4Rec
    wikitext: LanguageModeling
    climate: LanguageModeling


#: What each stage of an experiment reads: only a change of these keys runs it again.
STAGES = {
    "movie_preference": {
        "pairs": ("dataset", "base_model", "seed", "split", "pairs"),
        "training": ("dataset", "base_model", "backend", "seed", "model", "lora", "training"),
        "evaluation": ("dataset", "base_model", "seed", "split", "pairs", "model", "training", "evaluation"),
    },
    **{
        experiment: {
            "training": ("dataset", "data", "model", "loss", "training", "adapter", "warm_start"),
            "evaluation": ("dataset", "seeds", "data", "model", "training", "adapter", "warm_start", "evaluation"),
            "baselines": ("dataset", "data", "baselines", "evaluation"),
        }
        for experiment in RECOMMENDERS
    },
    **{
        experiment: {
            "blocks": ("dataset", "base_model", "seed", "corpus"),
            "training": ("dataset", "base_model", "backend", "seed", "model", "lora", "training"),
            "evaluation": ("dataset", "base_model", "seed", "model", "training", "evaluation", "prompts"),
        }
        for experiment in LANGUAGE_MODELS
    },
}
#: For each experiment, the model of one resolved run.
RUN_MODELS = {
    "movie_preference": MoviePreferenceRun,
    **dict.fromkeys(RECOMMENDERS, RecommenderRun),
    **dict.fromkeys(LANGUAGE_MODELS, LanguageModelingRun),
}


def load_study(data: dict[str, Any], file: str) -> Study:
    """Check a study, each variant of each experiment included.

    Args:
        data: the parsed configuration.
        file: its name, for errors.

    Raises:
        FrugalError: one line for each fault, naming the file and the key.
    """
    study = validate(Study, data, file=file)
    for experiment in RUN_MODELS:
        for variant in getattr(study, experiment).variants:
            taken = variant in TAKEN or variant.startswith("baseline_")
            if not NAME.fullmatch(variant) or len(variant) > LONGEST_NAME or taken:
                raise FrugalError(
                    f"{file}: {experiment}.variants.{variant[:100]}: a variant's name is made of a-z, 0-9, _ and -; "
                    f"{', '.join(map(repr, TAKEN))} and names that begin with 'baseline_' are taken"
                )
            resolve(data, experiment, variant, file)
    for experiment in RECOMMENDERS:
        _check_warm_starts(data, experiment, file)
    _check_sizes(data, "bert4rec", file)
    return study


def _check_warm_starts(data: dict[str, Any], experiment: str, file: str) -> None:
    """A variant that begins with another's weights names one that exists and does not wait for this one."""
    runs = {variant: resolve(data, experiment, variant, file) for variant in data[experiment]["variants"]}
    for variant in runs:
        where = f"{file}: {experiment}.variants.{variant}.warm_start.variant"
        visited, current = [variant], variant
        while (start := runs[current].warm_start) and start.variant:
            if start.variant not in runs:
                raise FrugalError(f"{where}: there is no variant '{start.variant}'; there are: {', '.join(runs)}")
            if start.variant in visited:
                raise FrugalError(f"{where}: begins with itself: {' -> '.join([*visited, start.variant])}")
            if not set(runs[current].seeds) <= set(runs[start.variant].seeds):
                raise FrugalError(f"{where}: '{start.variant}' is not trained with all of the seeds of '{current}'")
            current = start.variant
            visited.append(current)
        backbone = runs.get(runs[variant].warm_start.variant) if runs[variant].warm_start else None
        if backbone and backbone.adapter.method != "none":
            raise FrugalError(f"{where}: '{runs[variant].warm_start.variant}' is an adapter; name a whole model")


def _check_sizes(data: dict[str, Any], experiment: str, file: str) -> None:
    """Each size of `efficiency` is a model."""
    for name, changes in ((data[experiment].get("efficiency") or {}).get("sizes") or {}).items():
        prefix = (experiment, "efficiency", "sizes", name)
        model = overlay(data[experiment].get("model") or {}, changes, file, prefix)
        validate(ModelSettings, model, file=file, prefix=prefix)


def resolve(data: dict[str, Any], experiment: str, variant: str, file: str) -> Settings:
    """The settings of one run: the experiment's own, with what the variant changes laid over them.

    The variant `BASE` changes nothing.
    """
    shared = {key: value for key, value in data[experiment].items() if key not in AROUND_RUNS}
    if variant == BASE:
        return validate(RUN_MODELS[experiment], shared, file=file, prefix=(experiment,))
    changes = (data[experiment].get("variants") or {"tuned": {}})[variant]
    prefix = (experiment, "variants", variant)
    return validate(RUN_MODELS[experiment], overlay(shared, changes, file, prefix), file=file, prefix=prefix)


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


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study, for editors: variants take the same keys as their experiment."""
    schema = Study.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Frugal study"
    for experiment, model in RUN_MODELS.items():
        run = model.model_json_schema()
        schema["$defs"].update(run.pop("$defs", {}))
        run.pop("required", None)
        name = f"{model.__name__}Changes"
        schema["$defs"][name] = run
        owner = Study.model_fields[experiment].annotation.__name__
        schema["$defs"][owner]["properties"]["variants"]["additionalProperties"] = {"$ref": f"#/$defs/{name}"}
    return schema


def plain(settings: Settings, keys: Iterable[str] | None = None) -> dict[str, Any]:
    """Resolved settings as plain values, of ``keys`` only where these are given."""
    return settings.model_dump(mode="json", include=None if keys is None else set(keys))


def dump_yaml(settings: dict[str, Any]) -> str:
    """Plain settings as YAML, in their own order."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)

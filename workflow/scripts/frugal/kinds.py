"""The kinds of experiment: each decides its experiments' settings, rules, scripts, environment and report section.

A further kind is a package for what it trains, a rules file, a section of the report, and one entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from frugal.config.language_modeling import LanguageModelingExperiment, LanguageModelingRun
from frugal.config.preference import PreferenceExperiment, PreferenceRun
from frugal.config.recommendation import BASELINES, RecommendationExperiment, RecommendationRun

#: The run that trains nothing: the base model under the settings that all variants share.
BASE = "base"


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of experiment.

    Attributes:
        name: as `kind:` gives it.
        experiment: the settings of an experiment.
        run: the settings of one resolved run.
        stages: stage -> the keys, or `section.key`, that it reads: only a change of these runs it again.
        baselines: rows of the results that no configuration names.
        primary_metric: key of metrics.json that the experiment is judged by.
        reads: what its data sets hold.
        script: its training script, below workflow/scripts.
        environment: of its training, below envs.
        section: the package of its section of the report.
        has_base_model: whether runs adapt a base model, which is evaluated too; else they train a model for each seed.
    """

    name: str
    experiment: type
    run: type
    stages: Mapping[str, tuple[str, ...]]
    baselines: tuple[str, ...]
    primary_metric: str
    reads: Literal["interactions", "documents"]
    script: str
    environment: str
    section: str
    has_base_model: bool = True


#: The keys that preference pairs are made with, and scored with.
OF_PAIRS = ("dataset", "items", "base_model", "seed", "split", "pairs", "prompts")
PREFERENCE = Kind(
    name="preference",
    experiment=PreferenceExperiment,
    run=PreferenceRun,
    stages={
        "pairs": OF_PAIRS,
        "training": ("dataset", "base_model", "backend", "seed", "model", "lora", "training"),
        "evaluation": (*OF_PAIRS, "model", "training", "evaluation"),
    },
    baselines=("always_a", "popularity", "attribute_overlap", "ease"),
    primary_metric="accuracy",
    reads="interactions",
    script="train_preference.py",
    environment="llm",
    section="frugal.report.preference",
)
RECOMMENDATION = Kind(
    name="recommendation",
    experiment=RecommendationExperiment,
    run=RecommendationRun,
    stages={
        "training": ("dataset", "data", "model", "loss", "training", "adapter", "warm_start", "evaluation.history"),
        "evaluation": ("dataset", "seeds", "data", "model", "training", "adapter", "warm_start", "evaluation"),
        "baselines": ("dataset", "data", "baselines", "evaluation"),
    },
    baselines=BASELINES,
    primary_metric="NDCG@10",
    reads="interactions",
    script="train_recommender.py",
    environment="recsys",
    section="frugal.report.recommendation",
    has_base_model=False,
)
LANGUAGE_MODELING = Kind(
    name="language_modeling",
    experiment=LanguageModelingExperiment,
    run=LanguageModelingRun,
    stages={
        "blocks": ("dataset", "base_model", "seed", "corpus"),
        "training": ("dataset", "base_model", "backend", "seed", "model", "lora", "training"),
        "evaluation": ("dataset", "base_model", "seed", "model", "training", "evaluation", "prompts"),
    },
    baselines=(),
    primary_metric="perplexity",
    reads="documents",
    script="train_language_model.py",
    environment="llm",
    section="frugal.report.language_modeling",
)
KINDS = {kind.name: kind for kind in (PREFERENCE, RECOMMENDATION, LANGUAGE_MODELING)}

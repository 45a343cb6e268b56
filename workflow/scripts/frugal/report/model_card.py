"""The model card of an adapter, in the form that the Hugging Face Hub reads (README.md, YAML first)."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import yaml

from frugal.config.preference import PreferenceRun
from frugal.config.registry import DatasetEntry, ModelEntry
from frugal.config.sources import HubSource
from frugal.kinds import LANGUAGE_MODELING
from frugal.preference.prompts import instruction
from frugal.report import escape

TEMPLATES = Path(__file__).parent / "templates"
#: Licence names that the Hub knows; any other becomes "other" with the name beside it.
HUB_LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "meta llama 3 community license": "llama3",
    "llama 3.2 community license": "llama3.2",
}
#: metric of an experiment on preferences -> how the card calls it
PREFERENCE = {
    "accuracy": "Accuracy, all pairs",
    "accuracy_easy": "Accuracy, easy pairs",
    "accuracy_hard": "Accuracy, hard pairs",
    "swap_consistency": "Same item chosen in both orders",
    "p_a": "Mean probability of answering A",
    "auc": "AUC",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "invalid_answer_rate": "Invalid free answers",
}
#: metric of an experiment on plain text -> how the card calls it
PERPLEXITY = {
    "perplexity": "Perplexity, a token",
    "word_perplexity": "Perplexity, a word",
    "bits_per_byte": "Bits per byte",
    "token_accuracy": "Next-token accuracy",
}


def model_card(
    experiment: str,
    config: dict[str, Any],
    record: dict[str, Any],
    model: ModelEntry,
    dataset: DatasetEntry,
    variant: str,
) -> str:
    """The text of README.md.

    Args:
        experiment: its name, of the kind preference or language_modeling.
        config: the run's resolved settings.
        record: the run's metrics.json.
        model, dataset: what the tables say about the base model and the data set.
    """
    on_text = config["kind"] == LANGUAGE_MODELING.name
    training, provenance = record.get("training") or {}, record.get("provenance") or {}
    contrastive = not on_text and config["pairs"]["format"] == "contrastive"
    pairs = [] if on_text else ["recommendation", "preference", config["pairs"]["format"].replace("_", "-")]
    tags = ["language-modeling", experiment] if on_text else pairs
    asked = None if on_text else instruction(PreferenceRun.model_validate(config))
    versions = ", ".join(f"{name} {version}" for name, version in (provenance.get("versions") or {}).items())
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.ChainableUndefined)
    environment.trim_blocks = environment.lstrip_blocks = environment.keep_trailing_newline = True
    environment.filters["text"] = escape.markdown
    return environment.get_template("model_card.md.j2").render(
        front=yaml.safe_dump(front_matter(config, model, tags), sort_keys=False, allow_unicode=True),
        variant=variant,
        on_text=on_text,
        contrastive=contrastive,
        config=config,
        record=record,
        metrics=PERPLEXITY if on_text else PREFERENCE,
        training=training,
        dtype=training.get("compute_dtype") or config["model"]["compute_dtype"],  # where 'auto' is set, what it was
        model=model,
        dataset=dataset,
        folder=f"data/models/{config['base_model']}",
        published=hub_name(model),
        beginning=(config["prompts"]["texts"] or ["Once upon a time"])[0] if on_text else None,
        instruction=json.dumps(asked, ensure_ascii=False),
        provenance=provenance,
        versions=versions,
    )


def front_matter(config: dict[str, Any], model: ModelEntry, tags: list[str]) -> dict[str, Any]:
    """The card's metadata."""
    licence = HUB_LICENCES.get((model.licence or "").lower())
    values = {
        "base_model": hub_name(model) or config["base_model"],
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": licence or "other",
        "datasets": [config["dataset"]],
        "language": ["en"],
        "tags": ["lora", *tags],
    }
    if licence is None and model.licence:
        values["license_name"] = re.sub(r"[^a-z0-9.]+", "-", model.licence.lower()).strip("-")
    if licence is None and model.homepage:
        values["license_link"] = model.homepage
    return values


def hub_name(model: ModelEntry) -> str | None:
    """`owner/name` of the base model on the Hub, from its source or its homepage."""
    for source in model.sources:
        if isinstance(source, HubSource):
            return source.hub
    match = re.match(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/?$", model.homepage or "")
    return match.group(1) if match else None

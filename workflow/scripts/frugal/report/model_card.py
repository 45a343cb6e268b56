"""The model card of an adapter, in the form that the Hugging Face Hub reads (README.md, YAML first)."""

import re
from typing import Any

import yaml

from frugal.config.registry import DatasetEntry, HubSource, ModelEntry
from frugal.data.preference import CONTRASTIVE_INSTRUCTION, NEXT_FILM_INSTRUCTION
from frugal.report import escape
from frugal.report.contents import LANGUAGE_MODELS

#: Licence names that the Hub knows; any other becomes "other" with the name beside it.
HUB_LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "meta llama 3 community license": "llama3",
    "llama 3.2 community license": "llama3.2",
}
#: quantization -> how the card calls the frozen weights; others are in compute_dtype
FROZEN = {"nf4": "NF4", "int8": "8-bit integers"}
#: metric of `movie_preference` -> how the card calls it
PREFERENCE = {
    "accuracy": "Accuracy, all pairs",
    "accuracy_easy": "Accuracy, easy pairs",
    "accuracy_hard": "Accuracy, hard pairs",
    "swap_consistency": "Same film chosen in both orders",
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
        experiment: "movie_preference", "wikitext" or "climate".
        config: the run's resolved settings.
        record: the run's metrics.json.
        model, dataset: what the tables say about the base model and the data set.
    """
    on_text = experiment in LANGUAGE_MODELS
    tags = ["language-modeling", experiment] if on_text else ["recommendation", "preference", _pair_format(config)]
    front = yaml.safe_dump(front_matter(config, model, tags), sort_keys=False, allow_unicode=True)
    training = record.get("training") or {}
    title = f"{config['base_model']} on {config['dataset']}" if on_text else "Which film would this user like?"
    sections = [
        f"---\n{front}---\n",
        f"# {escape.markdown(title)} ({escape.markdown(variant)})\n",
        (_text_description if on_text else _preference_description)(config, model, dataset),
        f"## Measured\n\n{_perplexity(config, record) if on_text else _preference(record)}",
        f"## Training\n\n{_training(config, training)}" if training else "",
        f"## How to load it\n\n{_loading(config, model)}",
        _provenance(record),
    ]
    return "\n".join(section for section in sections if section)


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


def _pair_format(config: dict[str, Any]) -> str:
    return config["pairs"]["format"].replace("_", "-")


def _preference_description(config: dict[str, Any], model: ModelEntry, dataset: DatasetEntry) -> str:
    pairs = config["pairs"]
    task = "which of two films, Option A or Option B, a user would like better"
    if pairs["format"] == "next_film":
        task = "which film a user would like next"
    text = (
        f"A LoRA adapter that says {task}, given "
        f"{pairs['history_length']} films that the user liked. Base model: "
        f"{escape.markdown(model.title)}. Training data: {escape.markdown(dataset.title)}, whose users "
        f"were split before pairs were made."
    )
    if pairs["answer_position"] == "always_a":
        text += (
            "\n\n**Do not use it for recommendations.** In its training data the right answer is always "
            "Option A; it was made to show what such data teaches."
        )
    return f"{text}{_sources(dataset)}\n"


def _text_description(config: dict[str, Any], model: ModelEntry, dataset: DatasetEntry) -> str:
    return (
        f"A LoRA adapter that continues texts like those of its training data. Base model: "
        f"{escape.markdown(model.title)}. Training data: {escape.markdown(dataset.title)}, whole documents of which "
        f"were held out.{_sources(dataset)}\n"
    )


def _sources(dataset: DatasetEntry) -> str:
    """Citation and terms of the data."""
    citation = f"\n\nData: {escape.markdown(dataset.citation)}" if dataset.citation else ""
    terms = f"\n\nTerms of the data: {escape.markdown(dataset.licence)}." if dataset.licence else ""
    return f"{citation}{terms}"


def _preference(record: dict[str, Any]) -> str:
    return (
        "On test users that no training pair comes from, every pair asked in both orders; "
        f"intervals are 95 % bootstraps over users.\n\n{_measured(record, PREFERENCE)}"
    )


def _perplexity(config: dict[str, Any], record: dict[str, Any]) -> str:
    settings = config["evaluation"]
    bos, documents = "with" if settings["add_bos"] else "without", "joined" if settings["join_documents"] else "apart"
    return (
        f"On {record['metrics']['tokens']:,} tokens of held-out documents, scored {documents} in windows of "
        f"{settings['context_length']:,} tokens with stride {settings['stride']:,}, {bos} a BOS token; intervals are "
        f"95 % bootstraps over documents.\n\n{_measured(record, PERPLEXITY)}"
    )


def _measured(record: dict[str, Any], titles: dict[str, str]) -> str:
    metrics, intervals = record["metrics"], record.get("intervals") or {}
    lines = ["| Metric | Value | 95 % interval |", "| --- | ---: | ---: |"]
    for name, title in titles.items():
        if name in metrics:
            bounds = intervals.get(name)
            shown = f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
            lines.append(f"| {title} | {metrics[name]:.3f} | {shown} |")
    return "\n".join(lines) + "\n"


def _training(config: dict[str, Any], training: dict[str, Any]) -> str:
    lora, settings, model = config["lora"], config["training"], config["model"]
    used = f"{training['examples']:,} examples" if "examples" in training else f"{training['blocks']:,} blocks"
    facts = [
        f"LoRA r {lora['r']}, alpha {lora['lora_alpha']:g}, dropout {lora['lora_dropout']:g} on "
        f"{', '.join(lora['target_modules'])}",
        f"{training['trainable_parameters']:,} of {training['parameters']:,} weights trained "
        f"({training['trainable_share']:.3%})",
        f"{used}, {training['steps']:,} steps of "
        f"{settings['per_device_train_batch_size']} x {settings['gradient_accumulation_steps']}, "
        f"learning rate {settings['learning_rate']:g}, {settings['optim']}, seed {config['seed']}",
        f"frozen weights: {FROZEN.get(model['quantization'], model['compute_dtype'])}",
        f"{training['seconds'] / 60:.1f} minutes, {training['tokens_per_second']:,.0f} tokens per second, "
        f"peak memory {training['peak_rss_mb']:,.0f} MB",
    ]
    return "".join(f"- {escape.markdown(fact)}\n" for fact in facts)


def _loading(config: dict[str, Any], model: ModelEntry) -> str:
    """Lines of Python that need PEFT and nothing of this project."""
    folder, published = f"data/models/{config['base_model']}", hub_name(model)
    nf4, dtype = config["model"]["quantization"] == "nf4", config["model"]["compute_dtype"]
    load = [f'base = AutoModelForCausalLM.from_pretrained("{folder}", dtype="{dtype}")']
    classes = ["AutoModelForCausalLM", "AutoTokenizer"]
    if nf4:
        classes.append("BitsAndBytesConfig")
        load = [
            "quantization = BitsAndBytesConfig(",
            '    load_in_4bit=True, bnb_4bit_quant_type="nf4",',
            f'    bnb_4bit_compute_dtype="{dtype}",',
            f"    bnb_4bit_use_double_quant={config['model']['double_quantization']},",
            ")",
            f'base = AutoModelForCausalLM.from_pretrained("{folder}", quantization_config=quantization)',
        ]
    code = [
        "from peft import PeftModel",
        f"from transformers import {', '.join(classes)}",
        "",
        *load,
        'model = PeftModel.from_pretrained(base, "adapter").eval()',
        'tokenizer = AutoTokenizer.from_pretrained("adapter")',
        "",
        *_asking(config),
        "print(tokenizer.decode(answer[0, tokens['input_ids'].shape[1] :], skip_special_tokens=True))",
    ]
    where = f"`snakemake {folder}` makes the base model's folder"
    if published:
        where += f"; its published weights are {published}"
    return "```python\n" + "\n".join(code) + f"\n```\n\n{where}.\n"


def _asking(config: dict[str, Any]) -> list[str]:
    """Lines that give the model a prompt of the kind that it was trained for, and take its `answer`."""
    if "pairs" not in config:
        settings = config["prompts"]
        beginning = (settings["texts"] or ["Once upon a time"])[0]
        return [
            f'tokens = tokenizer({beginning!r}, return_tensors="pt")',
            f"answer = model.generate(**tokens, do_sample=False, max_new_tokens={settings['max_new_tokens']},"
            f" repetition_penalty={settings['repetition_penalty']:g})",
        ]
    next_film = config["pairs"]["format"] == "next_film"
    instruction = NEXT_FILM_INSTRUCTION if next_film else CONTRASTIVE_INSTRUCTION
    return [
        f'instruction = "{instruction}"',
        'question = "Liked: ..."  # the history and the options, as in the training data',
        'prompt = f"### Instruction:\\n{instruction}\\n\\n### Input:\\n{question}\\n\\n### Response:\\n"',
        'tokens = tokenizer(prompt, return_tensors="pt")',
        f"answer = model.generate(**tokens, do_sample=False, max_new_tokens={config['evaluation']['max_new_tokens']})",
    ]


def _provenance(record: dict[str, Any]) -> str:
    origin = record.get("provenance") or {}
    versions = ", ".join(f"{name} {version}" for name, version in (origin.get("versions") or {}).items())
    processor = (origin.get("hardware") or {}).get("processor", "unknown")
    return (
        f"## Provenance\n\nCommit {escape.markdown(origin.get('commit', 'unknown'))}, "
        f"seed {origin.get('seed')}, on {escape.markdown(processor)}. {escape.markdown(versions)}.\n"
    )

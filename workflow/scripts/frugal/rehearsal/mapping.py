"""From a study to its rehearsal: the same experiments and variants, in settings that a CPU runs in minutes.

Each setting that changes is in `RULES`, with the reason why; every change is recorded. Settings that are not there are
the study's own, those of evaluation, prompts, adapters and losses among them.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from frugal.config.llm import ALL_LINEAR, PROJECTIONS
from frugal.config.recipes import with_recipes
from frugal.config.study import Experiment, Study
from frugal.kinds import BASE, LANGUAGE_MODELING, PREFERENCE, RECOMMENDATION
from frugal.run.gpus import AUTO

#: Reasons of changes, as the record groups them.
GPU = "GPU settings to this machine's CPU"
SIZE = "sizes: narrow models, few rows"
STEPS = "length: a few steps"
APART = "outside of the workflow"
STAND_IN = "names of layers to those of the stand-in, a Llama"
#: Values of one key: what it is mapped to, from what it is.
Rule = tuple[tuple[str, ...], Callable[[Any], Any], str]


def at_most(limit: int) -> Callable[[Any], Any]:
    """A value up to ``limit``; what is not set (None) stays so."""
    return lambda value: value if value is None else min(value, limit)


def to(value: Any) -> Callable[[Any], Any]:
    """Always ``value``."""
    return lambda _: value


def narrow(value: int) -> int:
    """A 16th of a width, a multiple of 4 from 8 on: two heads cut it evenly."""
    return max(8, value // 16 // 4 * 4)


def on_cpu(mode: str) -> str:
    """A mode of `efficiency` as this machine has it: float16 needs a GPU, a compiled step minutes."""
    return mode.replace("float16", "bfloat16").replace("bbfloat16", "bfloat16").removesuffix("+compile")


def first_and_last(values: list[Any]) -> list[Any]:
    """The ends of a list: each measurement starts a process, and the last rung of a ladder has all that come before."""
    return list(dict.fromkeys((values[0], values[-1])))


def as_in_llama(modules: Any) -> Any:
    """The layers that get an adapter, if a Llama has them all; else all of its linear layers."""
    return modules if modules == ALL_LINEAR or set(modules) <= set(PROJECTIONS) else ALL_LINEAR


OF_ALL: tuple[Rule, ...] = (
    (("training", "gpus"), to(0), GPU),
    (("training", "nodes"), to(1), GPU),
    (("training", "per_device_train_batch_size"), at_most(4), SIZE),
    (("training", "gradient_accumulation_steps"), at_most(2), STEPS),
    (("training", "logging_steps"), to(1), STEPS),
    (("training", "deadline_minutes"), to(None), APART),
    (("training", "report_to"), to([]), APART),
    (("evaluation", "bootstrap_samples"), to(200), STEPS),
)
OF_ADAPTERS: tuple[Rule, ...] = (
    (("backend",), to("transformers"), GPU),
    (("model", "compute_dtype"), lambda dtype: "float32" if dtype == "float32" else "auto", GPU),
    (("lora", "target_modules"), as_in_llama, STAND_IN),
    (("training", "optim"), lambda optim: optim.removeprefix("paged_"), GPU),
    (("training", "max_steps"), to(4), STEPS),
    (("training", "warmup_steps"), at_most(1), STEPS),
    (("training", "save_steps"), to(2), STEPS),
)
RULES: Mapping[Any, tuple[Rule, ...]] = {
    PREFERENCE: (
        *OF_ALL,
        *OF_ADAPTERS,
        (("pairs", "train_examples"), at_most(16), SIZE),
        (("pairs", "validation_examples"), at_most(4), SIZE),
        (("pairs", "test_easy_examples"), at_most(12), SIZE),
        (("pairs", "test_hard_examples"), at_most(12), SIZE),
        (("pairs", "max_users"), at_most(120), SIZE),
        (("training", "eval_steps"), at_most(2), STEPS),
        (("evaluation", "generated_examples"), at_most(2), SIZE),
        (("evaluation", "max_new_tokens"), at_most(8), SIZE),
    ),
    LANGUAGE_MODELING: (
        *OF_ALL,
        *OF_ADAPTERS,
        (("corpus", "max_train_tokens"), lambda limit: min(limit or 32_768, 32_768), SIZE),
        (("corpus", "max_validation_tokens"), at_most(4096), SIZE),
        (("corpus", "max_test_tokens"), lambda limit: min(limit or 2048, 2048), SIZE),
        (("training", "eval_steps"), at_most(2), STEPS),
        (("evaluation", "threads"), to(1), SIZE),
        (("prompts", "max_new_tokens"), at_most(8), SIZE),
        (("rating", "sheets"), to([]), APART),
    ),
    RECOMMENDATION: (
        (("seeds",), lambda seeds: seeds[:2], SIZE),
        *(rule for rule in OF_ALL if rule[0][-1] != "per_device_train_batch_size"),
        (("data", "max_users"), at_most(120), SIZE),
        (("model", "hidden_size"), narrow, SIZE),
        (("model", "user_embedding_size"), narrow, SIZE),
        (("model", "num_hidden_layers"), at_most(2), SIZE),
        (("model", "num_attention_heads"), at_most(2), SIZE),
        (("model", "intermediate_size"), narrow, SIZE),
        (("loss", "negatives"), at_most(64), SIZE),
        (("training", "num_train_epochs"), to(2), STEPS),
        (("training", "max_steps"), at_most(8), STEPS),
        (("training", "eval_epochs"), to(1), STEPS),
        (("training", "per_device_train_batch_size"), at_most(32), SIZE),
        (("training", "precision"), lambda dtype: "float32" if dtype == "float32" else "auto", GPU),
        (("training", "torch_compile"), to(False), GPU),
        (("training", "profile_steps"), at_most(2), STEPS),
        (("training", "threads"), to(1), SIZE),
        (("evaluation", "sampled_negatives"), at_most(100), SIZE),
    ),
}
LADDER: tuple[Rule, ...] = (
    (("rungs",), first_and_last, STEPS),
    (("steps",), at_most(2), STEPS),
    (("batch_size",), at_most(2), SIZE),
    (("memory_budget_mb",), at_most(4096), GPU),
    (("largest_batch_limit",), at_most(3), SIZE),
)
EFFICIENCY: tuple[Rule, ...] = (
    (("item_count",), at_most(500), SIZE),
    (("batch_size",), at_most(8), SIZE),
    (("steps",), at_most(2), STEPS),
    (("modes",), lambda modes: first_and_last(list(map(on_cpu, modes))), GPU),
)


@dataclass(frozen=True)
class Change:
    """One setting of the study, and what the rehearsal has instead; ``key`` is dotted, as errors name it."""

    key: str
    before: Any
    after: Any
    reason: str


def map_experiments(study: Study, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Change]]:
    """The study's `experiments` for a rehearsal, still without the names of its stand-ins, and every change.

    Args:
        data: the study's file as parsed, whose resolved form ``study`` is.
    """
    experiments, changes = copy.deepcopy(dict(with_recipes(data, study.name)["experiments"])), []
    for name, experiment in study.experiments.items():
        entry, prefix = experiments[name], f"experiments.{name}"
        changes += _map_run(entry, experiment, BASE, prefix)
        for variant, given in (entry.get("variants") or {}).items():
            changes += _map_run(given, experiment, variant, f"{prefix}.variants.{variant}")
        for one in (entry, *(entry.get("variants") or {}).values()):
            one.pop("search", None)  # values of the space may not fit the small sizes
        for key, rules in (("ladder", LADDER), ("efficiency", EFFICIENCY)):
            if (settings := getattr(experiment, key)) is not None:
                changes += _apply(rules, entry[key], settings, f"{prefix}.{key}", everything=True)
        if experiment.efficiency is not None:
            of_model = [(path[1:], rule, why) for path, rule, why in RULES[RECOMMENDATION] if path[0] == "model"]
            for size, given in entry["efficiency"]["sizes"].items():
                changes += _apply(of_model, given, None, f"{prefix}.efficiency.sizes.{size}")
    return experiments, changes


def _map_run(given: dict[str, Any], experiment: Experiment, variant: str, prefix: str) -> Iterator[Change]:
    """Map what the experiment (`BASE`) or a variant gives; the experiment also where it gives nothing."""
    shared = variant == BASE
    run = experiment.shared if shared else experiment.runs[variant]
    return _apply(RULES[experiment.kind], given, run, prefix, everything=shared)


def _apply(rules: Any, given: dict[str, Any], settings: Any, prefix: str, everything: bool = False) -> Iterator[Change]:
    """Change the parsed settings ``given`` by ``rules``.

    Args:
        settings: the same, resolved; None: those given are all there is.
        everything: also the settings that ``given`` leaves to their defaults.
    """
    for path, rule, reason in rules:
        section, key = given, path[-1]
        if len(path) > 1 and (everything or isinstance(given.get(path[0]), dict)):
            section = given.setdefault(path[0], {}) if everything else given[path[0]]
        elif len(path) > 1:
            continue
        if not everything and key not in section:
            continue
        before = section.get(key)
        if settings is not None:
            before = settings
            for part in path:
                before = getattr(before, part)
        after = rule(before)
        if after != before:
            section[key] = after
            yield Change(".".join((prefix, *path)), before, after, reason)


def not_rehearsed(study: Study, conda: bool = False) -> list[str]:
    """Sentences on what the study does and its rehearsal does not."""
    runs = [run for one in study.experiments.values() for name, run in one.runs.items() if name != BASE]
    training = [run.training for run in runs]
    dtypes = {getattr(run.training, "precision", None) or run.model.compute_dtype for run in runs}
    modes = [mode for one in study.experiments.values() if one.efficiency for mode in one.efficiency.modes]
    on_gpus = [1 if run.gpus == AUTO else run.gpus for run in training if run.gpus]
    found = {
        "GPUs: CUDA kernels, their memory, bitsandbytes on them, and `check_machine`. `make preflight` checks the "
        "machine, `make plan` estimates the memory.": bool(on_gpus),
        "Several processes in one training: torchrun and NCCL.": max(on_gpus, default=0) > 1
        or any(run.nodes > 1 for run in training),
        "unsloth: its kernels, its optimiser, its environment. The runs train by transformers.": any(
            getattr(run, "backend", None) == "unsloth" for run in runs
        ),
        "float16: its range and the scaling of the loss.": "float16" in dtypes,
        "bfloat16, where this CPU has no matmuls in it (`auto` is float32 then).": "bfloat16" in dtypes,
        "Paged optimisers: the 8-bit optimiser runs without paging.": any(
            str(getattr(run, "optim", "")).startswith("paged") for run in training
        ),
        "torch.compile.": any(getattr(run, "torch_compile", False) for run in training)
        or any("compile" in mode for mode in modes),
        "Experiment trackers (`report_to`).": any(run.report_to for run in training),
        "Searches for settings (`search`).": any(one.searches for one in study.experiments.values()),
        "Stopping and continuing at `deadline_minutes`.": any(run.deadline_minutes for run in training),
        "Filled rating sheets.": any(run.rating.sheets for run in runs if hasattr(run, "rating")),
        "Other studies' results beside these (`report.compare`).": bool(study.report.compare),
        "Own copies of data and models (`local_paths`).": bool(study.local_paths),
        "The environments of `envs/`, as conda makes them: all jobs ran in this Python's.": not conda,
        "Memory, time and quality at the real sizes: the numbers of the report mean nothing.": True,
        "The real addresses, their checksums, and whether your access token opens gated models.": True,
    }
    return [sentence for sentence, holds in found.items() if holds]

"""What language models' jobs declare: beside peaks that were measured, and what makes a job larger."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from frugal.config.registry import load_models
from frugal.config.study import load_study, resolve
from frugal.config.yaml_files import read_yaml
from frugal.llm.memory import needs
from frugal.llm.memory.shapes import model_shape
from frugal.run.gpus import resolve_gpus

LAPTOP = read_yaml("config/config.yaml")
FULL = read_yaml("config/full.yaml")
MODELS = load_models("config/models.yaml")


def run(experiment, data=LAPTOP, variant="tuned", **changes):
    """A run of a shipped study, with changes to its sections."""
    settings = resolve_gpus(resolve(data, experiment, variant, "study.yaml"), 0)
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=value) for name, value in changes.items()}
    )


def shape(name="smollm2-135m-instruct"):
    return model_shape(name, MODELS[name], Path("no-models"))


#: Peak resident memory, MB, of the laptop study's processes: two to four steps with validation and checkpoints, one
#: thread. Whole trainings reach up to 8 % more.
TRAININGS = [
    ("wikitext", {"model": {"compute_dtype": "bfloat16"}}, 1324),
    ("wikitext", {"model": {"compute_dtype": "bfloat16"}, "training": {"keep_freed_memory": False}}, 1271),
    ("wikitext", {"model": {"compute_dtype": "float32"}}, 2332),
    ("climate", {"model": {"compute_dtype": "bfloat16"}}, 1388),
    ("climate", {"model": {"compute_dtype": "float32"}}, 2246),
]


@pytest.mark.parametrize(("experiment", "changes", "measured"), TRAININGS)
def test_a_training_declares_what_was_measured_and_a_quarter_more_at_most(experiment, changes, measured):
    assert 1.05 * measured < needs.training_mb(shape(), run(experiment, **changes)) < 1.25 * measured


#: The same of evaluations: of whole test sets, and of 16 pairs, whose prompts are shorter than max_length.
EVALUATIONS = [
    ("wikitext", "bfloat16", False, 1074, 1.2),
    ("wikitext", "float32", False, 1680, 1.2),
    ("wikitext", "bfloat16", True, 1718, 1.2),
    ("wikitext", "float32", True, 1938, 1.25),
    ("movie_preference", "bfloat16", False, 1091, 1.3),
    ("movie_preference", "float32", False, 1556, 1.3),
    ("movie_preference", "bfloat16", True, 1860, 1.4),
]


@pytest.mark.parametrize(("experiment", "dtype", "adapter", "measured", "above"), EVALUATIONS)
def test_an_evaluation_declares_what_was_measured_and_not_much_more(experiment, dtype, adapter, measured, above):
    evaluated = run(experiment, model={"compute_dtype": dtype})
    assert measured < needs.evaluation_mb(shape(), evaluated, adapter) < above * measured


def test_an_automatic_type_counts_as_the_larger_one():
    runs = [run("wikitext", model={"compute_dtype": dtype}) for dtype in ("auto", "float32", "bfloat16")]
    automatic, float32, bfloat16 = (needs.training_mb(shape(), each) for each in runs)
    assert automatic == float32 > bfloat16
    automatic, float32, bfloat16 = (needs.evaluation_mb(shape(), each) for each in runs)
    assert automatic == float32 > bfloat16


def test_what_makes_a_job_larger():
    base = run("climate")
    for changes in (
        {"training": {"per_device_train_batch_size": 4}},
        {"training": {"gradient_checkpointing": False}, "corpus": {"block_length": 1024}},
        {"lora": {"r": 64}},
        {"training": {"loss_chunk_tokens": None}},
    ):
        assert needs.training_mb(shape(), run("climate", **changes)) > needs.training_mb(shape(), base), changes
    for changes in ({"evaluation": {"batch_size": 16}}, {"evaluation": {"context_length": 2048}}):
        assert needs.evaluation_mb(shape(), run("climate", **changes)) > needs.evaluation_mb(shape(), base), changes


def test_titles_have_logits_for_each_of_their_tokens():
    titles = run("movie_preference", pairs={"format": "next_item"})
    letters = run("movie_preference", pairs={"format": "contrastive"})
    assert needs.evaluation_mb(shape(), titles) > needs.evaluation_mb(shape(), letters)


def test_on_a_gpu_the_weights_pass_through_the_host():
    one = run("movie_preference", FULL)
    four = run("movie_preference", FULL, training={"gpus": 4})
    weights = 2 * 8_030_261_248 / 2**20
    assert needs.training_mb(shape("llama-3-8b"), one) == pytest.approx(needs.CUDA_HOST_MB + weights, rel=1e-4)
    assert needs.training_mb(shape("llama-3-8b"), four) == 4 * needs.training_mb(shape("llama-3-8b"), one)
    assert needs.evaluation_mb(shape("llama-3-8b"), four) == needs.evaluation_mb(shape("llama-3-8b"), one)


def test_the_ladder_needs_its_highest_rung_within_reach():
    settings = run("climate")
    ladder = load_study(LAPTOP, "config.yaml").experiments["climate"].ladder
    every = needs.ladder_mb(shape(), settings, ladder)
    # Measured: 3,106 MB of the rung that trains all weights, beside the process that watches it.
    assert 3106 + 353 < every < 1.2 * (3106 + 353)
    assert needs.ladder_mb(shape(), settings, ladder, limit_mb=6000) == every
    within = needs.ladder_mb(shape(), settings, ladder, limit_mb=every - 1)
    assert within < every
    lowest = needs.ladder_mb(shape(), settings, ladder, limit_mb=100)
    assert 100 < lowest <= within  # what is refused is named by the least that would do
    measured = ladder.model_copy(update={"search": False, "rungs": ["chunked_loss"]})
    assert needs.ladder_mb(shape(), settings, measured) < 2048


def test_preparing_a_model_that_is_converted():
    """Measured: 1,582 MB for SmolLM2-135M from GGUF, 409 MB for the tiny random one."""
    assert 1582 < needs.preparation_mb(shape()) < 1.2 * 1582
    assert 409 < needs.preparation_mb(shape("tiny-random-llama")) < 1.2 * 409


def test_nothing_here_imports_torch():
    modules = "frugal.llm.memory.needs, frugal.recsys.memory, frugal.run.scheduler"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": "workflow/scripts"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0

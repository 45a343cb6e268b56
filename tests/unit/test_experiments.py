"""Experiments of a study: any number of each kind, their scripts, weights from one another, the former form."""

import re
from pathlib import Path

import pytest

from frugal.config.originals import load_originals
from frugal.config.study import load_study
from frugal.errors import FrugalError
from frugal.kinds import PREFERENCE, RECOMMENDATION


def test_a_study_of_the_former_form_is_shown_the_new_one():
    former = {"study": "mine", **{name: {"dataset": "x"} for name in ("ssept", "climate")}}
    with pytest.raises(FrugalError) as error:
        load_study(former, "my.yaml")
    assert str(error.value) == (
        "my.yaml: ssept, climate: experiments now stand below the key 'experiments', each with a kind and a title "
        "before its other keys:\n"
        "  experiments:\n"
        "    ssept:\n      kind: recommendation\n      title: SSE-PT\n      reproduces: ssept\n      ...\n"
        "    climate:\n      kind: language_modeling\n      title: Language model on climate documents\n"
        "      reproduces: climate\n      ..."
    )


BOOKS = {"kind": "recommendation", "title": "Books", "dataset": "movielens-100k"}


def test_any_number_of_experiments_of_any_kind():
    study = load_study({"study": "mine", "experiments": {"books": BOOKS}}, "my.yaml")
    assert list(study.experiments) == ["books"]
    assert study.experiments["books"].principal == "tuned"
    assert study.experiments["books"].script == "workflow/scripts/train_recommender.py"
    assert study.experiments["books"].environment("tuned") == "envs/recsys.yaml"
    two = {"books": BOOKS, "films": {**BOOKS, "variants": {"narrow": {"model": {"hidden_size": 8}}, "films": {}}}}
    study = load_study({"study": "mine", "experiments": two}, "my.yaml")
    assert list(study.of_kind(RECOMMENDATION)) == ["books", "films"]
    assert study.of_kind(PREFERENCE) == {}
    assert study.experiments["films"].principal == "films"
    assert list(study.experiments["films"].runs) == ["narrow", "films"]


def test_an_experiment_names_its_baselines():
    own = {**BOOKS, "baselines": {"use": ["markov", "popularity"]}}
    experiment = load_study({"study": "mine", "experiments": {"books": own}}, "my.yaml").experiments["books"]
    assert experiment.baseline_runs == ["baseline_popularity", "baseline_markov"]


def test_weights_may_come_from_another_experiment():
    start = {"warm_start": {"experiment": "books", "variant": "tuned"}}
    two = {"films": {**BOOKS, **start}, "books": BOOKS}
    assert load_study({"study": "mine", "experiments": two}, "my.yaml").experiments["films"].shared.warm_start
    two["books"] = {**BOOKS, "warm_start": {"experiment": "films", "variant": "tuned"}}
    with pytest.raises(FrugalError, match=r"begins with itself: tuned -> books/tuned -> tuned"):
        load_study({"study": "mine", "experiments": two}, "my.yaml")


def test_an_experiment_names_its_script_and_environment():
    own = {**BOOKS, "script": "workflow/scripts/train_ssept.py", "environment": "envs/llm.yaml"}
    experiment = load_study({"study": "mine", "experiments": {"books": own}}, "my.yaml").experiments["books"]
    assert experiment.script == "workflow/scripts/train_ssept.py"
    assert experiment.environment("tuned") == "envs/llm.yaml"


def test_no_list_of_experiments_in_the_code():
    """The originals' names stand in configurations, in the scripts named after them, and in the report of originals."""
    names = "|".join(load_originals())
    literal = re.compile(rf"(?<![\w/-])(?:{names})(?![\w-])")
    # Architectures of recommenders and a format of documents are called as originals are.
    allowed = re.compile(
        r"architecture|model_type|'ssept' read from left|ssept, bert4rec = |if (?:ssept|bert4rec) "
        r"|[\"']wikitext[\"']|only[.:]"
    )
    scripts = Path("workflow/scripts")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in [Path("Snakefile"), *Path("rules").iterdir(), *scripts.rglob("*.py"), *scripts.rglob("*.j2")]
        if path.parent.name != "originals" and path.stem.removeprefix("train_") not in load_originals()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if literal.search(line) and not allowed.search(line)
    ]
    assert found == []

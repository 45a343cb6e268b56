"""The profiles for clusters name rules that there are, and the rules name nothing that belongs to one cluster."""

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
TEXT = {path.name: path.read_text(encoding="utf-8") for path in (REPOSITORY / "rules").glob("*.smk")}
RULES = {rule for text in TEXT.values() for rule in re.findall(r"^rule (\w+):", text, re.MULTILINE)}


def profile(name: str) -> dict:
    return yaml.safe_load((REPOSITORY / f"profiles/{name}/config.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_every_rule_that_a_profile_names_exists(name):
    named = set(profile(name)["set-resources"])
    assert named
    assert named <= RULES


def test_every_training_has_a_walltime_of_its_own():
    settings = profile("slurm")
    trainings = {rule for rule in RULES if rule.startswith("train_")}
    assert len(trainings) == 3
    assert all(settings["set-resources"][rule]["runtime"] > 60 for rule in trainings)


def test_rules_hold_nothing_of_one_site():
    for name, text in TEXT.items():
        assert not re.search("slurm_|partition=|account|constraint=|qos", text), name


@pytest.mark.parametrize("name", ["default", "slurm", "kubernetes"])
def test_profiles_start_without_a_plugin_for_the_log_and_show_jobs(name):
    assert "logger" not in profile(name)
    assert "quiet" not in profile(name)

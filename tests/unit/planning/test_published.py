"""The plan beside published trainings on GPUs: within a factor of two where their settings are known."""

import re
from pathlib import Path

import pytest
from published import GUESSED, KNOWN

PAGE = Path("docs/how-to/plan.md")


@pytest.mark.parametrize("published", KNOWN, ids=lambda one: f"{one.source} {one.name}")
def test_the_plan_is_within_a_factor_of_two(published):
    assert 0.5 < published.planned_seconds() / published.seconds < 2


def test_the_documentation_has_these_figures():
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| (torchtune|PEFT|litgpt)", line)
    ]
    for published in [*KNOWN, *GUESSED]:
        row = next(one for one in cells if one[1] == published.name and one[0].startswith(published.source[:4]))
        planned = published.planned_seconds()
        assert row[-1] == f"{planned / published.seconds:.2f}", published.name

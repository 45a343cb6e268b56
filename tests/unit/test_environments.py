"""The conda environments and the lock name the same versions."""

import re
from pathlib import Path

import pytest
import yaml

LOCK = {
    name.lower().replace("_", "-"): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", Path("envs/requirements.txt").read_text(), re.MULTILINE)
}
#: unsloth holds these back.
HELD_BACK = {"torch", "transformers", "trl", "datasets", "unsloth"}


def pip_section(path: Path) -> dict[str, str]:
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in pip)}


@pytest.mark.parametrize("path", sorted(Path("envs").glob("*.yaml")), ids=lambda path: path.stem)
def test_environments_agree_with_the_lock(path):
    for name, version in pip_section(path).items():
        if path.stem == "unsloth" and name in HELD_BACK:
            continue
        assert LOCK[name] == version, f"{path}: {name}"


def test_the_lock_holds_all_that_is_asked_for():
    lines = Path("envs/requirements.in").read_text().splitlines()
    asked = {line.split("==")[0].lower().replace("_", "-") for line in lines if line and not line.startswith("#")}
    assert asked <= set(LOCK)


def test_every_rule_names_an_environment_that_exists():
    for rules in Path("rules").glob("*.smk"):
        for name in re.findall(r'"\.\./envs/(\w+\.yaml)"', rules.read_text()):
            assert (Path("envs") / name).exists()

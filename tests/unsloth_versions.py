"""Print pins for the language-model tests: envs/unsloth.yaml's versions, without unsloth, and the lock's for the rest.

torch stays the lock's: its builds for CPUs lie elsewhere than other versions'. What the packages need beside these is
left to pip, as in the conda environment. `make test-unsloth-versions` installs them and runs the tests.
"""

import sys
from pathlib import Path

import yaml

TOOLS = ("hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
FROM_THE_LOCK = ("torch",)
REPOSITORY = Path(__file__).parents[1]


def pins(lines: list[str]) -> dict[str, str]:
    """Package to version, of lines that begin with ``package==version``."""
    return dict(line.split()[0].split("==") for line in lines if "==" in line and not line.startswith(" "))


def environment(name: str) -> dict[str, str]:
    """The pip section of a conda environment."""
    dependencies = yaml.safe_load((REPOSITORY / f"envs/{name}.yaml").read_text(encoding="utf-8"))["dependencies"]
    (section,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return pins(section)


def main() -> None:
    locks = [REPOSITORY / f"envs/{name}.txt" for name in ("requirements", "requirements-test")]
    lock = pins([line for file in locks for line in file.read_text(encoding="utf-8").splitlines()])
    chosen = environment("llm") | environment("unsloth") | {name: lock[name] for name in (*TOOLS, *FROM_THE_LOCK)}
    for name in ("unsloth", "unsloth_zoo", "xformers", "triton", "cuda-toolkit"):
        del chosen[name]
    sys.stdout.writelines(f"{package}=={version}\n" for package, version in sorted(chosen.items()))


if __name__ == "__main__":
    main()

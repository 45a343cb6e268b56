"""A stand-in for the conda program: what Snakemake asks of it, with packages of this Python's own site-packages.

An environment that it makes holds the packages that its pip section names, what these need, and nothing else: links to
the files installed here. So a job that imports what its environment does not name fails, as it would in conda's.
Versions are not looked at. Each call is a line of ``calls.txt`` beside this file; so is each activation.
"""

import json
import sys
import venv
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement

PREFIX = Path(__file__).resolve().parents[1]
ACTIVATE = """
export CONDA_PREFIX="$1" PATH="$1/bin:$PATH" PYTHONNOUSERSITE=1
unset PYTHONPATH
echo "activate $1" >> '{folder}/calls.txt'
"""


def install(folder: Path) -> None:
    """Make a conda installation of ``folder``: ``bin/conda`` and ``bin/activate``."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "conda").write_text(f"#!{sys.executable}\n" + Path(__file__).read_text(encoding="utf-8"))
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text(ACTIVATE.format(folder=folder))


def create(prefix: Path, file: Path) -> None:
    dependencies = yaml.safe_load(file.read_text(encoding="utf-8"))["dependencies"]
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    venv.create(prefix, symlinks=True)
    (site_packages,) = prefix.glob("lib/python*/site-packages")
    owners = metadata.packages_distributions()
    for distribution in needed([*(line.split("==")[0] for line in pip), "pip", "setuptools"]):
        for entry in distribution.files or ():
            whole = Path(entry.parts[0])  # a folder of one package alone is linked whole
            path = whole if len(owners.get(whole.stem, [])) <= 1 else entry
            source, target = Path(distribution.locate_file(path)), site_packages / path
            if entry.parts[0] not in ("..", "__pycache__") and source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)


def needed(requirements: list[str]) -> list[metadata.Distribution]:
    """The distributions that are asked for, and all that they need, as far as they are installed here."""
    found, seen, pending = {}, set(), list(map(Requirement, requirements))
    while pending:
        requirement = pending.pop()
        name = requirement.name.lower().replace("_", "-")
        if (name, extras := frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for line in found[name].requires or ():
            below = Requirement(line)
            if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                pending.append(below)
    return list(found.values())


def main() -> None:
    arguments = sys.argv[1:]
    with open(PREFIX / "calls.txt", "a", encoding="utf-8") as calls:
        calls.write(f"conda {' '.join(arguments)}\n")
    match arguments:
        case ["--version"]:
            print("conda 99.9.9")
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(PREFIX), "platform": "linux-64"}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", *options]:
            create(Path(option(options, "--prefix")), Path(option(options, "--file")))
        case ["clean", *_]:
            pass
        case _:
            sys.exit(f"the stand-in does not know: conda {' '.join(arguments)}")


def option(options: list[str], name: str) -> str:
    return next(
        options[i + 1] if value == name else value.partition("=")[2]
        for i, value in enumerate(options)
        if value.split("=")[0] == name
    )


if __name__ == "__main__":
    main()

"""The conda environments are well formed, resolve, agree with the lock, and hold what scripts import."""

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from frugal.config.originals import load_originals
from frugal.fingerprint import modules_of
from frugal.kinds import KINDS

ENVIRONMENTS = sorted(Path("envs").glob("*.yaml"))
#: unsloth needs these in versions of their own.
HELD_BACK = {"torch", "transformers", "trl", "datasets", "unsloth", "unsloth-zoo", "xformers", "triton"}
#: What compiles at run time: Triton, torch.compile, Frugal's own kernels.
COMPILERS = {"c-compiler", "cxx-compiler"}
#: Packages whose import has another name, or that come with another one.
DISTRIBUTIONS = {
    "pypandoc": "pypandoc-binary",
    "tokenizers": "transformers",
    "urllib3": "requests",
    "yaml": "pyyaml",
}
#: Imported where it is there, and done without where it is not.
OPTIONAL = {"huggingface-hub", "mlflow", "unsloth"}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


LOCK = {
    normal(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", Path("envs/requirements.txt").read_text(), re.MULTILINE)
}


def specs(path: Path) -> list[str]:
    """The conda dependencies of an environment."""
    return [entry for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, str)]


def pip_lines(path: Path) -> list[str]:
    (pip,) = (entry["pip"] for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, dict))
    return pip


def pip_section(path: Path) -> dict[str, str]:
    return {normal(name): version for name, version in (line.split("==") for line in pip_lines(path))}


def rules() -> dict[str, str]:
    """Name to text of every rule."""
    text = "\n".join(path.read_text() for path in sorted(Path("rules").glob("*.smk")))
    parts = re.split(r"^rule (\w+):$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_agree_with_the_lock(path):
    for name, version in pip_section(path).items():
        if path.stem == "unsloth" and name in HELD_BACK:
            continue
        assert LOCK[name] == version, f"{path}: {name}"


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_dependencies_are_match_specs_that_pin_python(path):
    rattler = pytest.importorskip("rattler", reason="py-rattler, which reads conda's match specs, is not installed")
    read = {spec.name.normalized: spec for spec in (rattler.MatchSpec(text, strict=True) for text in specs(path))}
    compiles = any(line.startswith("torch==") for line in pip_lines(path))
    assert set(read) == {"python", "pip", *(COMPILERS if compiles else ())}
    assert str(read["python"].version) == "3.11.*"  # python==3.11 would be 3.11.0 alone
    assert yaml.safe_load(path.read_text())["channels"] == ["conda-forge", "nodefaults"]


def resolve(lines: list[str], folder: Path) -> str:
    """All packages that the lines ask for, on Linux x86-64 and Python 3.11.

    Skips where uv is missing or the registry does not answer.
    """
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv, which resolves the pip sections, is not installed")
    (folder / "asked.in").write_text("\n".join(lines) + "\n")
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", str(folder / "asked.in")]
    environment = os.environ | {"UV_HTTP_RETRIES": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode and re.search(r"Failed to fetch|error sending request|network was disabled", result.stderr):
        pytest.skip(f"the package registry does not answer: {' '.join(result.stderr.split())[-200:]}")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_pip_sections_resolve_for_linux(path, tmp_path):
    resolved = dict(line.split("==") for line in resolve(pip_lines(path), tmp_path).splitlines())
    for name, version in pip_section(path).items():
        assert resolved[name] == version
    cuda = {name for name in resolved if name.startswith("nvidia-cuda-runtime")}
    assert bool(cuda) == ("torch" in resolved)
    for name in cuda:  # torch's builds of the registry are for the CUDA that the environment pins
        assert resolved[name].split(".")[:2] == pip_section(path)["cuda-toolkit"].split(".")[:2]


def test_a_section_that_does_not_resolve_is_noticed(tmp_path):
    with pytest.raises(AssertionError, match="No solution found"):
        resolve(["datasets==4.8.5", "huggingface-hub==2.4.0"], tmp_path)


def test_the_pins_of_the_unsloth_versions_resolve(tmp_path):
    printed = subprocess.run([sys.executable, "tests/unsloth_versions.py"], capture_output=True, text=True, check=True)
    pins = dict(line.split("==") for line in printed.stdout.splitlines())
    held = pip_section(Path("envs/unsloth.yaml"))
    for name in ("transformers", "trl", "peft", "datasets"):
        assert pins[name] == held[name]
    assert pins["torch"] == LOCK["torch"]
    assert "unsloth" not in pins
    resolve(printed.stdout.splitlines(), tmp_path)


def environments_of(rule: str) -> set[str]:
    """The environments that a rule's text names; some rules choose."""
    if re.search(r"conda:\s+training_environment\n", rule):
        return {"recsys"} if "RECOMMENDATION_EXPERIMENTS" in rule else {"llm", "unsloth"}
    if "{ENVIRONMENTS[wildcards.environment]}" in rule:  # of those that train; on a CPU nothing is imported
        return {"llm", "recsys", "unsloth"}
    return set(re.findall(r'"\.\./envs/(\w+)\.yaml"', rule))


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, text in rules().items() if "shell:" in text])
def test_every_rule_names_environments_that_hold_what_its_scripts_import(name, text):
    named = environments_of(text)
    assert named, f"rule {name} names no environment"
    for script in scripts_of(name, text):
        for environment in named:
            held = set(pip_section(Path(f"envs/{environment}.yaml")))
            missing = imported_by(script) - held - OPTIONAL
            assert not missing, f"{script.name}, run by {name}, imports {missing}, which is not in {environment}"


def scripts_of(name: str, text: str) -> list[Path]:
    names = {*re.findall(r'path_of\("(\w+)\.py"\)', text), *re.findall(r'depends_on\("(\w+)\.py"\)', text)}
    if "training_path" in text:
        kind = next(kind for kind in KINDS.values() if f"{kind.name.upper()}_EXPERIMENTS" in text)
        names |= {
            Path(kind.script).stem,
            *(f"train_{one}" for one, its in load_originals().items() if its.kind == kind.name),
        }
    assert names, name
    return [Path(f"workflow/scripts/{name}.py") for name in sorted(names)]


@cache
def imported_by(script: Path) -> frozenset[str]:
    """Distributions that a script and the library below it import, at their start or later."""
    names = set()
    for file in modules_of(script):
        for node in ast.walk(ast.parse(file.read_text())) if file.suffix == ".py" else ():
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    own = {"frugal", *(path.stem for path in script.parent.glob("*.py"))}
    return frozenset(DISTRIBUTIONS.get(name, normal(name)) for name in names - own - set(sys.stdlib_module_names))

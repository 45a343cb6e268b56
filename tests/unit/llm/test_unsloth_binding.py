"""The unsloth back end's calls bind to the signatures in unsloth's own source, which is read, not imported."""

import ast
import inspect
import subprocess
import sys
import zipfile

import pytest

from frugal.config.llm import LoraSettings, ModelSettings
from frugal.llm.unsloth_backend import from_pretrained_arguments, get_peft_model_arguments

UNSLOTH = "unsloth==2026.10.7"  # as in envs/unsloth.yaml


@pytest.fixture(scope="module")
def unsloth_source(tmp_path_factory):
    """Parsed modules of the unsloth wheel."""
    folder = tmp_path_factory.mktemp("unsloth")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        UNSLOTH,
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"{UNSLOTH} cannot be downloaded here: {result.stderr.strip()[-200:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return {name: wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".py")}


def signature(source: str, class_name: str, method: str) -> inspect.Signature:
    """A method's signature from source: names and whether they have defaults; no code runs."""
    owner = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == class_name)
    function = next(n for n in owner.body if isinstance(n, ast.FunctionDef) and n.name == method)
    arguments, kinds = function.args, inspect.Parameter
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    parameters = [
        kinds(a.arg, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if i < required else None)
        for i, a in enumerate(positional)
    ]
    parameters += [
        kinds(a.arg, kinds.KEYWORD_ONLY, default=kinds.empty if d is None else None)
        for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return inspect.Signature(parameters)  # **kwargs is left out: every argument must have a name of its own


def test_from_pretrained_binds(unsloth_source):
    target = signature(unsloth_source["unsloth/models/loader.py"], "FastLanguageModel", "from_pretrained")
    target.bind(**from_pretrained_arguments("folder", ModelSettings(compute_dtype="bfloat16")))


def test_get_peft_model_binds(unsloth_source):
    target = signature(unsloth_source["unsloth/models/llama.py"], "FastLlamaModel", "get_peft_model")
    arguments = get_peft_model_arguments(LoraSettings(), ModelSettings(), gradient_checkpointing=True, seed=1)
    target.bind("model", **arguments)
    assert arguments["use_gradient_checkpointing"] == "unsloth"


def test_fast_language_model_takes_get_peft_model_from_the_llama_class(unsloth_source):
    tree = ast.parse(unsloth_source["unsloth/models/loader.py"])
    owner = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "FastLanguageModel")
    assert [base.id for base in owner.bases] == ["FastLlamaModel"]


def test_a_call_that_does_not_bind_is_noticed(unsloth_source):
    target = signature(unsloth_source["unsloth/models/llama.py"], "FastLlamaModel", "get_peft_model")
    with pytest.raises(TypeError, match="rank"):
        target.bind("model", rank=8)

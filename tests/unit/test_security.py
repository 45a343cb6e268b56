"""What the sources never do: run code from data, trust what they fetch, or let a study ask for it."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from frugal.config.registry import load_datasets, load_models
from frugal.config.study import load_study
from frugal.config.yaml_files import read_yaml
from frugal.data.source import archives, download, fetch
from frugal.errors import FrugalError

SOURCES = sorted(Path("workflow").rglob("*.py"))
#: Calls that run code which their input holds, or a shell.
FORBIDDEN = re.compile(
    r"(c?pickle|dill|cloudpickle|marshal|shelve|joblib|jsonpickle)\..+|pandas\.read_pickle|os\.(system|popen)|"
    r"eval|exec|compile|__import__|yaml\.(unsafe_load|full_load|unsafe_load_all|full_load_all)|tempfile\.mktemp|"
    r"torch\.hub\..+|runpy\..+"
)


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """A called name in full, as the file's imports say: ``np.load`` is ``numpy.load``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def imported(tree: ast.Module) -> dict[str, str]:
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dangers(code: str) -> list[str]:
    """What a source does that it should not, a line each."""
    tree = ast.parse(code)
    names, found = imported(tree), []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = dotted(call.func, names)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        bad = [
            FORBIDDEN.fullmatch(name),
            name == "torch.load" and given.get("weights_only") != "True",
            name == "yaml.load" and not given.get("Loader", "").endswith(("SafeLoader", "_Loader")),
            given.get("allow_pickle", "False") != "False",
            given.get("shell", "False") != "False",
            given.get("verify", "True") != "True",
            given.get("trust_remote_code", "False") != "False",
            name.startswith("transformers.Auto")
            and name.endswith(".from_pretrained")
            and "trust_remote_code" not in given,
            call.func.attr in ("extractall", "extract") and "filter" not in given
            if isinstance(call.func, ast.Attribute)
            else False,
            name == "jinja2.Environment" and not {"autoescape", "finalize"} & set(given),
        ]
        if any(bad):
            found.append(f"line {call.lineno}: {ast.unparse(call)[:80]}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [
                f"line {node.lineno}: trust_remote_code"
                for key, value in pairs
                if isinstance(key, ast.Constant) and key.value == "trust_remote_code" and ast.unparse(value) != "False"
            ]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_sources_run_no_code_from_data(path):
    found = dangers(path.read_text(encoding="utf-8"))
    # The parts of a report's page have been escaped for its format before; a model card's template escapes by a filter.
    if path.name in ("render.py", "model_card.py"):
        found = [line for line in found if "jinja2.Environment" not in line]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads\nloads(b)",
        "import pandas as pd\npd.read_pickle(p)",
        "import torch\ntorch.load(f)",
        "import torch as t\nt.load(f, weights_only=False)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import yaml\nyaml.load(f)",
        "import yaml\nyaml.load(f, Loader=yaml.Loader)",
        "from yaml import unsafe_load as u\nu(f)",
        "eval('1')",
        "exec('1')",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "archive.extractall(folder)",
        "import requests\nrequests.get(u, verify=False)",
        "from transformers import AutoModel\nAutoModel.from_pretrained(f)",
        "from transformers import AutoModel\nAutoModel.from_pretrained(f, trust_remote_code=True)",
        "f(trust_remote_code=settings.trust)",
        "settings = {'trust_remote_code': True}",
        "import jinja2\njinja2.Environment(loader=x)",
    ],
)
def test_dangers_are_noticed(code):
    assert dangers(code)


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "re.compile('x')",
        "import torch\ntorch.load(f, weights_only=True)",
        "import numpy as np\nnp.load(f)",
        "import yaml\nyaml.safe_load(f)",
        "import subprocess\nsubprocess.run(['ls'])",
        "archive.extractall(folder, filter='data')",
        "from transformers import AutoModel\nAutoModel.from_pretrained(f, trust_remote_code=False)",
    ],
)
def test_what_is_harmless_is_not(code):
    assert not dangers(code)


def test_the_loader_of_studies_is_a_safe_one(tmp_path):
    (tmp_path / "study.yaml").write_text("study: !!python/object/apply:os.system ['touch ran']\n")
    with pytest.raises(FrugalError, match=r"study\.yaml"):
        read_yaml(tmp_path / "study.yaml")


def with_key(data, *path, **keys):
    """A copy of ``data`` with more keys at a place in it."""
    copy = json.loads(json.dumps(data))
    place = copy
    for name in path:
        place = place[name]
    place.update(keys)
    return copy


@pytest.mark.parametrize(
    "path",
    [(), ("movie_preference",), ("movie_preference", "model"), ("wikitext", "training"), ("bert4rec", "model")],
    ids=".".join,
)
def test_no_study_can_ask_for_remote_code(path):
    place = ("experiments", *path) if path else ()
    study = with_key(read_yaml("config/smoke.yaml"), *place, trust_remote_code=True)
    with pytest.raises(FrugalError, match=r"trust_remote_code: unknown key"):
        load_study(study, "smoke.yaml")


@pytest.mark.parametrize(
    ("file", "load", "path"),
    [
        ("datasets", load_datasets, ("datasets", "movielens-100k")),
        ("datasets", load_datasets, ("datasets", "movielens-100k", "sources", 0)),
        ("models", load_models, ("models", "llama-3-8b")),
        ("models", load_models, ("models", "llama-3-8b", "sources", 0)),
    ],
)
def test_no_table_can_ask_for_remote_code(file, load, path, tmp_path):
    table = with_key(read_yaml(f"config/{file}.yaml"), *path, trust_remote_code=True)
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    with pytest.raises(FrugalError, match=r"trust_remote_code: unknown key"):
        load(tmp_path / "table.yaml")


@pytest.fixture
def model_with_code(tiny_model_folder, tmp_path):
    """A model whose configuration names a class in a file beside it, which leaves a trace when it is run."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    for name, keys in (
        ("config.json", ("AutoConfig", "AutoModelForCausalLM")),
        ("tokenizer_config.json", ("AutoTokenizer",)),
    ):
        settings = json.loads((folder / name).read_text())
        settings |= {"auto_map": dict.fromkeys(keys, "code.Mine"), "model_type": "mine", "tokenizer_class": "Mine"}
        (folder / name).write_text(json.dumps(settings))
    return folder


def test_code_beside_a_model_is_never_run(model_with_code, make_run, tmp_path):
    from frugal.llm.loading import load_base_model, load_tokenizer

    for use in (
        lambda: load_base_model(model_with_code, make_run().model, "cpu"),
        lambda: load_tokenizer(model_with_code),
    ):
        with pytest.raises(FrugalError):
            use()
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_model_is_not_copied(model_with_code, tmp_path):
    from frugal.llm.conversion import copy_safetensors

    copy_safetensors(model_with_code, tmp_path / "copy")
    assert not list((tmp_path / "copy").glob("*.py"))


DATASET = load_datasets("config/datasets.yaml")["movielens-20m"]


@pytest.fixture
def unopened(monkeypatch):
    """An archive that is opened ends the test."""

    def opened(*arguments):
        raise AssertionError("opened before it was checked")

    for module, name in ((fetch, "unpack"), (fetch, "single_member"), (archives.zipfile, "ZipFile")):
        monkeypatch.setattr(module, name, opened)


def test_a_file_is_checked_before_it_is_opened(unopened, tmp_path, monkeypatch):
    def no_network(url, *arguments):
        raise download.SourceUnavailable(f"{url}: no connection")

    monkeypatch.setattr(fetch, "download", no_network)
    downloads, mine = tmp_path / "downloads", tmp_path / "mine.zip"
    downloads.mkdir()
    for path in (downloads / DATASET.sources[0].file_name, mine):
        path.write_bytes(b"PK other bytes")
    with pytest.raises(FrugalError, match="has 14 bytes instead of 198702078"):
        fetch.fetch("movielens-20m", DATASET, tmp_path / "raw", downloads=downloads)
    with pytest.raises(FrugalError, match="is not movielens-20m: it has 14 bytes instead of 198702078"):
        fetch.fetch("movielens-20m", DATASET, tmp_path / "raw", downloads=downloads, local=mine)


def test_a_download_has_its_name_only_when_it_is_right(unopened, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_fill", lambda url, part, check, patience: part.write_bytes(b"PK other bytes"))
    check = download.Check(sha256="0" * 64)
    with pytest.raises(download.SourceUnavailable, match="has the sha256"):
        download.download("http://localhost/a.zip", tmp_path / "a.zip", check)
    assert list(tmp_path.iterdir()) == []


def test_accepted_weaknesses_are_of_packages_in_the_lock_and_have_a_reason():
    lock = Path("envs/requirements.txt").read_text().splitlines()
    lines = [line for line in Path("envs/audit.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        advisory, package, reason = line.split(maxsplit=2)
        assert re.fullmatch(r"GHSA(-\w{4}){3}|PYSEC-\d+-\d+|CVE-\d+-\d+", advisory)
        assert f"{package.lower()} \\" in lock, f"{package} is no longer in the lock: take {advisory} out"
        assert len(reason) > 40

"""Broken configurations: each is refused in words that name file and key, or it is good to the last consequence."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.config.base import plain
from frugal.config.registry import load_datasets, load_models
from frugal.config.sources import UrlSource
from frugal.config.study import dump_yaml, load_study
from frugal.config.yaml_files import read_yaml

from .conftest import MARKER, examples, refusal
from .mutations import as_yaml, broken_bytes, changed, edits

STUDIES = {name: read_yaml(f"config/{name}.yaml") for name in ("config", "workstation", "smoke", "full")}
TABLES = {"datasets": load_datasets, "models": load_models}


def use(data: dict, file: str) -> None:
    """All that Snakemake asks of a study before its first job."""
    for experiment in load_study(data, file).experiments.values():
        for run in (experiment.shared, *experiment.runs.values()):
            for keys in (None, *experiment.kind.stages.values()):
                json.dumps(plain(run, keys), allow_nan=False).encode()
            dump_yaml(plain(run)).encode()


def use_file(path: Path) -> None:
    use(read_yaml(path), str(path))


wrong_studies = st.sampled_from(sorted(STUDIES)).flatmap(lambda name: st.tuples(st.just(name), edits(STUDIES[name])))
wrong_texts = st.sampled_from(sorted(STUDIES)).flatmap(
    lambda name: broken_bytes(Path(f"config/{name}.yaml").read_bytes())
)


def test_studies_with_wrong_values():
    outcomes = Counter()

    @examples(400)
    @given(wrong_studies)
    def check(wrong):
        name, faults = wrong
        message = refusal(use, changed(STUDIES[name], faults), "study.yaml")
        outcomes["refused" if message else "good"] += 1
        assert message is None or all(line.startswith("study.yaml: ") for line in message.split("\n")), message

    check()
    assert outcomes["refused"] >= 250, outcomes


def test_studies_with_wrong_text(sandboxes):
    outcomes = Counter()
    with sandboxes() as sandbox:
        path = sandbox.inputs / "study.yaml"

        @examples(150)
        @given(wrong_texts)
        def check(data):
            path.write_bytes(data)
            message = refusal(use_file, path)
            outcomes["refused" if message else "good"] += 1
            assert message is None or message.startswith(f"{path}:"), message

        check()
    assert outcomes["refused"] >= 50, outcomes


@pytest.mark.parametrize("table", TABLES)
def test_tables_with_wrong_values(sandboxes, table):
    valid, outcomes = read_yaml(f"config/{table}.yaml"), Counter()
    with sandboxes() as sandbox:
        path = sandbox.inputs / f"{table}.yaml"

        @examples(100)
        @given(edits(valid))
        def check(faults):
            path.write_text(as_yaml(changed(valid, faults)))
            message = refusal(TABLES[table], path)
            outcomes["refused" if message else "good"] += 1
            assert message is None or all(line.startswith(f"{path}: ") for line in message.split("\n")), message

        check()
    assert outcomes["refused"] >= 30, outcomes


def laughs(link: str) -> str:
    """A few lines that are ten thousand million values once their aliases are written out."""
    levels = ["a: &a {x: x, y: y, z: z, v: v, w: w}"]
    for before, after in zip("abcdefghijklmnopq", "bcdefghijklmnopqr", strict=True):
        levels.append(f"{after}: &{after} {link.replace('X', before)}")
    return "\n".join(levels)


# YAML that is wrong as such, and what is said of it.
SPECIALS = {
    "code": (f'study: !!python/object/apply:os.system ["touch {MARKER}"]', "could not determine a constructor"),
    "code in a list": (f'- !!python/object/new:subprocess.Popen [["touch", "{MARKER}"]]', "could not determine a con"),
    "name": ("study: !!python/name:os.system", "could not determine a constructor"),
    "unknown tag": ("study: !planted x", "could not determine a constructor"),
    "laughs": (laughs("[*X, *X, *X, *X]"), "more than 100000 values"),
    "merged laughs": (laughs("{<<: [*X, *X, *X, *X]}"), "more than 100000 values"),
    "circle": ("study: &a {x: *a}", "an alias within what it stands for"),
    "merged circle": ("study: &a {<<: *a}", "an alias within what it stands for"),
    "deep": ("[" * 5000, "nested too deeply"),
    "deep but closed": (f"study: {'[' * 200}{']' * 200}", "nested more than 40 deep"),
    "twice": ("study: x\nstudy: y", "the key 'study' is given twice"),
    "date": ("study: 2001-13-45", "a value is not of its type"),
    "no number": ("study: !!int planted", "a value is not of its type"),
    "no time": ("study: !!timestamp planted", "a value is not of its type"),
    "no mapping": ("study: !!map [1]", "expected a mapping node"),
    "digits": (f"study: {'9' * 5000}", "a value is not of its type"),
    "large number": (f"study: 0x{'f' * 5000}", "a whole number of more than 64 bits"),
    "root number": (f"0x{'f' * 5000}", "a whole number of more than 64 bits"),
    "NUL": ('study: "a\\0b"', "holds the character NUL"),
    "surrogate": ('study: "\\ud800"', "holds half of a surrogate pair"),
    "number as key": ("1: x", "has a key that is no text"),
    "list as key": ("? [a]\n: x", "unhashable key"),
    "control": ("study: a\x07b", "special characters are not allowed"),
    "tab": ("study:\n\tx: 1", "cannot start any token"),
    "two documents": ("study: x\n---\nstudy: y", "but found another document"),
    "empty": ("", "expected keys and values, got nothing"),
    "text": ("planted", "expected keys and values, got 'planted'"),
    "UTF-16": ("study: x".encode("utf-16"), "not UTF-8 at byte 0"),
    "latin-1": ("study: \u00e9".encode("latin-1"), "not UTF-8 at byte 7"),
}


@pytest.mark.parametrize("kind", SPECIALS)
def test_yaml_that_is_wrong_as_such(sandboxes, kind):
    text, words = SPECIALS[kind]
    with sandboxes() as sandbox:
        path, out = sandbox.inputs / "wrong.yaml", sandbox.outputs
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert words in sandbox.ask(use_file, path)
        told = [
            sandbox.run("fetch_source.py", "--table", path, "--name", "x", "--output", out / "raw", "--downloads", out),
            sandbox.run(
                "make_preference_pairs.py", "--config", path, "--interactions=", "--items=", "--output", out / "p"
            ),
        ]
        assert all(words in outcome.stderr and str(path) in outcome.stderr for outcome in told), told


def test_merge_keys_are_no_fault(tmp_path):
    (tmp_path / "study.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(tmp_path / "study.yaml")["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize("end", ["a%00b", "..", "%2e%2e", ".x.lock", "%2fetc%2f..", "a%0ab", "%1b[31m", ""])
def test_an_address_gives_a_plain_file_name_or_none(end):
    assert UrlSource(url=f"https://example.org/{end}").file_name == "download"

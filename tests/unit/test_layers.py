"""Errors name the file that holds a key, and commands name every file and what `--config` gave."""

import shlex

import pytest

from frugal.config.layers import COMMAND_LINE, command_options, holder, load_layers
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError

LAYERS = {
    "a.yaml": {"study": "x", "models": {"llama-3.2": {"title": "a"}}, "experiments": {"one": {"model": {"r": 4}}}},
    "b.yaml": {"experiments": {"one": {"model": {"alpha": 8}}, "two": {}}},
    COMMAND_LINE: {"study": "y"},
}


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("study", COMMAND_LINE),
        ("experiments.one.model.r", "a.yaml"),
        ("experiments.one.model.alpha", "b.yaml"),
        ("experiments.two.title", "b.yaml"),  # missing there
        ("models.llama-3.2.title", "a.yaml"),
        ("experiments.one.model", "b.yaml"),  # both: the later one takes precedence
    ],
)
def test_the_layer_that_holds_a_key(key, layer):
    assert holder(key, LAYERS) == layer


def test_each_fault_names_its_layer():
    study = read_yaml("config/smoke.yaml")
    more = {"experiments": {"climate": {"lora": {"rr": 8}}}}
    study["experiments"]["climate"]["lora"] |= {"rr": 8, "alfa": 1}
    with pytest.raises(FrugalError) as caught:
        load_layers(study, {"a.yaml": {"experiments": {"climate": {"lora": {"alfa": 1}}}}, "b.yaml": more})
    first, second = str(caught.value).splitlines()
    assert {first.partition(";")[0], second.partition(";")[0]} == {
        "a.yaml: experiments.climate.lora.alfa: unknown key",
        "b.yaml: experiments.climate.lora.rr: unknown key",
    }


def test_options_name_all_files_and_settings():
    options = command_options(["a.yaml", "my b.yaml"], {"study": "x", "report": {"threats": ["it's"]}})
    assert shlex.split(options) == [
        *["--configfile", "a.yaml", "my b.yaml"],
        *["--config", "study=x", 'report={"threats": ["it\'s"]}'],
    ]
    assert command_options([], {}) is None

"""Searches and recipes in a study: what is refused, in which words, and what they resolve to."""

import copy
import re
import sys
from pathlib import Path

import pytest
import yaml

import write_recipe
from frugal.config.base import plain
from frugal.config.recipes import read_recipe
from frugal.config.search import Domain, SearchSettings
from frugal.config.search_space import largest, searchable, with_values
from frugal.config.study import dump_yaml, load_study
from frugal.errors import FrugalError
from frugal.rehearsal.mapping import map_experiments, not_rehearsed

RATE, DROPOUT = "training.learning_rate", "model.hidden_dropout_prob"
SPACE = {RATE: {"low": 1e-3, "high": 1e-2, "log": True}, DROPOUT: [0.1, 0.2]}
VARIANT = "f.yaml: experiments.books.variants.sasrec.search"


def study(variant=None, experiment=None, kind="recommendation"):
    entry = {"kind": kind, "title": "Books", "dataset": "books", "variants": {"sasrec": variant or {}}}
    return {"study": "shop", "experiments": {"books": entry | (experiment or {})}}


def load(**parts):
    return load_study(study(**parts), "f.yaml").experiments["books"]


def searching(**changes):
    return {"search": {"trials": 3, "space": SPACE} | changes}


REFUSED = [
    (searching(trials=0), r"search\.trials: must be greater than or equal to 1, got 0"),
    (searching(trials=-5), r"search\.trials: must be greater than or equal to 1, got -5"),
    (searching(hours=0), r"search\.hours: must be greater than 0, got 0"),
    (searching(trials=None), r"search: has no budget: set trials, hours or both"),
    (searching(space={}), r"search\.space: Dictionary should have at least 1 item"),
    (searching(trails=3), r"search\.trails: unknown key; did you mean 'trials'\?"),
    (searching(sampler="tpa"), r"search\.sampler: must be 'tpe' or 'random', got 'tpa'"),
    ({"search": 5}, r"search: expected keys and values, got 5"),
    (
        searching(space={"training.learning_rat": [0.1]}),
        r"search\.space\.training\.learning_rat: unknown key; did you mean 'training\.learning_rate'\?",
    ),
    (searching(space={"learning_rate": [0.1]}), r"unknown key; did you mean 'training\.learning_rate'\?"),
    (searching(space={"seeds": [1]}), r"space\.seeds: unknown key; known keys here: model\.architecture, .*loss\.name"),
    (searching(space={"evaluation.history": ["keep"]}), r"space\.evaluation\.history: unknown key"),
    (searching(space={"training.gpus": [0, 1]}), r"space\.training\.gpus: belongs to the machine or to how a run is"),
    (searching(space={RATE: 0.1}), r"learning_rate: must be a list of values, or \{low, high, log, step\}, got 0\.1"),
    (searching(space={RATE: []}), r"learning_rate: has no value to choose from"),
    (searching(space={DROPOUT: [0.1, 0.1]}), r"hidden_dropout_prob: has a value twice"),
    (searching(space={DROPOUT: [[0.1]]}), r"hidden_dropout_prob: each choice must be a single value, got \[0\.1\]"),
    (searching(space={RATE: {"low": 1e-3}}), r"learning_rate: a range needs both low and high"),
    (searching(space={RATE: {"low": 0.1, "hi": 0.2}}), r"learning_rate\.hi: unknown key; .*high"),
    (searching(space={RATE: {"low": 0.1, "high": 0.1}}), r"learning_rate: low must be below high, got 0\.1 and 0\.1"),
    (searching(space={RATE: {"low": 0, "high": 0.1, "log": True}}), r"learning_rate: log needs a low above 0, got 0"),
    (searching(space={RATE: {"low": "small", "high": 0.1}}), r"learning_rate\.low: must be a number, got 'small'"),
    (searching(space={RATE: {"low": 0.1, "high": 0.2, "step": 0.2}}), r"step must be above 0 and at most high - low"),
    (
        searching(space={RATE: {"low": 0.1, "high": 0.2, "step": 0.1, "log": True}}),
        r"learning_rate: step does not go with log",
    ),
    # The variant's own settings refuse a value: an end of a range, a choice, one that fits nothing beside it.
    (searching(space={RATE: {"low": 0.1, "high": 2.0}}), r"learning_rate: must be less than 1, got 2\.0"),
    (searching(space={DROPOUT: [0.1, "much"]}), r"hidden_dropout_prob: must be a valid number.*, got 'much'"),
    (
        searching(space={"model.layers": ["hstu", "gru"]}),
        r"model\.layers: must be 'transformer', 'ligr' or 'hstu', got",
    ),
    (
        searching(space={"model.hidden_size": {"low": 16.0, "high": 64.0}}),
        r"hidden_size: takes whole numbers: give low, high and step without decimals",
    ),
    (
        searching(space={"model.num_attention_heads": [1, 3]}),
        r"num_attention_heads: 3: model: num_attention_heads 3 does not cut the width 64",
    ),
    (
        searching(space={"model.hidden_size": {"low": 16, "high": 20}}),
        r"hidden_size: 17: model: num_attention_heads 2 does not cut the width 17 into equal parts",
    ),
    (searching() | {"training": {"gpus": 2}}, r"search: a search trains on one device: set training\.gpus to 0, 1"),
    (
        searching() | {"warm_start": {"path": "model.pth"}},
        r"search: a variant with warm_start or adapter cannot be searched",
    ),
]


@pytest.mark.parametrize(("variant", "words"), REFUSED)
def test_a_faulty_search_is_refused_before_anything_runs(variant, words):
    with pytest.raises(FrugalError, match=words) as error:
        load(variant=variant)
    assert str(error.value).startswith("f.yaml: experiments.books")


def test_a_search_of_an_experiment_names_its_own_key():
    with pytest.raises(FrugalError, match=r"^f\.yaml: experiments\.books\.search\.trials: must be greater"):
        load(experiment=searching(trials=0))
    with pytest.raises(FrugalError, match=r"^f\.yaml: experiments\.books\.search\.space\.model\.size: unknown key"):
        load(experiment=searching(space={"model.size": [1]}))


def test_other_kinds_have_no_search_and_no_recipe():
    for keys in (searching(), {"recipe": "r.yaml"}):
        with pytest.raises(FrugalError, match=rf"experiments\.books\.{next(iter(keys))}: unknown key"):
            load(experiment=keys, kind="preference")


def test_values_that_fit_beside_others_are_a_space():
    layers = {"model.layers": ["transformer", "hstu"], "model.positions": ["relative", "rotary"]}
    assert load(variant=searching(space=layers)).searches["sasrec"].space["model.layers"].choices == [
        "transformer",
        "hstu",
    ]
    # Width 66 is cut by 3 heads alone, 64 by 2 alone.
    widths = {"model.hidden_size": [64, 99], "model.num_attention_heads": [2, 3]}
    assert load(variant=searching(space=widths)).searches


def test_a_variant_changes_the_search_of_its_experiment():
    variants = {
        "sasrec": {},
        "wide": {"model": {"hidden_size": 128}, "search": {"space": {DROPOUT: [0.4]}, "seed": 7}},
        "still": {"search": None},
        "lora": {"warm_start": {"variant": "sasrec"}, "adapter": {"method": "lora"}},
    }
    books = load(experiment=searching() | {"variants": variants})
    assert list(books.searches) == ["sasrec", "wide"]  # an adapter is not searched
    assert books.searches["sasrec"].space[DROPOUT].choices == [0.1, 0.2]
    assert books.searches["wide"].space[DROPOUT].choices == [0.4]
    assert books.searches["wide"].space[RATE] == books.searches["sasrec"].space[RATE]
    assert [search.seed for search in books.searches.values()] == [1, 7]
    assert books.runs["wide"].model.hidden_size == 128


def test_a_search_changes_no_run():
    plainly, searched = load(), load(experiment=searching())
    assert plain(searched.runs["sasrec"]) == plain(plainly.runs["sasrec"])
    assert plainly.searches == {}


def test_numbers_are_read_as_yaml_writes_them():
    domain = Domain.model_validate(yaml.safe_load("{low: 1e-4, high: 1.0e-2, log: true}"))
    assert (domain.low, domain.high, domain.whole) == (1e-4, 1e-2, False)
    assert Domain(low=8, high=40, step=16).checked() == [8, 24, 40]
    assert Domain(low=1, high=100).checked() == list(range(1, 101))
    assert Domain(low=1, high=101).checked() == [1, 101]
    search = SearchSettings.model_validate({"hours": 0.5, "space": {DROPOUT: [0.1]}})
    assert SearchSettings.model_validate(search.model_dump(mode="json")) == search


def test_the_largest_runs_come_first():
    run = load().runs["sasrec"]
    space = {
        "model.hidden_size": Domain(low=16, high=128, step=2),
        "model.layers": Domain(choices=["transformer", "ligr"]),
    }
    corners = [(one.model.hidden_size, one.model.layers) for one in largest(run, space)]
    assert corners == [(128, "transformer"), (128, "ligr"), (16, "transformer"), (16, "ligr")]
    assert not {"training.threads", "training.precision", "loss.precision"} & set(searchable(run))
    assert {"loss.name", "model.layers", "training.weight_decay"} <= set(searchable(run))


RECIPE = {"settings": {"model": {"hidden_size": 32, "layers": "ligr"}, "training": {"learning_rate": 0.005}}}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "found.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"found": {"dataset": "books"}}))
    return str(path)


def test_a_recipe_lies_below_the_keys_beside_it(recipe):
    books = load(
        variant={"recipe": recipe, "training": {"learning_rate": 0.01}},
        experiment={"model": {"hidden_size": 16, "num_hidden_layers": 1}, "training": {"weight_decay": 0.1}},
    )
    stated = load(
        variant={
            "model": {"hidden_size": 32, "num_hidden_layers": 1, "layers": "ligr"},
            "training": {"learning_rate": 0.01, "weight_decay": 0.1},
        }
    )
    assert plain(books.runs["sasrec"]) == plain(stated.runs["sasrec"])
    # Of an experiment, below all that the experiment and its variants state.
    shared = load(experiment={"recipe": recipe, "model": {"hidden_size": 16}}).runs["sasrec"]
    assert (shared.model.hidden_size, shared.model.layers, shared.training.learning_rate) == (16, "ligr", 0.005)


def test_reading_a_recipe_leaves_the_parsed_study_as_it_is(recipe):
    data = study(variant={"recipe": recipe})
    before = copy.deepcopy(data)
    load_study(data, "f.yaml")
    assert data == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("settings: {model: {hidden_sise: 3}}", r"bad\.yaml: settings\.model\.hidden_sise: unknown key; did you mean"),
        (
            "settings: {training: {learning_rate: 5}}",
            r"bad\.yaml: settings\.training\.learning_rate: must be less than",
        ),
        ("settings: {data: {times: true}}", r"bad\.yaml: settings\.data: unknown key"),
        ("model: {}", r"bad\.yaml: settings: this key is required"),
        ("a: [", r"bad\.yaml: line .*not valid YAML"),
    ],
)
def test_a_faulty_recipe_is_named(content, words, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(FrugalError, match=words):
        load(variant={"recipe": str(path)})


def test_a_recipe_that_is_not_there():
    with pytest.raises(FrugalError, match=r"variants\.sasrec\.recipe: there is no file 'config/recipes/no\.yaml'"):
        load(variant={"recipe": "config/recipes/no.yaml"})
    with pytest.raises(FrugalError, match=r"books\.recipe: must be the path of a recipe, got \['a'\]"):
        load(experiment={"recipe": ["a"]})


def test_a_rehearsal_has_the_recipe_s_settings_and_no_search(recipe):
    data = study(variant={"recipe": recipe, **searching()})
    books = load_study(data, "f.yaml")
    experiments, changes = map_experiments(books, data)
    assert experiments["books"]["variants"]["sasrec"]["model"] == {"hidden_size": 8, "layers": "ligr"}
    assert {"recipe", "search"}.isdisjoint(experiments["books"]["variants"]["sasrec"])
    assert "experiments.books.variants.sasrec.model.hidden_size" in {change.key for change in changes}
    assert any("`search`" in sentence for sentence in not_rehearsed(books))
    load_study({"study": "rehearsal", "experiments": experiments}, "f.yaml")


def test_a_recipe_is_written_when_asked_for_and_not_over_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path("results/shop/books/sasrec/search")

    def write(*options, name="books"):
        monkeypatch.setattr(sys, "argv", ["write_recipe.py", "--search", str(folder), "--name", name, *options])
        write_recipe.main()

    with pytest.raises(FrugalError, match=r"search/best\.yaml: is not there; search first"):
        write()
    folder.mkdir(parents=True)
    (folder / "best.yaml").write_text(dump_yaml(RECIPE))
    write()
    assert "`recipe: config/recipes/books.yaml`" in capsys.readouterr().out
    assert read_recipe("config/recipes/books.yaml") == RECIPE
    (folder / "best.yaml").write_text(dump_yaml({"settings": {"model": {"hidden_size": 4}}}))
    with pytest.raises(FrugalError, match=r"recipes/books\.yaml: exists; choose another name, or add --replace"):
        write()
    write("--replace")
    assert read_recipe("config/recipes/books.yaml")["settings"] == {"model": {"hidden_size": 4}}
    with pytest.raises(FrugalError, match=r"--name: '\.\./x' is made of a-z"):
        write(name="../x")
    (folder / "best.yaml").write_text("settings: {model: {hidden_size: -4}}")
    with pytest.raises(FrugalError, match=r"best\.yaml: settings\.model\.hidden_size: must be greater"):
        write(name="other")
    assert not Path("config/recipes/other.yaml").exists()
    assert load(variant={"recipe": "config/recipes/books.yaml"}).runs["sasrec"].model.hidden_size == 4


def test_the_page_shows_studies_and_commands_that_work(tmp_path, monkeypatch):
    page = Path("docs/how-to/search.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    searched, used, written = (yaml.safe_load(block) for language, block in blocks if language == "yaml")
    monkeypatch.chdir(tmp_path)
    books = load_study({"study": "shop", **searched}, "the page").experiments["recommender"]
    assert list(books.searches) == ["sasrec", "bert4rec"]
    assert list(books.searches["bert4rec"].space) == [*books.searches["sasrec"].space, "model.mask_probability"]
    folder = Path("results/shop/recommender/sasrec/search")
    folder.mkdir(parents=True)
    (folder / "best.yaml").write_text(dump_yaml(written))
    commands = "".join(block for language, block in blocks if not language).splitlines()
    for command in (command for command in commands if command.startswith("python")):
        monkeypatch.setattr(sys, "argv", command.split()[1:])
        write_recipe.main()
    runs = load_study({"study": "shop", **used}, "the page").experiments["recommender"].runs
    assert [run.training.num_train_epochs for run in runs.values()] == [20, 60]
    assert {run.training.learning_rate for run in runs.values()} == {0.005}


def test_values_are_read_by_the_settings_of_the_run():
    run = with_values(load().runs["sasrec"], {RATE: "1e-3", "model.layers": "ligr"})
    assert (run.training.learning_rate, run.model.layers) == (0.001, "ligr")

"""Templates of prompts: what the shipped studies ask, what a template may hold, and what each word stands for."""

import copy
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frugal.config.preference import FIELDS, PromptSettings
from frugal.config.study import load_study
from frugal.config.templates import fields_of
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.preference.items import Items, Pair
from frugal.preference.prompts import Prompts, answers, prompt

SHIPPED = ["config.yaml", "workstation.yaml", "full.yaml", "smoke.yaml"]
LAPTOP = read_yaml("config/config.yaml")
# Film 0: Action and Comedy; films 7 and 14: Action; film 1: Comedy; film 4: Horror.
EXAMPLE = Pair(user=0, history=(0, 7, 1), liked=14, other=4, kind="easy")
# These texts decide the published results: whoever changes them changes the results.
CONTRASTIVE = """### Instruction:
Which of the two films would this user like better, and why?

### Input:
Liked: Film 0, The (1950) (Action|Comedy); Film 7, The (1957) (Action); Film 1, The (1951) (Comedy).
Option A: Film 4, The (1954) (Horror)
Option B: Film 14, The (1964) (Action)

### Response:
"""
NEXT_ITEM = """### Instruction:
Which film would this user like next?

### Input:
Liked: Film 0, The (1950) (Action|Comedy); Film 7, The (1957) (Action); Film 1, The (1951) (Comedy).

### Response:
"""
REASONED = "Option B. The user likes Action and Comedy. Option B shares Action; Option A shares no genre."


def shipped_run(file, variant="base"):
    study = load_study(read_yaml(f"config/{file}"), file)
    return study.experiments["movie_preference"].runs[variant]


def asked(items, run):
    prompts = Prompts(Items(items), run)
    text = prompts.history(EXAMPLE.history) if run.pairs.format == "next_item" else prompts.comparison(EXAMPLE, "B")
    return prompt({"instruction": prompts.instruction(), "input": text})


@pytest.mark.parametrize("file", SHIPPED)
def test_prompts_of_the_shipped_studies(items, file):
    run = shipped_run(file)
    assert asked(items, run) == CONTRASTIVE
    assert Prompts(Items(items), run).answer(EXAMPLE, "B", with_reasoning=True) == REASONED
    assert answers(run) == ("Option A.", "Option B.")
    if file != "config.yaml":
        assert asked(items, shipped_run(file, "next_film")) == NEXT_ITEM


def test_prompts_of_titles_only(items):
    assert asked(items, shipped_run("full.yaml", "titles_only")) == CONTRASTIVE.replace(
        "Film 0, The (1950) (Action|Comedy); Film 7, The (1957) (Action); Film 1, The (1951) (Comedy)",
        "Film 0, The (1950); Film 7, The (1957); Film 1, The (1951)",
    )


def test_every_template_and_word_has_its_place(items, make_run):
    templates = {
        "instruction": "{plural}/{noun}/{attributes}/{attribute}?",
        "item": "<{title}: {values}>",
        "history": "Known {plural}: {history}",
        "options": "A) {option_a} B) {option_b}",
        "answer": "{{{letter}}}",
        "reasoning": "{noun} {letter}: {shared}; {other_letter}: {other_shared}; {likes}",
    }
    run = make_run(prompts=templates, items={"noun": "story", "plural": "stories", "attribute": "mood"})
    assert asked(items, run) == (
        "### Instruction:\nstories/story/moods/mood?\n\n### Input:\n"
        "Known stories: <Film 0, The (1950): Action|Comedy>; <Film 7, The (1957): Action>; "
        "<Film 1, The (1951): Comedy>\n"
        "A) <Film 4, The (1954): Horror> B) <Film 14, The (1964): Action>\n\n### Response:\n"
    )
    answer = Prompts(Items(items), run).answer(EXAMPLE, "B", with_reasoning=True)
    assert answer == "{B} story B: Action; A: no mood; Action and Comedy"


def test_a_title_with_braces_is_a_title(items, make_run):
    items.loc[14, "title"] = "{noun} {0.__class__} {"
    assert "Option B: {noun} {0.__class__} { (Action)\n" in asked(items, make_run())


BROKEN = [
    ("history", "Liked.", r"needs the field {history}; known fields: {history}, {noun}, {plural}, {attribute}, {att"),
    ("options", "{option_a} or?", r"needs the field {option_b}; known fields: {option_a}, {option_b}, {noun}"),
    ("answer", "Option A.", r"needs the field {letter}; known"),
    ("item", "{values}", r"needs the field {title}; known fields: {title}, {values}, "),
    ("reasoning", "Because.", r"needs the field {likes}; known"),
    ("instruction", "Which {film}?", r"there is no field {film}; known fields: {noun}, {plural}"),
    ("history", "{histroy}", r"there is no field {histroy}; did you mean 'history'\? known fields: {history}, "),
    ("history", "{history.__class__}", r"the field {history.__class__} is not a plain name in braces"),
    ("history", "{history[0]}", r"the field {history\[0\]} is not a plain name"),
    ("history", "{history!r}", r"the field {history} is not a plain name"),
    ("history", "{history:>9}", r"the field {history} is not a plain name"),
    ("history", "{history:{noun}}", r"the field {history} is not a plain name"),
    ("history", "{}", r"the field {} is not a plain name"),
    ("history", "{0}", r"the field \{0\} is not a plain name"),
    ("history", "{history", r"is no template: .*; write {{ and }} for braces"),
    ("history", "history}", r"is no template: .*; write {{ and }} for braces"),
    ("history", "", r"needs the field {history}"),
    ("instruction", "", r"String should have at least 1 character"),
    ("history", None, r"must be a valid string, got nothing"),
    ("histories", "x", r"unknown key; did you mean 'history'\?"),
]


@pytest.mark.parametrize(("key", "template", "message"), BROKEN)
def test_a_broken_template_is_refused_when_the_study_is_loaded(key, template, message):
    data = copy.deepcopy(LAPTOP)
    data["experiments"]["movie_preference"]["prompts"] = {key: template}
    with pytest.raises(FrugalError) as error:
        load_study(data, "my.yaml")
    where = re.escape(f"my.yaml: experiments.movie_preference.prompts.{key}: ")
    assert re.match(where + message, str(error.value)), str(error.value)
    data["experiments"]["movie_preference"]["prompts"] = {}
    data["experiments"]["movie_preference"]["variants"] = {"mine": {"prompts": {key: template}}}
    with pytest.raises(FrugalError, match=re.escape(f"movie_preference.variants.mine.prompts.{key}: ") + message):
        load_study(data, "my.yaml")


@given(st.text(st.sampled_from("{}.[]!:0ahistory_ "), max_size=25))
def test_whatever_a_template_holds_it_reads_nothing_but_its_fields(template):
    class Sealed:
        def __format__(self, spec):
            assert not spec
            return "x"

        def __getattribute__(self, name):
            raise AssertionError(name)

    try:
        names = fields_of(template)
    except ValueError:
        return
    template.format(**dict.fromkeys(names, Sealed()))


def test_every_template_has_a_table_of_fields():
    assert FIELDS.keys() == PromptSettings.model_fields.keys()


def experiment(entry, **changes):
    """The laptop study's preference experiment on a data set of one's own, as the workflow resolves it."""
    datasets = yaml.safe_load(f"datasets:\n  mine:\n    title: Mine\n{entry}")
    settings = copy.deepcopy(LAPTOP["experiments"]["movie_preference"]) | {"dataset": "mine", "variants": {"tuned": {}}}
    for key, value in changes.items():
        settings[key] = settings.get(key, {}) | value
    study = {"study": "mine", "experiments": {"books": settings}, **datasets}
    return load_study(study, "my.yaml").experiments["books"].runs["tuned"]


SOURCE = "    sources: [{path: a, format: csv, columns: {user: u, item: i}, members: {ratings: r, items: i}%s}]\n"
NAMED = SOURCE % ", item_columns: {item: i, attributes: c}"
UNNAMED = SOURCE % ""
TITLES_ONLY = {"history_attributes": False, "reasoning_fraction": 0}


def test_items_are_called_as_the_data_set_says():
    words = experiment(NAMED).items
    assert (words.noun, words.plural, words.attribute, words.attributes) == ("item", "items", "attribute", "attributes")
    named = "    items: {noun: book, attribute: category, attributes: categories}\n"
    words = experiment(NAMED + named).items
    assert (words.noun, words.plural, words.attribute, words.attributes) == ("book", "books", "category", "categories")
    words = experiment(NAMED + named, items={"noun": "story", "plural": "stories"}, pairs=TITLES_ONLY).items
    assert (words.noun, words.plural, words.attribute, words.attributes) == ("story", "stories", None, None)
    assert experiment(UNNAMED, pairs=TITLES_ONLY).items.attribute is None


def test_attributes_that_a_data_set_does_not_have_are_not_shown():
    with pytest.raises(FrugalError) as error:
        experiment(UNNAMED + "    items: {noun: book}\n")
    assert str(error.value).startswith(
        "my.yaml: experiments.books: the books of 'mine' have no attributes: set pairs.history_attributes to false and "
        "pairs.reasoning_fraction to 0, or name the column"
    )
    with pytest.raises(FrugalError, match=r"set pairs\.reasoning_fraction to 0, or name"):
        experiment(UNNAMED, pairs={"history_attributes": False})
    with pytest.raises(FrugalError, match=r"books: prompts\.instruction names the attributes of items; those of"):
        experiment(UNNAMED, pairs=TITLES_ONLY, prompts={"instruction": "By {attribute}?"})
    titles = {"format": "next_item", "history_attributes": False}
    assert experiment(UNNAMED, pairs=titles).pairs.reasoning_fraction > 0, "titles have no reasoning"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "{noun: book, attribute: genre}",
            r"mine: items\.attribute: no source names a column for 'genre': set mem",
        ),
        ("{name: book}", r"mine\.items\.name: unknown key"),
        ("{noun: ''}", r"mine\.items\.noun: "),
        ('{noun: "a\\nb"}', r"mine\.items\.noun: String should match pattern"),
        ("{attributes: genres}", r"mine\.items: attributes is the plural of attribute, which is not given"),
        ("book", r"mine\.items: "),
    ],
)
def test_faulty_words_are_refused(words, message):
    with pytest.raises(FrugalError, match=rf"my\.yaml: datasets\.{message}"):
        experiment(UNNAMED + f"    items: {words}\n")


def test_a_former_key_of_a_data_set_is_met_with_the_present_one():
    with pytest.raises(FrugalError, match=r"item_columns\.genres: unknown key; did you mean 'attributes'\?"):
        experiment(SOURCE % ", item_columns: {item: i, genres: c}")
    with pytest.raises(FrugalError, match=r"genre_separator: unknown key; did you mean 'attribute_separator'\?"):
        experiment(SOURCE % ", genre_separator: /")

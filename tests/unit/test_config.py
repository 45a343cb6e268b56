"""Configuration: what is refused, and in which words; what the shipped studies resolve to."""

import contextlib
import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frugal.config.base import plain
from frugal.config.originals import load_originals
from frugal.config.registry import load_datasets, load_models
from frugal.config.schema import json_schema
from frugal.config.study import check_names, dump_yaml, load_study, read_study, resolve
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.kinds import BASE, PREFERENCE, RECOMMENDATION
from frugal.run.gpus import resolve_gpus
from frugal.run.outputs import load_run

SHIPPED = ["config.yaml", "workstation.yaml", "full.yaml", "smoke.yaml"]
VALID = read_yaml("config/config.yaml")


def changed(path, value):
    """The laptop study with the key at ``path`` set to ``value``, or removed where it is `REMOVE`."""
    data = copy.deepcopy(VALID)
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[key]
    if value is REMOVE:
        del place[last]
    else:
        place[last] = value
    return data


REMOVE = object()
MP, B4 = "experiments.movie_preference", "experiments.bert4rec"
BROKEN = [
    ("experiment", {}, r"experiment: unknown key; did you mean 'experiments'\?"),
    ("study", REMOVE, r"study: this key is required"),
    ("study", "My Study", r"study: String should match pattern"),
    ("study", 7, r"study: must be a valid string, got 7"),
    ("local_paths", ["a"], r"local_paths: must be a valid dictionary, got \['a'\]"),
    ("experiments", REMOVE, r"experiments: this key is required"),
    ("experiments", {}, r"experiments: Dictionary should have at least 1 item"),
    ("experiments", ["a"], r"experiments: must be a valid dictionary, got \['a'\]"),
    (MP, 5, r"movie_preference: expected keys and values, got 5"),
    ("experiments.report", {}, r"experiments.report: 'report' is a target or folder of the workflow; give the"),
    ("experiments.all", {}, r"experiments.all: 'all' is a target"),
    ("experiments.data", {}, r"experiments.data: 'data' is a target"),
    ("experiments.machine", {}, r"experiments.machine: 'machine' is a target or folder"),
    ("experiments.", {}, r"experiments.: an experiment's name is made of a-z, 0-9, _ and -"),
    ("experiments.my books", {}, r"experiments.my books: an experiment's name is made of a-z"),
    ("experiments.a/b", {}, r"experiments.a/b: an experiment's name is made of a-z"),
    ("experiments.Climate", {}, r"experiments.Climate: an experiment's name is made of a-z"),
    ("experiments." + "x" * 81, {}, r"at most 80 characters"),
    ("experiments.books", {"title": "Books"}, r"experiments.books.kind: this key is required; kinds: preference, reco"),
    (
        f"{MP}.kind",
        "preferences",
        r"movie_preference.kind: there is no kind 'preferences'; did you mean 'preference'\?",
    ),
    (f"{MP}.kind", "ranking", r"movie_preference.kind: there is no kind 'ranking'; kinds: preference, recommendation,"),
    (f"{MP}.kind", ["preference"], r"movie_preference.kind: there is no kind \['preference'\]"),
    (f"{MP}.title", REMOVE, r"movie_preference.title: this key is required"),
    (f"{MP}.title", "", r"movie_preference.title: String should have at least 1 character"),
    (f"{MP}.variants", {"x": {"kind": "recommendation"}}, r"variants.x.kind: must be 'preference'"),
    (f"{MP}.variants", {"x": {"title": "X"}}, r"variants.x.title: unknown key"),
    (
        f"{MP}.reproduces",
        "bert4rec",
        r"reproduces: 'bert4rec' is of the kind 'recommendation', this experiment of 'pref",
    ),
    (f"{MP}.reproduces", "bert4", r"reproduces: config/originals.yaml has no 'bert4'; did you mean 'bert4rec'\?"),
    (f"{MP}.script", "train.py", r"movie_preference.script: there is no file 'train.py'; give its path from the proj"),
    (f"{MP}.script", "../train.py", r"movie_preference.script: '../train.py' lies outside the project's folder"),
    (f"{MP}.script", "/etc/passwd", r"movie_preference.script: '/etc/passwd' lies outside the project's folder"),
    (f"{MP}.environment", "envs", r"movie_preference.environment: there is no file 'envs'"),
    (f"{MP}.dataset", REMOVE, r"movie_preference.dataset: this key is required"),
    (f"{MP}.dataset", 3, r"movie_preference.dataset: must be a valid string, got 3"),
    (
        f"{MP}.backend",
        "tensorflow",
        r"movie_preference.backend: must be 'transformers' or 'unsloth', got 'tensorflow'",
    ),
    (
        f"{MP}.backend",
        "unsloth",
        r"movie_preference: backend 'unsloth' needs a GPU: set training.gpus to 1, or",
    ),
    (
        f"{MP}.variants",
        {"fast": {"backend": "unsloth", "training": {"gpus": 2}}},
        r"backend 'unsloth' trains on one GPU: set training.gpus and training.nodes to 1, or",
    ),
    (
        f"{MP}.variants",
        {"fast": {"backend": "unsloth", "training": {"gpus": 1, "gradient_checkpointing": "selective"}}},
        r"backend 'unsloth' recomputes in its own way: set training.gradient_checkpointing to true or false, or",
    ),
    (
        f"{MP}.training.gradient_checkpointing",
        "some",
        r"training.gradient_checkpointing: must be False, True or 'selective', got 'some'",
    ),
    (f"{MP}.training.nodes", 0, r"training.nodes: must be greater than or equal to 1, got 0"),
    (f"{MP}.seed", -1, r"movie_preference.seed: must be greater than or equal to 0, got -1"),
    (f"{MP}.learning_rate", 1, r"movie_preference.learning_rate: unknown key"),
    (f"{MP}.split.test_users", 0, r"split.test_users: must be greater than 0, got 0"),
    (
        f"{MP}.split.test_users",
        0.9,
        r"movie_preference.split: validation_users \+ test_users must leave at least 5 %",
    ),
    (f"{MP}.split.test_user", 0.1, r"split.test_user: unknown key; did you mean 'test_users'\?"),
    (f"{MP}.pairs.format", "pairs", r"pairs.format: must be 'contrastive' or 'next_item', got 'pairs'"),
    (f"{MP}.pairs.answer_position", "always_b", r"pairs.answer_position: must be 'random' or 'always_a'"),
    (f"{MP}.pairs.history_length", 0, r"pairs.history_length: must be greater than or equal to 1, got 0"),
    (f"{MP}.pairs.history_length", 2.5, r"pairs.history_length: must be a valid integer"),
    (f"{MP}.pairs.hard_fraction", 1.5, r"pairs.hard_fraction: must be less than or equal to 1, got 1.5"),
    (f"{MP}.pairs.history_genres", True, r"pairs.history_genres: unknown key; did you mean 'history_attributes'\?"),
    (f"{MP}.pairs.train_examples", "many", r"pairs.train_examples: must be a valid integer.*got 'many'"),
    (f"{MP}.model.quantization", "int3", r"model.quantization: must be 'none', 'nf4' or 'int8', got 'int3'"),
    (f"{MP}.model.load_in_4bit", True, r"model.load_in_4bit: unknown key; known keys here: .*quantization"),
    (f"{MP}.lora.rank", 8, r"lora.rank: unknown key; known keys here: .*\br\b"),
    (f"{MP}.lora.alpha", 8, r"lora.alpha: unknown key; did you mean 'lora_alpha'\?"),
    (f"{MP}.lora.r", 0, r"lora.r: must be greater than or equal to 1, got 0"),
    (f"{MP}.lora.lora_dropout", 1.0, r"lora.lora_dropout: must be less than 1, got 1.0"),
    (f"{MP}.lora.target_modules", [], r"lora.target_modules: must be a list of names of layers.*got \[\]"),
    (f"{MP}.lora.target_modules", "all", r"lora.target_modules: must be .*, or 'all-linear', got 'all'"),
    (f"{MP}.lora.target_modules", ["(a+)+$"], r"lora.target_modules: must be a list of names of layers.*a\+"),
    (f"{MP}.lora.target_modules", ["q_proj", 3], r"lora.target_modules: must be .*got \['q_proj', 3\]"),
    (
        f"{MP}.lora.target_modules",
        ["q_proj", "q_proj"],
        r"movie_preference.lora.target_modules: names q_proj twice",
    ),
    (f"{MP}.training.learning_rate", -1, r"training.learning_rate: must be greater than 0, got -1"),
    (f"{MP}.training.learning_rate", "fast", r"training.learning_rate: must be a valid number.*got 'fast'"),
    (
        f"{MP}.training.batch_size",
        8,
        r"training.batch_size: unknown key; known keys here: .*per_device_train_batch_size",
    ),
    (
        f"{MP}.training.optim",
        "adam",
        r"training.optim: must be 'adamw_torch', 'adamw_8bit' or 'paged_adamw_8bit'",
    ),
    (f"{MP}.training.gpus", -1, r"training.gpus: must be a number from 0 to 64, or 'auto', got -1"),
    (
        f"{MP}.training.report_to",
        ["mlflo"],
        r"training.report_to.0: must be 'mlflow', 'tensorboard' or 'wandb'",
    ),
    (f"{MP}.training", None, r"movie_preference.training: "),
    (f"{MP}.evaluation.batch_size", 0, r"evaluation.batch_size: must be greater than or equal to 1, got 0"),
    (
        f"{MP}.evaluation.bootstrap",
        10,
        r"evaluation.bootstrap: unknown key; did you mean 'bootstrap_samples'\?",
    ),
    (f"{MP}.variants", {}, r"movie_preference.variants: Dictionary should have at least 1 item"),
    (f"{MP}.variants", {"base": {}}, r"variants.base: a variant's name is made of .*'base', .* are taken"),
    (f"{MP}.variants", {"baseline_x": {}}, r"variants.baseline_x: a variant's name is made of .*are taken"),
    (
        f"{MP}.variants",
        {"fast": {"model": {"quantization": "int8"}, "training": {"gpus": 1}}},
        r"quantization 'int8' runs on a CPU: set it to 'nf4' or 'none', or training.gpus to 0",
    ),
    (
        f"{MP}.variants",
        {"fast": {"model": {"quantization": "int8"}, "lora": {"use_dora": True}}},
        r"quantization 'int8' has no DoRA: set lora.use_dora to false, or quantization to 'none'",
    ),
    (f"{MP}.model.compute_dtype", "float16", r"movie_preference: compute_dtype 'float16' needs a GPU"),
    (f"{MP}.training.report_to", ["wandb"], r"training.report_to: wandb is not installed; install it"),
    (f"{MP}.variants", {"Tuned!": {}}, r"variants.Tuned!: a variant's name is made of a-z"),
    (f"{MP}.variants", {"x": {"lora": {"rr": 1}}}, r"movie_preference.variants.x.lora.rr: unknown key"),
    (
        f"{MP}.variants",
        {"x": {"lora": 5}},
        r"movie_preference.variants.x.lora: expected keys and values, got 5",
    ),
    (f"{MP}.variants", {"x": None}, r"movie_preference.variants.x: "),
    (
        f"{MP}.variants",
        {"x": {"pairs": {"format": "next_item", "answer_position": "always_a"}}},
        r"movie_preference.variants.x.pairs: answer_position 'always_a' has no meaning with format 'next_item'",
    ),
    (f"{B4}.seeds", [], r"bert4rec.seeds: List should have at least 1 item"),
    (f"{B4}.seeds", [1, 1], r"bert4rec.seeds: must be different whole numbers"),
    (f"{B4}.data.split", "random", r"data.split: must be 'leave_one_out', 'global_time' or 'files', got 'random'"),
    (f"{B4}.data.fraction", 0, r"data.fraction: must be greater than 0, got 0"),
    (f"{B4}.model.architecture", "gru4rec", r"model.architecture: must be 'sasrec', 'ssept' or 'bert4rec'"),
    (
        f"{B4}.model.num_attention_heads",
        3,
        r"bert4rec.model: num_attention_heads 3 does not cut the width 64 into even",
    ),
    (f"{B4}.model.hidden_dropout", 0.1, r"model.hidden_dropout: unknown key; did you mean 'hidden_dropout_prob'\?"),
    (f"{B4}.training.precision", "float16", r"bert4rec.training: precision 'float16' needs a GPU"),
    (f"{B4}.training.report_to", ["wandb"], r"training.report_to: wandb is not installed"),
    (f"{B4}.loss", {"name": "bpr"}, r"loss.name: must be 'cross_entropy', .*'gbce', got 'bpr'"),
    (f"{B4}.evaluation.cutoffs", [5], r"evaluation.cutoffs: must be different whole numbers above 0, 10 among them"),
    (f"{B4}.adapter", {"method": "lora"}, r"bert4rec: adapter 'lora' needs a trained backbone: set warm_start.variant"),
    (f"{B4}.warm_start", {}, r"bert4rec.warm_start: give either 'variant' or 'path'"),
    (
        f"{B4}.variants",
        {"x": {"adapter": {"method": "ilora", "r": 6, "experts": 4}}},
        r"variants.x.adapter: r 6 cannot be cut into 4 experts",
    ),
    (
        f"{B4}.variants",
        {"x": {"warm_start": {"variant": "y"}}},
        r"variants.x.warm_start.variant: there is no variant 'y'; there are: x",
    ),
    (
        f"{B4}.variants",
        {"x": {"warm_start": {"variant": "y"}}, "y": {"warm_start": {"variant": "x"}}},
        r"variants.x.warm_start.variant: begins with itself: x -> y -> x",
    ),
    (
        f"{B4}.variants",
        {"x": {"seeds": [4], "warm_start": {"variant": "y"}}, "y": {}},
        r"variants.x.warm_start.variant: 'y' is not trained with all of the seeds of 'x'",
    ),
    (
        f"{B4}.variants",
        {
            "x": {"warm_start": {"variant": "y"}, "adapter": {"method": "lora"}},
            "y": {"warm_start": {"variant": "z"}, "adapter": {"method": "lora"}},
            "z": {},
        },
        r"variants.x.warm_start.variant: 'y' is an adapter; name a whole model",
    ),
    (f"{B4}.efficiency.modes", ["int8"], r"efficiency.modes.0: must be 'float32', 'bfloat16'"),
    (f"{B4}.efficiency.sizes", {"x": {"hidden": 2}}, r"efficiency.sizes.x.hidden: unknown key"),
    (
        f"{B4}.variants",
        {"x": {"warm_start": {"experiment": "books", "variant": "y"}}},
        r"variants.x.warm_start.experiment: there is no experiment 'books'; there are: movie_preference, ssept",
    ),
    (
        f"{B4}.variants",
        {"x": {"warm_start": {"experiment": "wikitext", "variant": "tuned"}}},
        r"warm_start.experiment: 'wikitext' is of the kind 'language_modeling'; weights come from an experiment of",
    ),
    (
        f"{B4}.variants",
        {"x": {"warm_start": {"experiment": "ssept", "variant": "y"}}},
        r"variants.x.warm_start.variant: there is no variant 'y'; there are: ssept",
    ),
    (
        f"{B4}.warm_start",
        {"experiment": "ssept", "path": "model"},
        r"bert4rec.warm_start: 'experiment' needs 'variant'",
    ),
]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    BROKEN,
    ids=[f"{path}={'removed' if value is REMOVE else repr(value)[:25]}" for path, value, _ in BROKEN],
)
def test_broken_configurations(path, value, message):
    with pytest.raises(FrugalError) as error:
        load_study(changed(path, value), "my.yaml")
    assert re.search(message, str(error.value)), str(error.value)
    assert all(line.startswith("my.yaml: ") for line in str(error.value).splitlines())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (f"{MP}.base_model", "lama-3-8b", r"preference.base_model: 'lama-3-8b' is not known; did you mean 'llama-3-"),
        (f"{MP}.dataset", "films", r"^my.yaml: experiments.movie_preference.dataset: 'films' is not known; known: "),
        (f"{MP}.variants", {"x": {"dataset": "movielens-2m"}}, r"variants.x.dataset: 'movielens-2m' is not known"),
        (f"{B4}.dataset", "climate-chapters", r"bert4rec.dataset: 'climate-chapters' does not hold interactions"),
        ("local_paths", {"movielens": "/x"}, r"my.yaml: local_paths.movielens: no data set or model"),
    ],
)
def test_names_that_no_table_has(path, value, message):
    with pytest.raises(FrugalError) as error:
        check_names(load_study(changed(path, value), "my.yaml"), "my.yaml")
    assert re.search(message, str(error.value)), str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_all_faults_are_told_at_once():
    data = changed(f"{MP}.lora.r", 0)
    data["experiments"]["movie_preference"]["pairs"]["hard_fraction"] = 2
    with pytest.raises(FrugalError) as error:
        load_study(data, "my.yaml")
    assert len(str(error.value).splitlines()) == 2


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([p for p, _, _ in BROKEN if "." in p]),
)
def test_any_value_anywhere_is_accepted_or_explained(value, path):
    data = changed("study", "laptop")
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    with contextlib.suppress(FrugalError):  # and nothing else
        load_study(data, "my.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: [", "line 1"),
        ("study: a\nstudy: b", "line 2: not valid YAML: the key 'study' is given twice"),
        ("- a", "expected keys and values, got \\['a'\\]"),
        ("", "expected keys and values, got nothing"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(FrugalError, match=f"my.yaml.*{message}"):
        read_yaml(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(FrugalError, match=r"none.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"study: caf\xe9")
    with pytest.raises(FrugalError, match=r"latin.yaml: not UTF-8 at byte 10"):
        read_yaml(tmp_path / "latin.yaml")


@pytest.mark.parametrize("file", SHIPPED)
def test_shipped_studies_are_valid_and_name_what_exists(file):
    study = read_study(f"config/{file}")
    datasets, models = load_datasets("config/datasets.yaml"), load_models("config/models.yaml")
    assert list(study.experiments) == list(load_originals())
    for name, experiment in study.experiments.items():
        assert experiment.settings.reproduces == name
        for run in (experiment.shared, *experiment.runs.values()):
            assert run.dataset in datasets
            assert not experiment.kind.has_base_model or run.base_model in models


def test_full_study_has_the_originals_settings():
    run = resolve(read_yaml("config/full.yaml"), "movie_preference", "tuned", "full.yaml")
    assert (run.lora.r, run.lora.lora_alpha, run.lora.lora_dropout, len(run.lora.target_modules)) == (
        16,
        16,
        0,
        7,
    )
    training = run.training
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 8  # the original: 1 x 8
    assert (training.learning_rate, training.optim, training.warmup_steps) == (2e-4, "adamw_8bit", 5)
    assert (training.num_train_epochs, training.save_steps, run.model.max_length) == (1, 100, 2048)
    assert run.pairs.train_examples == 6040
    assert run.pairs.train_examples // 8 == 755


def test_the_workstation_study_needs_one_gpu_and_no_account():
    study = read_study("config/workstation.yaml")
    for experiment in study.experiments.values():
        for run in experiment.runs.values():
            assert run.training.gpus == 1
            assert not experiment.kind.has_base_model or not study.models[run.base_model].gated


def test_a_variant_changes_only_what_it_states():
    base = resolve(VALID, "movie_preference", BASE, "f").model_dump()
    always = resolve(VALID, "movie_preference", "always_a", "f").model_dump()
    assert always["pairs"].pop("answer_position") == "always_a"
    assert base["pairs"].pop("answer_position") == "random"
    for key in ("train_examples", "reasoning_fraction"):
        assert base["pairs"].pop(key) != always["pairs"].pop(key)
    assert base == always


def test_numbers_that_yaml_takes_for_text():
    data = changed(f"{MP}.training.learning_rate", yaml.safe_load("2e-4"))
    assert resolve(data, "movie_preference", BASE, "f").training.learning_rate == 2e-4


def test_resolved_configuration_reads_back(tmp_path):
    run = resolve(VALID, "movie_preference", "always_a", "f")
    (tmp_path / "config.yaml").write_text(dump_yaml(plain(run)), encoding="utf-8")
    assert load_run(tmp_path / "config.yaml", PREFERENCE) == resolve_gpus(run)
    with pytest.raises(FrugalError, match=r"config.yaml: kind: not the settings of a run of the kind 'recommendation'"):
        load_run(tmp_path / "config.yaml", RECOMMENDATION)


def test_each_stage_reads_a_valid_part_of_its_run():
    experiments = [one for file in SHIPPED for one in read_study(f"config/{file}").experiments.values()]
    for experiment in experiments:
        run = experiment.shared
        for stage, keys in experiment.kind.stages.items():
            part = plain(run, keys)
            assert set(part) == {"kind", *(key.partition(".")[0] for key in keys)}, stage
            read_back = type(run).model_validate(part)
            assert plain(read_back, keys) == part, stage


def test_schema_is_up_to_date():
    stored = json.loads(Path("config/schema.json").read_text(encoding="utf-8"))
    assert stored == json_schema(), "the configuration models changed: run `make schema`"


OWN = {
    "datasets": {"my-ratings": {"title": "Mine", "sources": [{"path": "a.csv", "format": "sequences"}]}},
    "models": {"my-model": {"title": "Mine", "sources": [{"path": "/models/mine"}]}},
}


def test_a_study_brings_data_sets_and_models_of_its_own():
    study = load_study({**VALID, **OWN}, "mine.yaml")
    assert study.datasets["my-ratings"].sources[0].path == "a.csv"
    assert study.models["my-model"].title == "Mine"
    assert {"movielens-100k", "climate-chapters"} <= study.datasets.keys()
    assert "smollm2-135m-instruct" in study.models


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"datasets": {"movielens-1m": OWN["datasets"]["my-ratings"]}},
            "datasets.movielens-1m: config/datasets.yaml has",
        ),
        ({"datasets": {"llama-3-8b": OWN["datasets"]["my-ratings"]}}, "datasets.llama-3-8b: config/models.yaml has"),
        ({"models": {"movielens-1m": OWN["models"]["my-model"]}}, "models.movielens-1m: config/datasets.yaml has"),
        (
            {**OWN, "models": {"my-ratings": OWN["models"]["my-model"]}},
            "models.my-ratings: a data set of this study has",
        ),
        ({"datasets": {"x": {"title": "X", "source": []}}}, "datasets.x.source: unknown key; did you mean 'sources'?"),
        (
            {"datasets": {"x": {"title": "X", "sources": [{"hub": "a/b"}]}}},
            "datasets.x.sources.0: needs exactly one of url",
        ),
        ({"datasets": {"a/b": OWN["datasets"]["my-ratings"]}}, "datasets.a/b: a name is made of letters, digits"),
        ({"datasets": ["x"]}, "datasets: must be a valid dictionary"),
    ],
)
def test_own_data_sets_and_models_that_are_refused(own, words):
    with pytest.raises(FrugalError, match=re.escape(f"mine.yaml: {words}")):
        load_study({**VALID, **own}, "mine.yaml")

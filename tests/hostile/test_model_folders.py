"""Broken and hostile folders of models, adapters and checkpoints: nothing of them is run, and each fault is named."""

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from frugal.config.llm import ModelSettings
from frugal.config.recommendation import AdapterSettings
from frugal.config.registry import load_models
from frugal.files import write_json
from frugal.llm.conversion import prepare_model
from frugal.llm.loading import load_adapter, load_base_model, load_tokenizer
from frugal.recsys.adapters import add_adapter, load_trained, save_trained
from frugal.recsys.modeling import SASRec
from frugal.run.checkpoints import Seal, last_good_checkpoint

from .conftest import MARKER, examples
from .mutations import as_json, broken_bytes, changed, edits

BASE = ModelSettings(quantization="none", compute_dtype="float32", max_length=64)
ADAPTERS = {
    "lora": AdapterSettings(method="lora", r=2, lora_alpha=2, target_modules=["up"]),
    "ilora": AdapterSettings(method="ilora", r=2, lora_alpha=2, experts=2, target_modules=["up"]),
}
LOADERS = {
    "recommender": lambda root: load_trained(root / "recommender", AdapterSettings()),
    "lora": lambda root: load_trained(root / "lora", ADAPTERS["lora"], root / "recommender"),
    "ilora": lambda root: load_trained(root / "ilora", ADAPTERS["ilora"], root / "recommender"),
    "llama": lambda root: (load_base_model(root / "llama", BASE, "cpu"), load_tokenizer(root / "llama")),
    "adapter": lambda root: load_adapter(load_base_model(root / "llama", BASE, "cpu"), root / "adapter"),
    "checkpoints": lambda root: last_good_checkpoint(root / "checkpoints"),
}
NEEDED = {"lora": "recommender", "ilora": "recommender", "adapter": "llama"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Folders as the workflow makes them, under the names of `LOADERS`."""
    root = tmp_path_factory.mktemp("folders")
    shape = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    recommender = SASRec(SASRec.config_class(item_count=5, max_position_embeddings=4, **shape))
    recommender.save_pretrained(root / "recommender")
    for method, settings in ADAPTERS.items():
        model = load_trained(root / "recommender", AdapterSettings())
        save_trained(add_adapter(model, settings, 0), settings, root / method)
    prepare_model(load_models("config/models.yaml")["tiny-random-llama"], None, root / "llama")
    llama = load_base_model(root / "llama", BASE, "cpu")
    adapter = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    get_peft_model(llama, adapter).save_pretrained(root / "adapter")
    checkpoint = root / "checkpoints/checkpoint-2"
    write_json(checkpoint / "trainer_state.json", {"best_model_checkpoint": None, "global_step": 2})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"a": torch.ones(2)}, checkpoint / name)
    arguments = SimpleNamespace(world_size=1, output_dir=root / "checkpoints")
    Seal().on_save(arguments, SimpleNamespace(is_world_process_zero=True, global_step=2), None)
    return root


@st.composite
def wrong_folders(draw, root: Path, names: list[str]):
    """What is loaded, the file that is broken, and its bytes."""
    name = draw(st.sampled_from(names))
    file = draw(st.sampled_from(sorted(path for path in (root / name).rglob("*") if path.is_file())))
    whole, place = file.read_bytes(), str(file.relative_to(root))
    values = json.loads(whole) if file.suffix == ".json" else None
    if not values or draw(st.booleans()):
        return name, place, draw(broken_bytes(whole))
    if "model" in values:  # of the tokenizer all but its long list of letters
        values["model"]["vocab"] = dict(list(values["model"]["vocab"].items())[:3])
    return name, place, as_json(changed(values, draw(edits(values)))).encode()


# Keys by which a folder asks for code, for files elsewhere, or for more memory than there is.
DEMANDS = {
    "own code": {"auto_map": {"AutoConfig": "planted.Config", "AutoModelForCausalLM": "planted.Model"}},
    "code of a new kind": {"model_type": "unheard-of", "auto_map": {"AutoConfig": "planted.Config"}},
    "code elsewhere": {"model_type": "unheard-of", "auto_map": {"AutoConfig": "someone/else--planted.Config"}},
    "own tokenizer": {"tokenizer_class": "PlantedTokenizer", "auto_map": {"AutoTokenizer": ["planted.T", "planted.T"]}},
    "own pipeline": {"custom_pipelines": {"x": {"impl": "planted.Pipeline"}}},
    "template": {"chat_template": f"{{{{ cycler.__init__.__globals__.os.system('touch {MARKER}') }}}}"},
    "own module": {"auto_mapping": {"base_model_class": "Model", "parent_library": "planted"}},
    "another base": {"base_model_name_or_path": "../../../elsewhere"},
    "XLORA": {"peft_type": "XLORA"},
    "prompts": {"peft_type": "PROMPT_TUNING"},
    "layers": {"layer_replication": [[0, 10**9]]},
    "pattern": {"target_modules": "(a+)+$"},
    "quantised": {"quantization_config": {"quant_method": "gptq"}},
    "letters": {"vocab_size": 10**12},
    "no heads": {"num_attention_heads": 0},
    "negative": {"hidden_size": -8},
    "items": {"item_count": 10**12},
    "class": {"architectures": ["Planted"]},
    "type": {"dtype": "planted"},
    "rope": {"rope_scaling": {"rope_type": "planted"}},
    "activation": {"hidden_act": "planted"},
}
PLANTED = (
    f"import os\nos.system('touch {MARKER}')\nclass Config: pass\nModel = T = Pipeline = PlantedTokenizer = Config\n"
)


def load_changed(sandbox, root: Path, name: str, file: str, content: bytes) -> str | None:
    """What is said of the folder ``name`` where ``file`` has this content, and code lies beside it."""
    inputs = sandbox.inputs / "made"
    shutil.copytree(root / name, inputs / name)
    if name in NEEDED:
        (inputs / NEEDED[name]).symlink_to(root / NEEDED[name])
    (inputs / file).write_bytes(content)
    (inputs / name / "planted.py").write_text(PLANTED)
    message = sandbox.ask(LOADERS[name], inputs)
    assert message is None or str(inputs) in message, message
    return message


@pytest.fixture(autouse=True)
def careless_user(monkeypatch):
    """Says yes to whatever a library asks."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


def test_broken_folders(sandboxes, folders):
    outcomes = Counter()

    @examples(100)
    @given(wrong_folders(folders, sorted(LOADERS)))
    def check(wrong):
        with sandboxes() as sandbox:
            outcomes["refused" if load_changed(sandbox, folders, *wrong) else "good"] += 1

    check()
    assert outcomes["refused"] >= 30, outcomes


@pytest.mark.parametrize("demand", DEMANDS)
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("llama", "config.json"),
        ("llama", "tokenizer_config.json"),
        ("adapter", "adapter_config.json"),
        ("lora", "adapter_config.json"),
        ("recommender", "config.json"),
    ],
)
def test_folders_that_demand_too_much(sandboxes, folders, name, file, demand):
    values = json.loads((folders / name / file).read_bytes())
    with sandboxes() as sandbox:
        load_changed(sandbox, folders, name, f"{name}/{file}", as_json(values | DEMANDS[demand]).encode())

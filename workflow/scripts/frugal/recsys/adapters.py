"""Training all weights of a recommender or an adapter on it; saving what was trained, and loading it again."""

from pathlib import Path

import torch
from torch import nn

from frugal.config.recommendation import AdapterSettings
from frugal.errors import FrugalError, blaming
from frugal.files import atomic_path, read_json, write_json
from frugal.recsys.ilora import CONFIG_FILE, add_ilora, load_ilora, save_ilora
from frugal.recsys.modeling import Recommender, load_recommender


def add_adapter(model: Recommender, settings: AdapterSettings, seed: int) -> nn.Module:
    """``model`` itself, all of it trainable, or frozen with an adapter whose weights depend on ``seed`` alone.

    Call it while the model is on the CPU; a model with an adapter is changed in place.
    """
    if settings.method == "none":
        return model
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        if settings.method == "ilora":
            return add_ilora(model, settings.r, settings.lora_alpha, settings.experts, settings.target_modules)
        from peft import LoraConfig, get_peft_model  # takes two seconds, so only where there is an adapter

        config = LoraConfig(r=settings.r, lora_alpha=settings.lora_alpha, target_modules=settings.target_modules)
        return _leave_casting_to_autocast(get_peft_model(model, config))


def unwrap(model: nn.Module) -> Recommender:
    """The recommender itself, adapter layers included: the one with `score`."""
    return model if isinstance(model, Recommender) else model.get_base_model()


def save_trained(model: nn.Module, settings: AdapterSettings, folder: Path) -> None:
    """Write the trained part: the whole model, or the adapter without its backbone; atomically."""
    if settings.method == "ilora":
        save_ilora(model, folder)
        return
    with atomic_path(folder) as temporary:
        if settings.method == "none":
            model.save_pretrained(temporary)
            return
        # "auto" would look the backbone up on the Hub.
        model.save_pretrained(temporary, save_embedding_layers=False)
        (temporary / "README.md").unlink()  # a template
        config = read_json(temporary / CONFIG_FILE)
        # PEFT keeps a set, in another order each time.
        write_json(temporary / CONFIG_FILE, {**config, "target_modules": sorted(config["target_modules"])})


def load_trained(folder: Path, settings: AdapterSettings, backbone: Path | None = None) -> Recommender:
    """What `save_trained` wrote, ready for evaluation.

    Args:
        backbone: folder of the model that the adapter was trained on; None without an adapter.

    Raises:
        FrugalError: a folder holds something else, or the adapter belongs to another model.
    """
    if settings.method == "none":
        return load_recommender(folder).eval()
    if backbone is None:
        raise FrugalError(f"{folder}: an adapter needs its backbone; give the folder of the model it was trained on")
    model = load_recommender(backbone)
    if settings.method == "ilora":
        return load_ilora(model, folder).eval()
    if not (Path(folder) / "adapter_model.safetensors").is_file():  # PEFT would look on the Hub
        raise FrugalError(f"{folder}: no adapter_model.safetensors; train the variant first")
    from peft import PeftModel

    with blaming(folder, f"holds no adapter that fits {backbone}"):
        adapted = PeftModel.from_pretrained(model, folder, torch_device="cpu")
    return unwrap(_leave_casting_to_autocast(adapted)).eval()


def trainable_counts(model: nn.Module) -> dict[str, int | float]:
    """How many weights are trained, and which share of all weights, the adapter's included, that is."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trainable = sum(count for count, trained in counts if trained)
    return {"trainable_parameters": trainable, "trainable_share": trainable / sum(count for count, _ in counts)}


def _leave_casting_to_autocast(model: nn.Module) -> nn.Module:
    """PEFT casts the input of an adapter to float32, only for autocast to cast it back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
    return model

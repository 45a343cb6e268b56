"""Published trainings of adapters that state hardware and speed; read from their authors' pages, not rerun."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from frugal.config.devices import load_devices
from frugal.config.language_modeling import LanguageModelingRun
from frugal.llm.memory.shapes import SHAPES
from frugal.planning.language_models import Amounts, training_work
from frugal.planning.utilisation import default_share
from frugal.planning.work import seconds


@dataclass(frozen=True)
class Published:
    """One published training.

    Attributes:
        model: a name of `SHAPES`; Llama 3.1 8B has the shape of Llama 3 8B.
        rows, tokens: of all of its steps.
        seconds: as published, or tokens by the published tokens per second.
    """

    source: str
    name: str
    device: str
    model: str
    settings: dict[str, Any]
    rows: int
    tokens: int
    seconds: float

    def planned_seconds(self) -> float:
        """The plan's time of the loop with the default share."""
        device = load_devices()[self.device]
        training = {"gpus": 1, "gradient_accumulation_steps": 1, **self.settings}
        model = {"quantization": training.pop("quantization"), "compute_dtype": "bfloat16"}
        settings = {"dataset": "d", "base_model": self.model, "model": model, "training": training}
        run = LanguageModelingRun.model_validate(settings)
        shape = SimpleNamespace(**SHAPES[self.model], model_type="llama")
        counts = Amounts(self.rows, self.tokens, 1.0, 0, 0, 0, 0, 0, 0)
        work = training_work(shape, run, counts, "bfloat16")
        return seconds(work, device, 1, default_share("language_modeling", 0, device))[0]


def packed(name: str, device: str, model: str, quantization: str, length: int, tokens_per_second: float) -> Published:
    """torchtune: two packed rows at a time, activation checkpointing, compiled; here for 100 steps."""
    tokens = 100 * 2 * length
    settings = {"per_device_train_batch_size": 2, "gradient_checkpointing": True, "quantization": quantization}
    source = "torchtune's README"
    return Published(source, name, device, model, settings, 200, tokens, tokens / tokens_per_second)


PEFT = {"per_device_train_batch_size": 4, "quantization": "none"}
LITGPT = {"per_device_train_batch_size": 1, "quantization": "none"}
#: Those whose settings are all known.
KNOWN = [
    packed("Llama 3.1 8B, LoRA", "rtx-4090", "llama-3-8b", "none", 2048, 3083),
    packed("Llama 3.1 8B, QLoRA", "rtx-4090", "llama-3-8b", "nf4", 2048, 2413),
    packed("Llama 3.2 3B, LoRA", "a100", "llama-3.2-3b", "none", 4096, 8210),
    packed("Llama 3.2 3B, QLoRA", "a100", "llama-3.2-3b", "nf4", 4096, 8035),
    Published("PEFT", "Llama 3.2 3B, LoRA r 32", "l40s", "llama-3.2-3b", PEFT, 20_000, 4_198_051, 942),
]
#: litgpt states no tokens: two epochs of 2,000 rows of Alpaca, taken for 120 tokens each.
GUESSED = [
    Published("litgpt", f"{name}, LoRA", "a10g", model, LITGPT, 4_000, 480_000, 60 * minutes)
    for name, model, minutes in (
        ("Llama 3.2 1B", "llama-3.2-1b", 4.17),
        ("Llama 3.2 3B", "llama-3.2-3b", 8.31),
        ("Llama 3.1 8B", "llama-3-8b", 13.36),
    )
]

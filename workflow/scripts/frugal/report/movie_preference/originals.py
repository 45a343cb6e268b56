"""What the original project states about this experiment, and what can be computed without training."""

from collections.abc import Iterable
from dataclasses import dataclass

from frugal.config.llm import PROJECTIONS


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama: hidden and MLP width, layers, and width of keys and values."""

    hidden: int
    intermediate: int
    layers: int
    key_value: int


#: Llama 3 8B, from its published configuration: 32 heads of 128, 8 of them for keys and values.
LLAMA_3_8B = Shape(hidden=4096, intermediate=14336, layers=32, key_value=1024)


@dataclass(frozen=True)
class Original:
    """The original project's own statements."""

    model: str = "Llama 3 8B"
    dataset: str = "MovieLens 1M"
    examples: int = 6040
    batch_size: int = 8
    steps: int = 755
    r: int = 16
    trainable: str = "~8M"
    adapter_mb: int = 33

    @property
    def steps_computed(self) -> int:
        """One epoch in batches of `batch_size`, the last one maybe smaller."""
        return -(-self.examples // self.batch_size)

    @property
    def trainable_computed(self) -> int:
        return lora_parameters(LLAMA_3_8B, self.r)

    def adapter_mb_computed(self, bytes_each: int) -> float:
        """Size of the adapter's weights in MB of 10^6 bytes."""
        return self.trainable_computed * bytes_each / 1e6


def lora_parameters(shape: Shape, r: int, modules: Iterable[str] = PROJECTIONS) -> int:
    """Trainable weights of a LoRA adapter: r (inputs + outputs) a projection (Hu et al., 2021)."""
    sides = {
        "q_proj": (shape.hidden, shape.hidden),
        "k_proj": (shape.hidden, shape.key_value),
        "v_proj": (shape.hidden, shape.key_value),
        "o_proj": (shape.hidden, shape.hidden),
        "gate_proj": (shape.hidden, shape.intermediate),
        "up_proj": (shape.hidden, shape.intermediate),
        "down_proj": (shape.intermediate, shape.hidden),
    }
    return shape.layers * sum(r * sum(sides[module]) for module in modules)

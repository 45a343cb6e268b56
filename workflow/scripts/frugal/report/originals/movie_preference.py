"""What the original project on movie preferences states, and what can be computed without training."""

from dataclasses import dataclass

from frugal.claims.analytic import lora_adapter_mb, lora_trainable_parameters, optimizer_steps
from frugal.config.llm import PROJECTIONS

#: Its model as `frugal.llm.memory.shapes` calls it.
SHAPE = "llama-3-8b"


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
        return optimizer_steps(self.examples, self.batch_size)

    @property
    def trainable_computed(self) -> int:
        return lora_trainable_parameters(SHAPE, self.r, list(PROJECTIONS))

    def adapter_mb_computed(self, bytes_each: int) -> float:
        """Size of the adapter's weights in MB of 10^6 bytes."""
        return lora_adapter_mb(SHAPE, self.r, list(PROJECTIONS), bits=8 * bytes_each)


FACTS = Original()

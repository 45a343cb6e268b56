"""What the original WikiText project states, what follows from it by arithmetic, and published perplexities."""

from dataclasses import dataclass

from frugal.claims.analytic import lora_trainable_parameters

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass(frozen=True)
class Anchor:
    """A published perplexity on the test split of WikiText-2 raw."""

    base_model: str
    model: str
    perplexity: float
    word_perplexity: float | None = None


ANCHORS = (
    Anchor("llama-3.2-1b", "Llama 3.2 1B", 9.757, 11.576),
    Anchor("llama-3.2-3b", "Llama 3.2 3B", 7.817),
    Anchor("llama-3-8b", "Llama 3 8B", 6.14),
)
#: The data set that the anchors were measured on.
ANCHOR_DATASET = "wikitext-2-raw"


@dataclass(frozen=True)
class Original:
    """The original WikiText project's own statements."""

    model: str = "Llama 3.2 1B"
    r: int = 8
    trainable: int = 1_703_936
    share: float = 0.001377
    perplexity: tuple[float, float] = (2213.88, 2504.42)
    accuracy: tuple[float, float] = (0.4103, 0.4719)

    @property
    def trainable_computed(self) -> int:
        return lora_trainable_parameters("llama-3.2-1b", self.r, ATTENTION)

    @property
    def published(self) -> float:
        """The published perplexity of the same model."""
        return ANCHORS[0].perplexity

    @property
    def times_published(self) -> float:
        return self.perplexity[0] / self.published


FACTS = Original()

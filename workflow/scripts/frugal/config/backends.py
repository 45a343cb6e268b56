"""Backends of language models: which settings each of them accepts."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError


def uses_unsloth(run: Any) -> bool:
    """Whether a run trains by unsloth; recommenders have no backend."""
    return getattr(run, "backend", None) == "unsloth"


def unsloth(accepts: Callable[[Any], bool], otherwise: str) -> AfterValidator:
    """A check of one value for unsloth, and the error if it fails."""

    def check(value: Any) -> Any:
        if not accepts(value):
            raise ValueError(f"backend 'unsloth' {otherwise}, or backend to 'transformers'")
        return value

    return AfterValidator(check)


class Accepted(BaseModel):
    """Reads a run's attributes; its fields are the settings that a backend accepts only in part."""

    model_config = ConfigDict(from_attributes=True)


class Transformers(Accepted):
    """Runs on any device and accepts all settings."""

    backend: Literal["transformers"]


A_GPU = unsloth(lambda gpus: gpus not in (0, "auto"), "needs a GPU: set training.gpus to 1")
ONE_GPU = unsloth(lambda count: count == 1, "trains on one GPU: set training.gpus and training.nodes to 1")
OWN_CHECKPOINTING = unsloth(
    lambda value: value != "selective",
    "recomputes in its own way: set training.gradient_checkpointing to true or false",
)
DOUBLE_QUANTIZATION = unsloth(bool, "always quantises doubly: set model.double_quantization to true")
NO_DORA = unsloth(lambda use: not use, "has no DoRA: set lora.use_dora to false")
WHOLE_BLOCKS = unsloth(
    lambda packing: packing != "within_documents",
    "lets all tokens of a block see each other: set corpus.packing to 'continuous' or 'none'",
)


class UnslothModel(Accepted):
    double_quantization: Annotated[bool, DOUBLE_QUANTIZATION]


class UnslothLora(Accepted):
    use_dora: Annotated[bool, NO_DORA]


class UnslothTraining(Accepted):
    gpus: Annotated[Any, A_GPU, ONE_GPU]
    nodes: Annotated[int, ONE_GPU]
    gradient_checkpointing: Annotated[Any, OWN_CHECKPOINTING]


class UnslothCorpus(Accepted):
    packing: Annotated[str, WHOLE_BLOCKS]


class Unsloth(Accepted):
    """Faster than transformers, on one GPU."""

    backend: Literal["unsloth"]
    model: UnslothModel
    lora: UnslothLora
    training: UnslothTraining
    corpus: UnslothCorpus | None = None


BACKEND = TypeAdapter(Annotated[Transformers | Unsloth, Field(discriminator="backend")])


def check_backend(run: Any) -> None:
    """Check that a run's backend (`frugal.config.llm.AdapterRun`) accepts its settings.

    Raises:
        ValueError: it does not; the message names all faults and what to set.
    """
    try:
        BACKEND.validate_python(run)
    except ValidationError as error:
        faults = dict.fromkeys(str(fault["ctx"]["error"]) for fault in error.errors())
        raise ValueError("; ".join(faults)) from None

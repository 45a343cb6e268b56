"""Settings of `language_modeling` experiments: a language model is adapted to a corpus."""

from typing import Literal

from pydantic import Field, model_validator

from frugal.config.base import ExperimentSettings, Settings
from frugal.config.llm import AdapterRun

#: The rungs of the memory ladder, in order; each adds its change to those of the rungs before it.
RUNGS = (
    "full",
    "lora",
    "nf4",
    "double_quantization",
    "mixed_precision",
    "gradient_checkpointing",
    "optimizer_8bit",
    "chunked_loss",
)


class CorpusSettings(Settings):
    """How documents are turned into training blocks and test texts."""

    validation_documents: float = Field(
        0.1, gt=0, lt=1, description="Share of the documents; unused where the data set brings its own split."
    )
    test_documents: float = Field(
        0.2, gt=0, lt=1, description="Share of the documents; unused where the data set brings its own split."
    )
    block_length: int = Field(512, ge=16, le=131072, description="Tokens of a packed training block.")
    packing: Literal["within_documents", "continuous", "none"] = Field(
        "within_documents",
        description="Blocks are filled with several documents. 'within_documents': no token attends to another "
        "document; 'continuous': it does, as in the originals; 'none': one document a row, padded, cut into blocks.",
    )
    add_bos: bool = Field(False, description="Begin each document with the tokenizer's BOS token.")
    add_eos: bool = Field(True, description="End each document with the tokenizer's EOS token.")
    max_train_tokens: int | None = Field(None, ge=16, description="Largest number of training tokens.")
    max_validation_tokens: int = Field(
        16384, ge=16, description="Largest number of tokens for the validation loss, which is measured often."
    )
    max_test_tokens: int | None = Field(
        None,
        ge=16,
        description="Test on the first tokens of each document only, up to this number, so that all documents count.",
    )

    @model_validator(mode="after")
    def _leaves_training_documents(self):
        if self.validation_documents + self.test_documents >= 0.95:
            raise ValueError("validation_documents + test_documents must leave at least 5 % for training")
        return self


class EvaluationSettings(Settings):
    """How perplexity is measured: sums of negative log-likelihoods over windows, then the exponential."""

    context_length: int = Field(
        512, ge=2, le=131072, description="Longest window, in tokens, within the model's positions."
    )
    stride: int = Field(
        256,
        ge=1,
        description="Tokens that each window scores; earlier ones are context. Smaller is slower, "
        "and lowers the perplexity.",
    )
    add_bos: bool = Field(False, description="Put the BOS token before the text; it is context and never scored.")
    join_documents: bool = Field(
        False, description="Score one long text, as is usual for WikiText; false scores each document by itself."
    )
    batch_size: int = Field(4, ge=1, description="Windows at once; changes the speed, not the result.")
    bootstrap_samples: int = Field(2000, ge=100, le=100000)
    threads: int = Field(
        8,
        ge=1,
        le=1024,
        description="CPU threads. Two evaluations side by side take less time than one after the other.",
    )

    @model_validator(mode="after")
    def _windows_overlap_or_touch(self):
        if self.stride > self.context_length:
            raise ValueError("stride must not be larger than context_length: tokens between windows would be left out")
        return self


class PromptSettings(Settings):
    """Prompts that the untuned and the tuned model continue."""

    texts: list[str] = Field([], description="Beginnings of texts, or questions.")
    max_new_tokens: int = Field(48, ge=4, le=1024)
    temperature: float = Field(0.7, ge=0, le=2, description="0 always takes the most likely token.")
    top_p: float = Field(0.95, gt=0, le=1)
    repetition_penalty: float = Field(1.1, ge=1, le=2)


class RatingSettings(Settings):
    """Ratings of the answers by people."""

    sheets: list[str] = Field([], description="Filled rating sheets (CSV), one for each rater, for the report.")


class LadderSettings(Settings):
    """The memory ladder: what each technique saves in memory, and what it costs in time."""

    rungs: list[Literal[RUNGS]] = Field(list(RUNGS), min_length=1)
    steps: int = Field(4, ge=2, description="Optimiser steps of each rung's measurement; the first is a warm-up.")
    batch_size: int = Field(2, ge=1, description="Blocks in each step; all rungs train on the same blocks.")
    memory_budget_mb: int = Field(
        2048, ge=64, description="Limit for the search of the largest batch: of host memory, or of the GPU's."
    )
    largest_batch_limit: int = Field(64, ge=1, description="Largest batch that the search tries.")
    search: bool = Field(True, description="Search for the largest batch of each rung; false measures memory only.")


class LanguageModelingRun(AdapterRun):
    """The resolved settings of one variant; its data are texts or PDFs."""

    kind: Literal["language_modeling"] = "language_modeling"
    corpus: CorpusSettings = CorpusSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    prompts: PromptSettings = PromptSettings()
    rating: RatingSettings = RatingSettings()


class LanguageModelingExperiment(ExperimentSettings, LanguageModelingRun):
    """The experiment: the settings that all its runs share, and what each variant changes."""

    ladder: LadderSettings | None = Field(None, description="Measure the memory ladder; null leaves it out.")

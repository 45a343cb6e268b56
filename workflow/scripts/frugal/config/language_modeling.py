"""Settings of the experiments on plain text, `wikitext` and `climate`: a language model learns a corpus."""

from typing import Any, Literal

from pydantic import Field, model_validator

from frugal.config.base import Settings
from frugal.config.llm import AdapterRun

#: The rungs of the memory ladder, in order; each keeps what the rungs before it changed.
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
    """How documents become training blocks and test texts."""

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
    max_train_tokens: int | None = Field(None, ge=16, description="Train on so many tokens at most.")
    max_validation_tokens: int = Field(
        16384, ge=16, description="Measure the validation loss on so many tokens at most: it is measured often."
    )
    max_test_tokens: int | None = Field(
        None, ge=16, description="Test on the first so many tokens of each document, so that all documents count."
    )

    @model_validator(mode="after")
    def _leaves_training_documents(self):
        if self.validation_documents + self.test_documents >= 0.95:
            raise ValueError("validation_documents + test_documents must leave at least 5 % for training")
        return self


class EvaluationSettings(Settings):
    """How perplexity is measured: sums of negative log-likelihoods over windows, then the exponential."""

    context_length: int = Field(512, ge=2, le=131072, description="Longest window, in tokens.")
    stride: int = Field(
        256,
        ge=1,
        description="Tokens that each window scores anew; the others before them are context. Smaller is slower, "
        "and lowers the perplexity.",
    )
    add_bos: bool = Field(False, description="Put the BOS token before the text; it is context and never scored.")
    join_documents: bool = Field(
        False, description="Score one long text, as is usual for WikiText; false scores each document by itself."
    )
    batch_size: int = Field(4, ge=1, description="Windows at once; it changes the speed and not the result.")
    bootstrap_samples: int = Field(2000, ge=100, le=100000)
    threads: int = Field(
        8,
        ge=1,
        le=1024,
        description="CPU threads: two evaluations side by side are done sooner than one after the other.",
    )

    @model_validator(mode="after")
    def _windows_overlap_or_touch(self):
        if self.stride > self.context_length:
            raise ValueError("stride must not be larger than context_length: tokens between windows would be left out")
        return self


class PromptSettings(Settings):
    """Prompts that the untuned and the tuned model continue, side by side."""

    texts: list[str] = Field([], description="Beginnings of texts, or questions.")
    max_new_tokens: int = Field(48, ge=4, le=1024)
    temperature: float = Field(0.7, ge=0, le=2, description="0 always takes the likeliest token.")
    top_p: float = Field(0.95, gt=0, le=1)
    repetition_penalty: float = Field(1.1, ge=1, le=2)


class RatingSettings(Settings):
    """What people said of the answers."""

    sheets: list[str] = Field([], description="Filled rating sheets (CSV), one a rater; they go into the report.")


class LadderSettings(Settings):
    """The memory ladder: what each saving of memory saves, and what it costs in time."""

    rungs: list[Literal[RUNGS]] = Field(list(RUNGS), min_length=1)
    steps: int = Field(4, ge=2, description="Optimiser steps that each rung is measured for; the first warms up.")
    batch_size: int = Field(2, ge=1, description="Blocks a step; all rungs learn from the same blocks.")
    memory_budget_mb: int = Field(
        2048, ge=64, description="The largest batch is searched that stays below it: host memory, or the GPU's."
    )
    largest_batch_limit: int = Field(64, ge=1, description="The search ends here, if nothing fails before.")
    search: bool = Field(True, description="Search the largest batch of each rung; false measures memory only.")


class LanguageModelingRun(AdapterRun):
    """One variant, resolved: everything that one run of the experiment depends on; the data is texts or PDFs."""

    corpus: CorpusSettings = CorpusSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    prompts: PromptSettings = PromptSettings()
    rating: RatingSettings = RatingSettings()

    @model_validator(mode="after")
    def _unsloth_reads_whole_rows(self):
        if self.backend == "unsloth" and self.corpus.packing == "within_documents":
            raise ValueError(
                "backend 'unsloth' lets all tokens of a block see each other: set corpus.packing to 'continuous' or "
                "'none', or backend to 'transformers'"
            )
        return self


class LanguageModeling(LanguageModelingRun):
    """The experiment: the settings that all its runs share, and what each variant changes."""

    ladder: LadderSettings | None = Field(None, description="Measure the memory ladder; null leaves it out.")
    variants: dict[str, dict[str, Any]] = Field(
        {"tuned": {}}, min_length=1, description="Name of a run: the keys in which it differs from the above."
    )

"""The tables of an experiment on plain text, as they are shown."""

from frugal.report.columns import (
    ADAPTED,
    EFFECT,
    EFFECT_OVER,
    FINAL_LOSS,
    HOLM,
    MEMORY,
    MINUTES,
    PEAK_SHARE,
    PROVENANCE,
    RUN,
    SYSTEM,
    TOKENS_PER_SECOND,
    TRAINING_COST,
    WEIGHTS_TRAINED,
)
from frugal.report.contents import LADDER, RATINGS
from frugal.report.tables import Column, Layout

LAYOUTS = {
    "data": Layout(
        "Data. Documents are whole texts (articles, chapters, files); those that could not be used and those that "
        "nearly repeat another one are out. Tokens are those of the model's tokenizer.",
        (
            Column("dataset", "Corpus"),
            Column("runs", "Runs", optional=True),
            Column("kept", "Documents kept", ",d"),
            Column("skipped", "Skipped", ",d"),
            Column("near_duplicates", "Near-duplicates", ",d"),
            Column("words", "Words", ",d"),
            Column("split", "Training, validation, test documents"),
            Column("tokens_train", "Training tokens", ",d"),
            Column("tokens_test", "Test tokens", ",d"),
            Column("blocks_train", "Training blocks", ",d"),
            Column("block_length", "Block length", ",d"),
        ),
        needs=("config.yaml", "summary.json", "blocks.json"),
        keys=2,
    ),
    "perplexity": Layout(
        "Perplexity on the test documents: negative log-likelihoods summed over all scored tokens, divided by their "
        "number, or by the number of words, and only then exponentiated; bits per byte divides by the bytes of the "
        "text. Windows of the context's length advance by the stride, and each token is scored once; BOS says whether "
        "a beginning-of-sequence token stands before the text, which is never scored itself; without it the first "
        "token of a text has no context, and is not scored. 95 % intervals are over resampled documents.",
        (
            SYSTEM,
            Column("perplexity", "Perplexity", ",.2f", interval=True, best="min"),
            Column("word_perplexity", "Word perplexity", ",.2f", interval=True, best="min"),
            Column("bits_per_byte", "Bits per byte", ".3f", interval=True, best="min"),
            Column("token_accuracy", "Next-token accuracy", ".3f", interval=True, best="max"),
            Column("text", "Corpus and split", wraps=0.15),
            Column("context", "Context", ",d"),
            Column("stride", "Stride", ",d"),
            Column("bos", "BOS"),
            Column("joined", "Documents"),
            Column("tokens", "Tokens scored", ",d"),
        ),
        needs=("config.yaml", "metrics.json"),
        group="role",
        contest=("protocol",),
    ),
    "tests": Layout(
        "The tuned model against each other one on the same test documents: the other's log perplexity minus that of "
        "the tuned one, in nats a token, so that positive is better, and the ratio of the tuned model's perplexity to "
        "the other's. Paired bootstrap over documents, p values adjusted by Holm's method over all rows. A difference "
        "is found where the interval leaves out zero and the adjusted p is below 0.05. "
        f"{EFFECT_OVER.format('documents')}",
        (
            Column("second", "Compared with"),
            Column("documents", "Documents", ",d"),
            Column("difference", "Lower log perplexity by", "+.4f", interval=True),
            Column("ratio", "Ratio of perplexities", ".3f", interval=True),
            EFFECT,
            *HOLM,
            Column("verdict", "The tuned model is"),
        ),
        needs=("documents.parquet",),
        group="role",
    ),
    "training": Layout(
        "How training went. The effective batch is the batch times the accumulated ones. Losses are in nats a token.",
        (
            RUN,
            Column("per_device_train_batch_size", "Batch", ",d"),
            Column("gradient_accumulation_steps", "Accumulated batches", ",d"),
            Column("effective_batch_size", "Effective batch", ",d"),
            Column("learning_rate", "Learning rate", "g"),
            Column("epochs", "Epochs", ".3g"),
            Column("steps", "Steps", ",d"),
            Column("tokens", "Tokens", ",d"),
            FINAL_LOSS,
            Column("best_eval_loss", "Best validation loss", ".3f", best="min"),
            Column("final_eval_loss", "Last validation loss", ".3f"),
        ),
        needs=("config.yaml", "metrics.json", "history.csv"),
    ),
    "cost": Layout(
        TRAINING_COST,
        (
            RUN,
            Column("device", "Device", wraps=0.2),
            MINUTES,
            TOKENS_PER_SECOND,
            ADAPTED,
            WEIGHTS_TRAINED,
            Column("trainable_share", "Share of weights, %", ".4%"),
            Column("adapter_mb", "Adapter, MB", ".1f"),
            *MEMORY,
            PEAK_SHARE,
        ),
    ),
    "prompts": Layout(
        "Prompts and how the untuned and the tuned model went on, the first letters of each; the CSV file has them "
        "whole.",
        (
            Column("prompt", "Prompt", wraps=0.25),
            Column("base", "Untuned model", wraps=0.33),
            Column("tuned", "Tuned model", wraps=0.33),
        ),
        needs=("answers.jsonl",),
    ),
    "ratings": Layout(
        "What people said of the answers, from 1 to 5, without knowing which model wrote them. The win rate is the "
        "share of prompts and raters for whom the tuned model's answer was the better one, ties counted half; alpha "
        "is Krippendorff's measure of agreement between raters (1 agreement, 0 chance). Without intervals.",
        (
            Column("criterion", "Criterion"),
            Column("base", "Untuned model, mean", ".2f"),
            Column("tuned", "Tuned model, mean", ".2f"),
            Column("n", "Ratings", ",d"),
            Column("win_rate", "Tuned model wins, %", ".0%"),
            Column("alpha", "Alpha", ".2f"),
        ),
        needs=(RATINGS,),
    ),
    "anchors": Layout(
        "Published perplexities on the test split of WikiText-2 raw, for orientation. Contexts, strides and the "
        "preparation of the text differ between the sources. The last columns are filled where this study measured "
        "the same untuned model on the same text.",
        (
            Column("model", "Model"),
            Column("published", "Perplexity, published", ".3f"),
            Column("published_words", "Word perplexity, published", ".3f"),
            Column("perplexity", "Perplexity, here", ".3f", optional=True),
            Column("word_perplexity", "Word perplexity, here", ".3f", optional=True),
            Column("weights", "Weights quantised here", optional=True),
        ),
        needs=("base/config.yaml", "base/metrics.json"),
    ),
    "manifest": Layout(
        "Every document of the corpus, and what became of it.",
        (
            Column("document", "Document", wraps=0.2),
            Column("title", "Title", wraps=0.2),
            Column("pages", "Pages", ",d"),
            Column("pages_skipped", "Pages skipped", ",d"),
            Column("characters", "Characters", ",d"),
            Column("status", "Outcome"),
            Column("reason", "Reason", optional=True, wraps=0.2),
        ),
        needs=("config.yaml", "manifest.parquet"),
        group="dataset",
    ),
    "ladder": Layout(
        "The memory ladder: each rung keeps what the rungs above it changed, and runs in a process of its own on the "
        "same blocks. Memory is the peak of the GPU where one is used, or else of the process; the deviation is the "
        "estimate's from it. The loss is after the same number of tokens. The largest batch is in blocks, by search "
        "under the memory budget. A type that the machine has no matmuls in is emulated.",
        (
            Column("rung", "Rung"),
            Column("changed", "What changes", wraps=0.25),
            Column("emulated", "Emulated", optional=True),
            Column("peak_mb", "Memory, MB", ",.0f", best="min"),
            Column("estimate_mb", "Estimate, MB", ",.0f"),
            Column("deviation", "Deviation, %", "+.1%"),
            TOKENS_PER_SECOND,
            PEAK_SHARE,
            Column("loss", "Loss", ".3f"),
            WEIGHTS_TRAINED,
            Column("adapter_mb", "Adapter, MB", ".1f", optional=True),
            Column("largest_batch", "Largest batch", ",d", best="max", optional=True),
            Column("error", "Failed", optional=True, wraps=0.15),
        ),
        needs=(LADDER,),
        keys=2,
    ),
    "provenance": PROVENANCE,
}

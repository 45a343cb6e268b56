"""Hold our word perplexity against that of lm-evaluation-harness: the same texts, models and windows.

Both read the text after one BOS token (EOS where a tokenizer has no BOS), in windows that do not overlap, in
float32. The harness lives in an environment of its own.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from bench import REQUIREMENTS
from bench.environments import peer_python
from frugal.config.language_modeling import EvaluationSettings
from frugal.config.llm import ModelSettings
from frugal.errors import FrugalError, run_script
from frugal.files import read_json, write_json, write_text
from frugal.run.hardware import describe_hardware, package_versions

HARNESS = REQUIREMENTS / "lm-eval.txt"
MODELS = [Path("data/models/tiny-random-llama"), Path("data/models/smollm2-135m-instruct")]
CONTEXT_LENGTH, BATCH_SIZE = 512, 4
TASK = "frugal_texts"


def first_texts(documents: Path, count: int, characters: int) -> list[str]:
    """The beginnings of the first documents, without white space around them, at which words are counted alike."""
    if not documents.is_file():
        raise FrugalError(f"{documents}: missing; make it with snakemake {documents}, or name other documents")
    batches = pq.ParquetFile(documents).iter_batches(batch_size=count, columns=["text"])
    texts = next(batches)["text"].to_pylist()
    return [text[:characters].strip() for text in texts]


def our_word_perplexity(model_folder: Path, texts: list[str]) -> tuple[float, int]:
    """Word perplexity by `frugal.llm.perplexity`, and the tokens it rests on."""
    from frugal.llm.loading import load_base_model, load_tokenizer
    from frugal.llm.perplexity import metrics, score

    tokenizer = load_tokenizer(model_folder)
    model = load_base_model(model_folder, ModelSettings(quantization="none", compute_dtype="float32"), "cpu").eval()
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    rows = [
        {"document": str(n), "input_ids": ids, "words": len(text.split()), "bytes": len(text.encode())}
        for n, (text, ids) in enumerate(zip(texts, encoded, strict=True))
    ]
    settings = EvaluationSettings(context_length=CONTEXT_LENGTH, stride=CONTEXT_LENGTH, batch_size=BATCH_SIZE)
    prefix = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    values = metrics(score(model, pd.DataFrame(rows), settings, tokenizer.pad_token_id, prefix))
    return values["word_perplexity"], values["tokens"]


def lm_eval_word_perplexity(model_folder: Path, texts: list[str], python: str, log: Path) -> float:
    """Word perplexity by lm-evaluation-harness' `loglikelihood_rolling`, as its task `wikitext` measures it.

    Raises:
        FrugalError: the harness failed.
    """
    with tempfile.TemporaryDirectory(prefix="frugal-bench-") as name:
        folder = Path(name)
        write_text(folder / "texts.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
        # JSON is YAML too.
        task = {
            "task": TASK,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / "texts.jsonl")}},
            "output_type": "loglikelihood_rolling",
            "test_split": "test",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [{"metric": metric} for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
        }
        write_json(folder / "tasks" / f"{TASK}.yaml", task)
        model = {
            "pretrained": str(model_folder.resolve()),
            "dtype": "float32",
            "softmax_dtype": "float32",
            "max_length": CONTEXT_LENGTH,
            "add_bos_token": False,  # the window's prefix is one already
        }
        command = [python, "-m", "lm_eval", "run", "--model", "hf", "--model_args", json.dumps(model)]
        command += ["--tasks", TASK, "--include_path", str(folder / "tasks"), "--batch_size", str(BATCH_SIZE)]
        command += ["--device", "cpu", "--output_path", str(folder / "results")]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stream:
            code = subprocess.run(command, stdout=stream, stderr=stream, env={**os.environ, **offline}).returncode
        results = next((folder / "results").rglob("results_*.json"), None)
        if code or results is None:
            raise FrugalError(f"{model_folder}: lm-evaluation-harness failed with exit code {code}; see {log}")
        return read_json(results)["results"][TASK]["word_perplexity,none"]


def compare(model_folder: Path, texts: list[str], python: str, log: Path) -> dict[str, Any]:
    """One model: its word perplexity by both, and ours to theirs."""
    ours, tokens = our_word_perplexity(model_folder, texts)
    theirs = lm_eval_word_perplexity(model_folder, texts, python, log)
    result = {"model": model_folder.name, "tokens": tokens, "ours": ours, "lm_eval": theirs, "ratio": ours / theirs}
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.perplexity", description=__doc__)
    parser.add_argument("--models", nargs="+", type=Path, default=MODELS, help="folders of base models")
    documents = Path("data/prepared/wikipedia-sample/documents.parquet")
    parser.add_argument("--documents", type=Path, default=documents, help="documents.parquet")
    parser.add_argument("--count", type=int, default=12, help="how many documents")
    parser.add_argument("--characters", type=int, default=4000, help="how much of each")
    parser.add_argument("--pip-args", default="", help="for the installation of lm-evaluation-harness")
    parser.add_argument("--output", type=Path, default=Path("results/bench/perplexity.json"))
    args = parser.parse_args()
    texts = first_texts(args.documents, args.count, args.characters)
    bench = args.output.parent
    python = peer_python(bench / "peers/lm-eval", HARNESS, shlex.split(args.pip_args))
    runs = [compare(model, texts, python, bench / "logs" / f"lm-eval-{model.name}.log") for model in args.models]
    about = {"documents": len(texts), "context_length": CONTEXT_LENGTH, "hardware": describe_hardware()}
    versions = {"frugal": package_versions(), "lm_eval": HARNESS.read_text().split("lm_eval==")[1].split()[0]}
    ratio = max((run["ratio"] for run in runs), key=lambda ratio: abs(ratio - 1))
    # The ratio that is furthest from one stands for all.
    write_json(args.output, {"word_perplexity_vs_lm_eval": ratio, **about, "versions": versions, "runs": runs})


if __name__ == "__main__":
    run_script(main)

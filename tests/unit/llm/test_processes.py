"""A language model trained by two processes, as two GPUs would: gloo on the CPU stands in for them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from frugal.config.base import plain
from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.study import dump_yaml
from frugal.files import read_json

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
#: Runs a training script in which the second process alone gets SIGTERM, in the third step.
ONE_IS_TERMINATED = """
import os, runpy, sys
sys.argv.pop(0)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
from frugal.run.checkpoints import Progress
on_step_end = Progress.on_step_end
def terminated(self, args, state, control, **kwargs):
    self.terminated = os.environ["RANK"] == "1" and state.global_step == 3
    return on_step_end(self, args, state, control, **kwargs)
Progress.on_step_end = terminated
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def blocks(tmp_path):
    """7 blocks to train on, 3 to validate with, of different lengths: two processes cannot share them evenly."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 7), ("validation", 3)):
        lengths = [int(length) for length in rng.integers(4, 20, count)]
        rows = [{"input_ids": rng.integers(0, 256, n).tolist(), "segment_lengths": [n - 2, 2]} for n in lengths]
        pd.DataFrame(rows).to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def test_two_processes_equal_one(blocks, tiny_model_folder, launch):
    """The same rows in each step, so the same run but for rounding, although the second process ends it once.

    2 steps an epoch: it goes on in the middle of the second one, with the rows that are left of it.
    """
    terminated = blocks / "terminated.py"
    terminated.write_text(ONE_IS_TERMINATED)
    weights, records = {}, {}
    for processes, accumulated in ((1, 4), (2, 2)):
        run = LanguageModelingRun(
            dataset="synthetic",
            base_model="tiny-random-llama",
            model={"quantization": "none", "compute_dtype": "float32", "max_length": 32},
            lora={"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]},
            training={
                "num_train_epochs": 3,
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": accumulated,
                "optim": "adamw_torch",
                "learning_rate": 0.01,
                "logging_steps": 1,
            },
        )
        folder = blocks / f"processes-{processes}"
        folder.mkdir()
        (folder / "training.yaml").write_text(dump_yaml(plain(run)))
        options = {
            "--config": folder / "training.yaml",
            "--base-model": tiny_model_folder,
            "--train": blocks / "train.parquet",
            "--validation": blocks / "validation.parquet",
            "--checkpoints": folder / "checkpoints",
            "--adapter": folder / "adapter",
            "--history": folder / "history.csv",
            "--training": folder / "training.json",
        }
        command = [SCRIPTS / "train_wikitext.py", *(word for option in options.items() for word in option)]
        if processes > 1:
            result = launch([terminated, *command], processes)
            assert result.returncode != 0
            assert "stopped by another process: saved at step 3 of 6" in result.stderr
            assert "stopped by SIGTERM: saved at step 3 of 6" in result.stderr
        result = launch(command, processes)
        assert result.returncode == 0, result.stderr
        assert ("training continues at step 3" in result.stderr) == (processes > 1)
        weights[processes] = load_file(folder / "adapter/adapter_model.safetensors")
        records[processes] = read_json(folder / "training.json")
    one, two = records[1], records[2]
    for name in ("steps", "effective_batch_size", "trainable_parameters"):
        assert one[name] == two[name], name
    assert two["tokens"] == one["tokens"] + 3  # in each epoch one, which fills the last batch and is not learnt
    for name in ("final_loss", "final_eval_loss", "best_eval_loss"):
        assert one[name] == pytest.approx(two[name], rel=1e-4), name
    for name, weight in weights[1].items():
        torch.testing.assert_close(weight, weights[2][name], rtol=1e-2, atol=1e-3)
    pd.testing.assert_frame_equal(*(history(blocks, n) for n in (1, 2)), rtol=1e-3)


def history(folder, processes):
    """Losses step by step: the first file alone would differ where a step saw other rows."""
    return pd.read_csv(folder / f"processes-{processes}/history.csv")[["step", "loss", "eval_loss", "grad_norm"]]

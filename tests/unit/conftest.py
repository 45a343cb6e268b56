"""A small synthetic world of films and users, and a model small enough to train in a test."""

import os
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from frugal.config.preference import PreferenceRun

# The same examples in every run, so that a check says the same twice. New ones are looked for by
# `pytest tests/unit --hypothesis-profile=search`.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("search", max_examples=3000, deadline=None)
settings.load_profile("repeatable")

GENRES = ["Action", "Comedy", "Crime", "Drama", "Horror", "Musical", "Western"]


@pytest.fixture
def items():
    """60 films; film i has genre i mod 7, and every third one a second genre."""
    return pd.DataFrame(
        {
            "item": np.arange(60, dtype=np.int32),
            "title": [f"Film {i}, The ({1950 + i})" for i in range(60)],
            "attributes": [
                sorted({GENRES[i % 7], GENRES[(i + 1) % 7]}) if i % 3 == 0 else [GENRES[i % 7]] for i in range(60)
            ],
        }
    )


@pytest.fixture
def interactions():
    """40 users with 25 ratings each, most of them of films that share three genres."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        favourites = {(user + k) % 7 for k in range(3)}
        films = sorted(range(60), key=lambda i: (i % 7 not in favourites, rng.random()))[:25]
        for film in rng.permutation(films):
            rows.append((user, film, 5.0 if film % 7 in favourites else 2.0, 1000 + int(rng.integers(50))))
    return pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])


@pytest.fixture
def make_run():
    """A run's settings, small; keywords change its sections."""

    def make(**changes) -> PreferenceRun:
        data = {
            "dataset": "synthetic",
            "items": {"noun": "film", "attribute": "genre"},
            "base_model": "tiny-random-llama",
            "seed": 3,
            "split": {"validation_users": 0.2, "test_users": 0.3},
            "pairs": {
                "history_length": 3,
                "train_examples": 40,
                "validation_examples": 8,
                "test_easy_examples": 12,
                "test_hard_examples": 12,
            },
            "model": {"quantization": "none", "compute_dtype": "float32", "max_length": 512},
            "lora": {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]},
            "training": {
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 2,
                "learning_rate": 0.01,
                "warmup_steps": 1,
                "save_steps": 2,
                "logging_steps": 1,
                "optim": "adamw_torch",
            },
        }
        for key, value in changes.items():
            data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
        return PreferenceRun.model_validate(data)

    return make


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory):
    """The smoke study's random model, as the workflow prepares it."""
    from frugal.config.registry import load_models
    from frugal.llm.conversion import prepare_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    prepare_model(load_models("config/models.yaml")["tiny-random-llama"], None, folder)
    return folder


@pytest.fixture(scope="session")
def launch():
    """Runs a script with its arguments, under torchrun where there are several processes."""

    def run(command, processes=1) -> subprocess.CompletedProcess:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
        return subprocess.run(
            [sys.executable, *(launcher if processes > 1 else []), *map(str, command)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return run

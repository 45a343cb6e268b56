"""Train SASRec of RecTools, and time it; started by bench.recsys in an environment without Frugal.

    python rectools_sasrec.py settings.json

The settings name the data (NPZ), the output (JSON), threads, seed, epochs, max_steps (-1 for all of the epochs),
and target: stop at this NDCG@10, which is measured after each epoch, with the clock stopped; null measures none.
"""

import json
import resource
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

LENGTH, BATCH_SIZE = 50, 128


class Clock(Callback):
    """Seconds and target positions after each step; NDCG@10 and HR@10 after each epoch."""

    def __init__(self, data, target):
        self.data, self.target = data, target
        self.positions, self.paused, self.steps, self.epochs = 0, 0.0, [], []

    @property
    def seconds(self):
        return time.perf_counter() - self.started - self.paused

    def on_train_start(self, trainer, module):
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.positions += int((batch["y"] != 0).sum())
        self.steps.append([self.seconds, self.positions])

    def on_train_epoch_end(self, trainer, module):
        if self.target is None:
            return
        seconds, began = self.seconds, time.perf_counter()
        ndcg, hits = evaluate(module, self.data)
        self.paused += time.perf_counter() - began
        self.epochs.append([seconds, ndcg, hits])
        trainer.should_stop = ndcg >= self.target


@torch.no_grad()
def evaluate(module, data):
    """NDCG@10 and HR@10 of one target for each user, in the whole catalogue without what the user had."""
    ids = module.data_preparator.item_id_map.to_internal
    items = ids.reindex(data["items"], fill_value=0).to_numpy()  # 0 is padding: items that are not trained
    wanted = ids.reindex(data["test_items"], fill_value=0).to_numpy()
    order = np.argsort(data["users"], kind="stable")
    histories = np.split(items[order], np.cumsum(np.bincount(data["users"]))[:-1])
    histories = [histories[user][histories[user] > 0] for user in data["test_users"]]
    read = np.zeros((len(wanted), LENGTH), dtype=np.int64)
    for row, history in zip(read, histories, strict=True):
        row[-len(history[-LENGTH:]) :] = history[-LENGTH:]
    module.eval()
    embedded = module.torch_model.item_model.get_all_embeddings()
    states = module.torch_model.encode_sessions({"x": torch.from_numpy(read)}, embedded)[:, -1]
    scores = states @ embedded.T
    module.train()
    scores[:, 0] = -torch.inf
    for row, history in zip(scores, histories, strict=True):
        row[history] = -torch.inf
    own = scores[torch.arange(len(wanted)), torch.from_numpy(wanted)]
    rank = 1 + (scores > own[:, None]).sum(1).double()
    hit = (rank <= 10) & (torch.from_numpy(wanted) > 0)
    return (hit / torch.log2(1 + rank)).mean().item(), hit.double().mean().item()


def main(path):
    warnings.filterwarnings("ignore")
    settings = json.loads(Path(path).read_text())
    torch.set_num_threads(settings["threads"])
    seed_everything(settings["seed"], verbose=False)
    with np.load(settings["data"], allow_pickle=False) as archive:
        data = dict(archive)
    times = pd.to_datetime(np.arange(len(data["items"])), unit="s")  # the rows are in the order of time
    interactions = pd.DataFrame(
        {Columns.User: data["users"], Columns.Item: data["items"], Columns.Weight: 1.0, Columns.Datetime: times}
    )
    dataset = Dataset.construct(interactions)

    def make_trainer():
        return Trainer(
            accelerator="cpu",
            devices=1,
            min_epochs=1,
            max_epochs=settings["epochs"],
            max_steps=settings["max_steps"],
            deterministic=True,
            callbacks=[Clock(data, settings["target"])],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

    model = SASRecModel(
        n_factors=64,
        n_blocks=2,
        n_heads=1,
        session_max_len=LENGTH,
        batch_size=BATCH_SIZE,
        lr=1e-3,
        loss="softmax",
        dropout_rate=0.2,
        deterministic=True,
        get_trainer_func=make_trainer,
    )
    model.fit(dataset)
    (clock,) = [callback for callback in model.fit_trainer.callbacks if isinstance(callback, Clock)]
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    result = {
        "steps": clock.steps,
        "epochs": clock.epochs,
        "items": model.data_preparator.item_id_map.size - 1,
        "peak_rss_mb": peak,
        "versions": {name: metadata.version(name) for name in ("rectools", "pytorch-lightning", "torch", "numpy")},
    }
    Path(settings["output"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])

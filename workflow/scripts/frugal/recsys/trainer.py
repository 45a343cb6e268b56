"""The Hugging Face trainer of recommenders: batches, validation by full ranking, and a check of every loss."""

import os
import time
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from frugal.config.recommendation import EvaluationSettings, TrainingSettings
from frugal.errors import FrugalError
from frugal.recsys.adapters import unwrap
from frugal.recsys.batches import Batches, EpochLoader
from frugal.recsys.evaluation import evaluate
from frugal.recsys.histories import Split
from frugal.run.device import LOADER_WORKERS
from frugal.run.hardware import memory_in_use, synchronize

#: The validation metric that chooses the best weights and stops training.
CRITERION = "NDCG@10"
ADVICE = "lower training.learning_rate, or set training.precision to float32"


def training_arguments(
    training: TrainingSettings, seed: int, output_dir: Path | str, run_name: str, steps_per_epoch: int
) -> TrainingArguments:
    """The trainer's arguments for one run; settings that have the name of an argument are passed on."""
    own = {"deadline_minutes", "gpus", "nodes", "threads", "precision", "torch_compile", "warmup_ratio", "eval_epochs"}
    own |= {"early_stopping_patience", "profile_steps", "batches_sorted_together"}
    every = training.eval_epochs * steps_per_epoch
    return TrainingArguments(
        output_dir=str(output_dir),
        run_name=run_name,
        **training.model_dump(exclude=own),
        warmup_steps=training.warmup_ratio,  # below 1 it is a share of all steps
        bf16=training.precision == "bfloat16",
        fp16=training.precision == "float16",  # with loss scaling
        use_cpu=training.gpus == 0,
        ddp_backend="gloo" if training.gpus == 0 and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
        seed=seed,
        data_seed=seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=CRITERION,
        greater_is_better=True,
        logging_strategy="steps",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=training.gpus > 0,
        dataloader_num_workers=LOADER_WORKERS if training.gpus else 0,
    )


class RecommenderTrainer(Trainer):
    """`Trainer` over `Batches` that validates by full ranking and stops at a loss that is not finite."""

    def __init__(self, *args, split: Split, batches: Batches, evaluation: EvaluationSettings, **kwargs):
        super().__init__(*args, train_dataset=batches, eval_dataset=batches, **kwargs)
        self.split, self.batches, self.evaluation = split, batches, evaluation

    def get_train_dataloader(self) -> EpochLoader:
        # `Batches` yields the rows of this process already: accelerate must not split them again.
        workers = self.args.dataloader_num_workers
        pinned = self.args.dataloader_pin_memory
        return EpochLoader(self.batches, pin_memory=pinned, num_workers=workers, persistent_workers=workers > 0)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        samples, labelled = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.state.num_input_tokens_seen += int(labelled)  # target positions of all processes; saved in checkpoints
        return samples, labelled

    def log(self, logs, start_time=None):
        logs |= {"target_positions": self.state.num_input_tokens_seen, **memory_in_use()}
        super().log(logs, start_time)

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            users = ", ".join(map(str, inputs["user_ids"][:5].tolist()))
            raise FrugalError(
                f"{self.args.run_name}: the loss is {loss.item()} in step {self.state.global_step + 1}, in the batch "
                f"of users {users}, ...; {ADVICE}. The last checkpoint is kept."
            )
        return loss

    def floating_point_ops(self, inputs) -> int:
        return 0  # the default counts all weights anew at every step; `training_flops` replaces it

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Validation metrics over all users; each process scores its share of them.

        Raises:
            FrugalError: there is no user to validate with, or scores are not numbers.
        """
        recommender = unwrap(self.model)
        recommender.eval()
        synchronize()  # steps under way are training
        started = time.monotonic()
        users = self.split.cases("validation", self.evaluation.history)
        mine = users[self.args.process_index :: self.args.world_size]
        sums = torch.zeros(3)
        if len(mine) or not len(users):  # with fewer users than processes, some score nobody
            result = evaluate(
                recommender.scorer(self.split.context("validation")),
                self.split,
                "validation",
                batch_size=self.evaluation.batch_size,
                users=mine,
                history=self.evaluation.history,
            )
            sums = torch.tensor([len(mine), *(result.per_user[name].sum() for name in (CRITERION, "HR@10"))])
        if self.args.world_size > 1:
            sums = sums.to(self.args.device)
            torch.distributed.all_reduce(sums)
        count, ndcg, hits = sums.tolist()
        metrics = {f"eval_{CRITERION}": ndcg / count, "eval_HR@10": hits / count}
        self.log({**metrics, "eval_seconds": round(time.monotonic() - started, 3)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        recommender.train()
        return metrics


class Profile(TrainerCallback):
    """PyTorch's profiler over ``steps`` steps, after three of warm-up; writes a trace and a table of operators."""

    def __init__(self, folder: Path, steps: int):
        self.folder, self.steps = folder, steps

    def on_train_begin(self, args, state, control, **kwargs):
        self.profiler = torch.profiler.profile(
            schedule=torch.profiler.schedule(wait=2, warmup=1, active=self.steps),
            on_trace_ready=self._write,
            profile_memory=True,
        )
        self.profiler.start()

    def on_step_end(self, args, state, control, **kwargs):
        self.profiler.step()

    def on_train_end(self, args, state, control, **kwargs):
        self.profiler.stop()

    def _write(self, profiler):
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
        table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
        (self.folder / "operators.txt").write_text(table, encoding="utf-8")

"""Settings of a training run that all kinds share; the keys are those of transformers.TrainingArguments."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from frugal.config.base import Settings
from frugal.config.errors import describe

Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup"]
LearningRate = Annotated[float, Field(gt=0, lt=1)]
Beta = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _number_or_auto(value: Any) -> Any:
    """One sentence for every fault, where a union would report one for each of its types."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if value != "auto" and not (type(number) is int and 0 <= number <= 64):
        raise ValueError(f"must be a number from 0 to 64, or 'auto', got {describe(value)}")
    return value


GPUs = Annotated[Annotated[int, Field(ge=0, le=64)] | Literal["auto"], BeforeValidator(_number_or_auto)]


class TrainerSettings(Settings):
    """The base of both kinds' `training` sections, which add their own keys and set their own defaults."""

    num_train_epochs: Positive = 1
    max_steps: int = Field(-1, ge=-1, description="Optimiser steps; -1 leaves it to num_train_epochs.")
    per_device_train_batch_size: Count = Field(1, description="Rows of each process in one forward pass.")
    gradient_accumulation_steps: Count = 1
    learning_rate: LearningRate = 1e-3
    lr_scheduler_type: Scheduler = "linear"
    weight_decay: float = Field(0.0, ge=0, lt=1)
    adam_beta2: Beta = Field(0.999, description="Lower forgets the large first gradients sooner.")
    max_grad_norm: Positive = 1.0
    logging_steps: Count = 5
    deadline_minutes: float | None = Field(
        None,
        gt=0,
        description="Save and stop after this time; the same command continues. SLURM's limits are known without it.",
    )
    gpus: GPUs = Field(
        0,
        description="0 trains on the CPU; 2 or more start torchrun, and each step takes one batch from every GPU. "
        "'auto': 1 where the machine that runs the jobs has a usable GPU, else 0; a cluster needs a number.",
    )
    nodes: int = Field(
        1, ge=1, le=64, description="Machines that train together, each with `gpus` GPUs; 2 or more need SLURM."
    )
    report_to: list[Literal["mlflow", "tensorboard", "wandb"]] = Field(
        [], description="Experiment trackers; each must be installed."
    )

    @model_validator(mode="after")
    def _machines_have_numbers(self):
        if self.nodes > 1 and self.gpus == "auto":
            raise ValueError(f"gpus 'auto' is for one machine: with nodes {self.nodes}, set gpus to a number")
        return self

    @field_validator("report_to")
    @classmethod
    def _trackers_are_installed(cls, trackers: list[str]) -> list[str]:
        for tracker in trackers:
            if find_spec(tracker) is None:
                raise ValueError(
                    f"{tracker} is not installed; install it (pip install --no-deps -r envs/trackers.txt) or leave it "
                    "out"
                )
        return trackers

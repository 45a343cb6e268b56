"""What a search for settings may say: the space, the budget, and how trials are chosen."""

from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from frugal.config.base import Settings
from frugal.config.errors import describe

#: The sections of a run that a search may change, and that a recipe holds.
SECTIONS = ("model", "loss", "training")
#: Section -> settings that belong to the machine or to how a run is watched: neither searched nor part of a recipe.
OF_THE_MACHINE = {
    "loss": ("precision",),
    "training": (
        "precision",
        "torch_compile",
        "gpus",
        "nodes",
        "threads",
        "deadline_minutes",
        "logging_steps",
        "profile_steps",
        "report_to",
    ),
}
#: Whole numbers of a range that are all checked before a search; of longer ranges only the ends are.
MOST_CHECKED = 100
TPE, RANDOM = "tpe", "random"


def _number(value: Any) -> Any:
    """A number as YAML may write it: `1e-4` is a text to it."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    if value is not None and type(value) not in (int, float):
        raise ValueError(f"must be a number, got {describe(value)}")
    return value


def _as_domain(value: Any) -> Any:
    """A list stands for its choices."""
    if isinstance(value, list):
        return {"choices": value}
    if not isinstance(value, dict | Domain):
        raise ValueError(f"must be a list of values, or {{low, high, log, step}}, got {describe(value)}")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]


class Domain(Settings):
    """The values that a search may give one setting: a list, or a range."""

    choices: list[Any] | None = Field(None, description="The values; a list in place of this section is the same.")
    low: Number | None = Field(None, description="The smallest value.")
    high: Number | None = Field(None, description="The largest value. Two whole ends: only whole numbers are drawn.")
    log: bool = Field(False, description="Draw the logarithm, for values over several orders of magnitude.")
    step: Number | None = Field(None, description="Draw low, low + step, and so on; not together with log.")

    @model_validator(mode="after")
    def _choices_or_range(self):
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.step is not None or self.log:
                raise ValueError("give either a list of values, or low and high")
            self._check_choices()
        elif self.low is None or self.high is None:
            raise ValueError("a range needs both low and high")
        else:
            self._check_range()
        return self

    def _check_choices(self):
        if not self.choices:
            raise ValueError("has no value to choose from")
        for value in self.choices:
            if not (value is None or isinstance(value, bool | int | float | str)):
                raise ValueError(f"each choice must be a single value, got {describe(value)}")
        if len({(type(value), value) for value in self.choices}) < len(self.choices):
            raise ValueError("has a value twice")

    def _check_range(self):
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("step does not go with log: leave one of them out")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step must be above 0 and at most high - low, got {self.step}")

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn from a range."""
        return all(isinstance(end, int) for end in (self.low, self.high, self.step or 1))

    def checked(self) -> list[Any]:
        """The values that are checked before a search: all choices, all values of a short range, or its two ends."""
        if self.choices is not None:
            return self.choices
        if self.whole and (self.high - self.low) // (self.step or 1) < MOST_CHECKED:
            return list(range(self.low, self.high + 1, self.step or 1))
        return [self.low, self.high]


class SearchSettings(Settings):
    """A search for better settings: trials of a variant's training, judged by NDCG@10 on validation data alone."""

    space: dict[str, Annotated[Domain, BeforeValidator(_as_domain, json_schema_input_type=list[Any] | Domain)]] = Field(
        min_length=1,
        description="A setting, such as training.learning_rate, and its values: a list, or {low, high, log, step}. All "
        "other settings are the variant's.",
    )
    trials: int | None = Field(None, ge=1, le=100_000, description="The number of trials.")
    hours: float | None = Field(None, gt=0, description="No trial begins after this time of training.")
    seed: int = Field(1, ge=0, lt=2**31, description="Of the choice of trials, and of the training of each.")
    sampler: Literal["tpe", "random"] = Field(
        TPE, description="'tpe': the tree-structured Parzen estimator, after ten random trials; 'random': all random."
    )
    pruning: Literal["none", "median"] = Field(
        "none", description="'median' ends a trial whose validation is below the median of earlier trials' there."
    )

    @model_validator(mode="after")
    def _has_a_budget(self):
        if self.trials is None and self.hours is None:
            raise ValueError("has no budget: set trials, hours or both")
        return self

"""Settings of the `movie_preference` experiment: a language model learns which film a user would like."""

from typing import Any, Literal

from pydantic import Field, model_validator

from frugal.config.base import Settings
from frugal.config.llm import AdapterRun


class SplitSettings(Settings):
    """Users are split before pairs are made, so that no user stands in two parts."""

    validation_users: float = Field(0.1, gt=0, lt=1, description="Share of the users.")
    test_users: float = Field(0.2, gt=0, lt=1, description="Share of the users.")

    @model_validator(mode="after")
    def _leaves_training_users(self):
        if self.validation_users + self.test_users >= 0.95:
            raise ValueError("validation_users + test_users must leave at least 5 % of the users for training")
        return self


class PairSettings(Settings):
    """How ratings become preference pairs."""

    format: Literal["contrastive", "next_film"] = Field(
        "contrastive",
        description="'contrastive' asks for Option A or B; 'next_film' for the next liked title.",
    )
    answer_position: Literal["random", "always_a"] = Field(
        "random", description="Where the liked film stands in the training data."
    )
    history_length: int = Field(5, ge=1, le=50, description="Liked films before the one in question.")
    history_genres: bool = Field(True, description="Write each history film's genres beside its title.")
    liked_rating: float = Field(4, description="A film with at least this rating is liked.")
    hard_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of training pairs whose negative matches the liked film's popularity.",
    )
    reasoning_fraction: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of training answers that give the reasoning; of the others only the letter is learnt.",
    )
    train_examples: int = Field(1000, ge=1)
    validation_examples: int = Field(50, ge=1)
    test_easy_examples: int = Field(100, ge=2)
    test_hard_examples: int = Field(100, ge=2)
    max_users: int | None = Field(None, ge=10, description="Use only so many users: for quick trials.")

    @model_validator(mode="after")
    def _next_film_has_no_options(self):
        if self.format == "next_film" and self.answer_position == "always_a":
            raise ValueError("answer_position 'always_a' has no meaning with format 'next_film'; use 'random'")
        return self


class EvaluationSettings(Settings):
    """How the test pairs are scored."""

    batch_size: int = Field(16, ge=1)
    generated_examples: int = Field(20, ge=0, description="Test pairs that are also answered in free text.")
    max_new_tokens: int = Field(64, ge=4, le=1024)
    bootstrap_samples: int = Field(2000, ge=100, le=100000)
    calibration_bins: int = Field(10, ge=2, le=100)


class MoviePreferenceRun(AdapterRun):
    """One variant, resolved: everything that one run of the experiment depends on; the data has titles and genres."""

    split: SplitSettings = SplitSettings()
    pairs: PairSettings = PairSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


class MoviePreference(MoviePreferenceRun):
    """The experiment: the settings that all its runs share, and what each variant changes."""

    variants: dict[str, dict[str, Any]] = Field(
        {"tuned": {}}, min_length=1, description="Name of a run: the keys in which it differs from the above."
    )

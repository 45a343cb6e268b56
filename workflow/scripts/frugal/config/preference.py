"""Settings of `preference` experiments: a language model learns which of two items a user would like."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from frugal.config.base import ExperimentSettings, Settings
from frugal.config.items import ItemWords
from frugal.config.llm import AdapterRun
from frugal.config.templates import check_template, fields_of

#: The instruction of each format, unless the configuration gives one.
INSTRUCTIONS = {
    "contrastive": "Which of the two {plural} would this user like better, and why?",
    "next_item": "Which {noun} would this user like next?",
}
#: Template -> the fields that it must have, and those that it may have.
WORDS = ("noun", "plural", "attribute", "attributes")
FIELDS = {
    "instruction": ((), WORDS),
    "item": (("title",), ("values", *WORDS)),
    "history": (("history",), WORDS),
    "options": (("option_a", "option_b"), WORDS),
    "answer": (("letter",), WORDS),
    "reasoning": (("likes",), ("letter", "shared", "other_letter", "other_shared", *WORDS)),
}


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

    format: Literal["contrastive", "next_item"] = Field(
        "contrastive",
        description="'contrastive' asks for Option A or B; 'next_item' for the title that the user likes next.",
    )
    answer_position: Literal["random", "always_a"] = Field(
        "random", description="Where the liked item stands in the training data."
    )
    history_length: int = Field(5, ge=1, le=50, description="Liked items before the one in question.")
    history_attributes: bool = Field(
        True, description="Write the attributes, such as genres, of each item of the history beside its title."
    )
    liked_rating: float = Field(4, description="An item with at least this rating is liked.")
    hard_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of training pairs whose negative matches the liked item's popularity.",
    )
    reasoning_fraction: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of training answers that give the reasoning; the loss of the others covers only the letter.",
    )
    train_examples: int = Field(1000, ge=1)
    validation_examples: int = Field(50, ge=1)
    test_easy_examples: int = Field(100, ge=2)
    test_hard_examples: int = Field(100, ge=2)
    max_users: int | None = Field(None, ge=10, description="Use only this number of users, for quick trials.")

    @model_validator(mode="after")
    def _next_item_has_no_options(self):
        if self.format == "next_item" and self.answer_position == "always_a":
            raise ValueError("answer_position 'always_a' has no meaning with format 'next_item'; use 'random'")
        return self


class PromptSettings(Settings):
    """Templates of prompts and answers. A field in braces stands for a value, {{ and }} for braces.

    Every template may name {noun}, {plural}, {attribute} and {attributes}, as the data set calls its items.
    """

    instruction: str | None = Field(
        None,
        min_length=1,
        description="What is asked; null: '" + "', or with the format 'next_item' '".join(INSTRUCTIONS.values()) + "'.",
    )
    item: str = Field(
        "{title} ({values})",
        description="An item with its attributes, {values}; where these are not shown, its title stands alone.",
    )
    history: str = Field("Liked: {history}.", description="The items that the user liked, oldest first.")
    options: str = Field(
        "Option A: {option_a}\nOption B: {option_b}", description="The two items that are to be compared."
    )
    answer: str = Field("Option {letter}.", description="The answer; {letter} is A or B.")
    reasoning: str = Field(
        "The user likes {likes}. Option {letter} shares {shared}; Option {other_letter} shares {other_shared}.",
        description="Follows the answer where it is reasoned. {likes}: the two most frequent attributes of the "
        "history; {shared} and {other_shared}: those that it has in common with the item at {letter}, which is the "
        "answer, and with that at {other_letter}.",
    )

    @field_validator("*")
    @classmethod
    def _has_its_fields(cls, template: str | None, info: ValidationInfo) -> str | None:
        if template is not None:
            check_template(template, *FIELDS[info.field_name])
        return template


class EvaluationSettings(Settings):
    """How the test pairs are scored."""

    batch_size: int = Field(16, ge=1)
    generated_examples: int = Field(20, ge=0, description="Test pairs that are also answered in free text.")
    max_new_tokens: int = Field(64, ge=4, le=1024)
    bootstrap_samples: int = Field(2000, ge=100, le=100000)
    calibration_bins: int = Field(10, ge=2, le=100)


class PreferenceRun(AdapterRun):
    """One variant, resolved: everything that one run of the experiment depends on; the items have titles."""

    kind: Literal["preference"] = "preference"
    items: ItemWords = Field(
        ItemWords(attribute="attribute"),
        description="What the items are called; unless given, as the data set's entry in config/datasets.yaml says.",
    )
    split: SplitSettings = SplitSettings()
    pairs: PairSettings = PairSettings()
    prompts: PromptSettings = PromptSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def instruction(self) -> str:
        """The template of the instruction."""
        return self.prompts.instruction or INSTRUCTIONS[self.pairs.format]

    @model_validator(mode="after")
    def _shows_attributes_that_there_are(self):
        if self.items.attribute is not None:
            return self
        changes = ["pairs.history_attributes to false"] * self.pairs.history_attributes
        if self.pairs.format == "contrastive" and self.pairs.reasoning_fraction > 0:
            changes.append("pairs.reasoning_fraction to 0")
        if changes:
            raise ValueError(
                f"the {self.items.plural} of '{self.dataset}' have no attributes: set {' and '.join(changes)}, or name "
                "the column of their attributes (item_columns.attributes in config/datasets.yaml)"
            )
        for key in ("instruction", "history", "options", "answer"):
            if fields_of(getattr(self.prompts, key) or "") & {"attribute", "attributes"}:
                raise ValueError(
                    f"prompts.{key} names the attributes of {self.items.plural}; those of '{self.dataset}' have none"
                )
        return self


class PreferenceExperiment(ExperimentSettings, PreferenceRun):
    """The experiment: the settings that all its runs share, and what each variant changes."""

"""What the items of a data set are called."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from frugal.config.base import Settings

#: A word or two on one line: it stands in prompts, which are made of lines.
Word = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^\S+( \S+)*$")]


class ItemWords(Settings):
    """What an item is called, and its attribute: what describes it beside its title, such as its genres."""

    noun: Word = Field("item", description="One item, such as 'film', 'book' or 'product'.")
    plural: Word = Field("items", description="Several items; unless given, the noun with an s.")
    attribute: Word | None = Field(
        None, description="One attribute of an item, such as 'genre' or 'category'; null: the title alone describes it."
    )
    attributes: Word | None = Field(None, description="Several attributes; unless given, the attribute with an s.")

    @model_validator(mode="before")
    @classmethod
    def _regular_plurals(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        words = (("noun", "plural"), ("attribute", "attributes"))
        plurals = {many: f"{data[one]}s" for one, many in words if data.get(one)}
        return plurals | {key: value for key, value in data.items() if value is not None or key not in plurals}

    @model_validator(mode="after")
    def _both_or_neither(self) -> "ItemWords":
        if self.attributes and not self.attribute:
            raise ValueError("attributes is the plural of attribute, which is not given")
        return self

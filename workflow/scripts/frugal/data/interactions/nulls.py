"""What stands for a missing value, and the exception for a row that cannot be taken."""

# In any case of letters. Blanks around a value do not count.
NULLS = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>", "nat", "\\n"})


class BadRow(Exception):
    """A row that cannot be taken: ``args`` are the reason to count it under and, maybe, a detail."""


def is_null(text: str) -> bool:
    """Whether a field without surrounding blanks stands for no value."""
    return len(text) <= 4 and text.lower() in NULLS

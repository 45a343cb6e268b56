"""Language models: prompts, loading, training, scoring."""

import frugal.run.libraries  # noqa: F401  (first: it settles how the libraries behave)

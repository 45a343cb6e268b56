"""Recommenders: data path, models, losses, training, evaluation, and the rules that they are held against."""

import frugal.libraries  # noqa: F401  (first: it settles how the libraries behave)

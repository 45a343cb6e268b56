"""Recommenders: data path, models, losses, training, evaluation, and the baselines that they are compared with."""

import frugal.run.libraries  # noqa: F401  (first: it settles how the libraries behave)

"""Preferences: pairs of items, prompts, scoring of answers, metrics, baselines, recommendations."""

import frugal.run.libraries  # noqa: F401  (first: it configures the libraries)

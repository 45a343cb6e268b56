"""Recommenders: baselines and, in time, sequential models."""

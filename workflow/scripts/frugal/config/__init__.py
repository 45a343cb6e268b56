"""Configuration: what a study may say, checked before any job runs."""

"""One run's life on a machine."""

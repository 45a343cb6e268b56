"""Documents, in any format, to clean text."""

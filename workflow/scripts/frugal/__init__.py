"""The library that Frugal's scripts share."""

__version__ = "0.1.0"

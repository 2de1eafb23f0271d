"""The version of the package, which results and records name."""

__version__ = "0.1.0"

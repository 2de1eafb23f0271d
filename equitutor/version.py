"""The version of the package, which results and records name."""

__version__ = "0.2.0"

"""A complete, private copy of a platform in Docker for every test run."""

__all__ = ["__version__"]
__version__ = "0.1.0"

"""The command line. It speaks to servers through the Python SDK, like any client."""

from .app import main

__all__ = ["main"]

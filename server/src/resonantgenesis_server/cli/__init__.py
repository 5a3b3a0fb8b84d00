"""The command line. It speaks to servers by HTTP, like any client, and imports no SDK."""

from .app import main

__all__ = ["main"]

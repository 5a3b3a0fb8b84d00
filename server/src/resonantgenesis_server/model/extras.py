"""How the extras of this package are installed, in the words of all messages."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """A command with its condition; docs/install.md says the same, and changes with this."""
    command = f"pip install 'resonantgenesis-server[{extra}]'"
    return f"{command}, with --find-links dist until it is published: see docs/install.md"

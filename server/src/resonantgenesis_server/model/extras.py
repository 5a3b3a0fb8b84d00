"""How an extra of this package is installed, in the words of all messages."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The command; docs/install.md has it as well. It adds libraries to a server that is installed,
    so it is right also while no registry has the server."""
    return f"pip install 'resonantgenesis-server[{extra}]'"

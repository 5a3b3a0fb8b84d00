"""The error of a start that fails."""

from __future__ import annotations

from .masking import mask_quoted


class StartupError(Exception):
    """The server cannot start. The message is one line that says what to change.

    The command line prints the message and exits with `exit_code`. Secrets in the texts of other
    libraries are masked.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(mask_quoted(message))

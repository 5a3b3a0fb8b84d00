"""The error of a start that cannot succeed."""

from __future__ import annotations

from .masking import mask_told


class StartupError(Exception):
    """The server cannot start; the message is one line that says what to change.

    The program that catches it prints the message and exits with `exit_code`. Secrets in the texts
    of other libraries are masked.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(mask_told(message))

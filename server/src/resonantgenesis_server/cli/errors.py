"""Why a command failed: one line that says what to do next, and the exit code.

CliError          1   the server or a turn failed
├── UsageProblem  2   what was typed or configured
├── AuthError     3   no credential, or not one that may do this
├── NetworkError  4   no server, or the link is gone for good
└── NotFoundError 5   no such session or agent
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class CliError(Exception):
    """`code` is the server's, where it said one; `retry_after` in seconds."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after = retry_after


class UsageProblem(CliError):
    exit_code = 2


class AuthError(CliError):
    exit_code = 3


class NetworkError(CliError):
    exit_code = 4


class NotFoundError(CliError):
    exit_code = 5


_BY_CODE: dict[str, type[CliError]] = {
    "UNAUTHENTICATED": AuthError,
    "FORBIDDEN": AuthError,
    "AGENT_NOT_FOUND": NotFoundError,
    "SESSION_NOT_FOUND": NotFoundError,
    "NOT_FOUND": NotFoundError,
    "INVALID_REQUEST": UsageProblem,
    "PAYLOAD_TOO_LARGE": UsageProblem,
}
_NEXT: dict[str, str] = {
    "UNAUTHENTICATED": "set RESONANTGENESIS_API_KEY, or name the server's directory with --data",
    "AGENT_NOT_FOUND": "`resonantgenesis agents list` shows those there are",
    "SESSION_NOT_FOUND": "`resonantgenesis sessions list` shows those there are",
    "SESSION_BUSY": "wait for the turn, or cancel it with `resonantgenesis sessions cancel`",
    "POSITION_EXPIRED": "leave out --from to start at the earliest position that is kept",
    "CONFLICT": "choose another --idempotency-key, or leave it out",
    "INTERNAL": "the server's log says more under the request id",
}
#: What lists the things of which a NOT_FOUND says that there is no such one.
_LISTS = {
    noun: f"`resonantgenesis {noun}s list` shows those there are"
    for noun in ("key", "organization")
} | {"file": "`resonantgenesis files ls` shows those there are"}


def from_server(
    code: str,
    message: str,
    *,
    request_id: str = "",
    retry_after: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> CliError:
    """The error that a server's answer or stream stands for."""
    hint = _hint(code, message, details or {})
    named = f" (request {request_id})" if request_id and code == "INTERNAL" else ""
    text = f"{message}{named}; {hint}" if hint else message
    kind = _BY_CODE.get(code, CliError)
    if code not in _BY_CODE and code not in _NEXT:
        text = f"{code}: {text}"
    return kind(text, code=code, retry_after=retry_after)


def _hint(code: str, message: str, details: Mapping[str, Any]) -> str:
    """What to do next."""
    earliest = details.get("earliest")
    if code == "POSITION_EXPIRED" and isinstance(earliest, str):
        return f"that is --since {earliest}"
    if code == "FORBIDDEN" and isinstance(scope := details.get("scope"), str):
        return f"`resonantgenesis keys create --scope {scope}` makes a key"
    if code == "FORBIDDEN" and ("scope" in message or "lacks" in message):
        return "use a key that has the scope"
    if code == "INVALID_REQUEST" and "cursor" in message:
        return "take one from an event of this server, or give a time"
    if code == "NOT_FOUND":
        return next((hint for word, hint in _LISTS.items() if word in message), "")
    return _NEXT.get(code, "")

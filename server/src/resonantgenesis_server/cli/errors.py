"""Errors of commands: a line that names the next step, and an exit code.

CliError          1   the server or a turn failed
├── UsageProblem  2   what was typed or configured
├── AuthError     3   no credential, or not one that may do this
├── NetworkError  4   no server, or the link is gone for good
└── NotFoundError 5   no such session or agent
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit


class CliError(Exception):
    """A command failed; `code` is the server's, if the server named one."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


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
#: Commands that list what a NOT_FOUND may be about.
_LISTS = {
    noun: f"`resonantgenesis {noun}s list` shows those there are"
    for noun in ("key", "organization")
} | {"file": "`resonantgenesis files ls` shows those there are"}


#: Meanings of statuses with which proxies refuse a request for good.
_REFUSED = {
    407: "wants credentials of its own (407); put them into HTTPS_PROXY, or go around it with"
    " NO_PROXY",
    413: "takes no body of this size (413), and it was not the server that said so; raise the"
    " proxy's limit (nginx: `client_max_body_size 0;`), or send less",
    414: "takes no address of this length (414); raise the proxy's limit",
    431: "takes no header fields of this size (431); raise the proxy's limit",
}
#: Statuses of proxies that reach nobody.
_NOBODY_BEHIND = frozenset({502, 503, 504})
#: Failures of a system that has no place for the output.
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})


def not_reached(url: str, reason: str) -> NetworkError:
    """The error of a connection that could not be made."""
    hint = "start one with `resonantgenesis serve`, or name another with --url"
    return NetworkError(f"no server answers at {url}; {hint} ({reason})")


def broken_off(url: str, reason: str) -> NetworkError:
    """The error of an exchange that began and did not end."""
    return NetworkError(f"the exchange with {url} broke off: {reason}; try again, or check --url")


def from_between(url: str, status: int, location: str | None = None) -> CliError:
    """The error of an answer that the server did not make: something on the way did.

    `location`: where a redirection points.
    """
    host = urlsplit(url).netloc
    if meaning := _REFUSED.get(status):
        return UsageProblem(f"something on the way to {host} {meaning}")
    if location is not None:
        target = urlsplit(location).hostname or "another place"
        return NetworkError(
            f"{host} answered {status} and points to {target}; redirects are never followed, since"
            " the key would go along: name the right address with --url"
        )
    text = f"{host} answered {status} and is no ResonantGenesis server; check --url"
    if status in _NOBODY_BEHIND:
        text += ", or see whether the server behind that proxy runs"
    return NetworkError(text)


def from_server(
    code: str,
    message: str,
    *,
    request_id: str = "",
    details: Mapping[str, Any] | None = None,
) -> CliError:
    """The error of a server's answer or stream."""
    hint = _hint(code, message, details or {})
    named = f" (request {request_id})" if request_id and code == "INTERNAL" else ""
    text = f"{message}{named}; {hint}" if hint else message
    kind = _BY_CODE.get(code, CliError)
    if code not in _BY_CODE and code not in _NEXT:
        text = f"{code}: {text}"
    return kind(text, code=code)


def _hint(code: str, message: str, details: Mapping[str, Any]) -> str:
    """The next step; empty if there is none."""
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
    about_another = code == "CONFLICT" and "Idempotency-Key" not in message
    return "" if about_another else _NEXT.get(code, "")


@contextlib.contextmanager
def using_file(path: Path) -> Iterator[None]:
    """Raise a UsageProblem that names `path` where it cannot be read or written.

    A full disk stays an OSError: naming another path does not help.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno in UNWRITABLE:
            raise
        raise UsageProblem(f"{path}: {error.strerror or error}") from error

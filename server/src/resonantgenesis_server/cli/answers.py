"""What an answer of a server means for a command."""

from __future__ import annotations

from typing import Any

import httpx

from .errors import NetworkError, from_server


def network_error(url: str, error: httpx.HTTPError) -> NetworkError:
    """What to tell a person about an exchange that failed."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        hint = "start one with `resonantgenesis serve`, or name another with --url"
        return NetworkError(f"no server answers at {url}; {hint}")
    if isinstance(error, httpx.TimeoutException):
        return NetworkError(f"the server at {url} did not answer in time; try again")
    what = str(error) or type(error).__name__
    return NetworkError(f"the exchange with {url} broke off: {what}; try again")


def check(response: httpx.Response) -> None:
    """Raises the error that a read response stands for."""
    if response.is_success:
        return
    try:
        error = response.json()["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        raise NetworkError(
            f"{response.url.host} answered {response.status_code} and is no ResonantGenesis server;"
            " check --url"
        ) from None
    retry_after, details = error.get("retry_after"), error.get("details")
    raise from_server(
        code,
        message,
        request_id=str(error.get("request_id", "")),
        retry_after=retry_after if isinstance(retry_after, int | float) else None,
        details=details if isinstance(details, dict) else None,
    )


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The body of a read response. Raises NetworkError if it is no JSON object."""
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NetworkError(f"{response.url.host} is no ResonantGenesis server; check --url")
    return value

"""What an answer of a server means for a command."""

from __future__ import annotations

from typing import Any

import httpx

from .errors import CliError, NetworkError, UsageProblem, from_server

#: Refusals of proxies that sending the same again does not change.
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
        raise _from_between(response) from None
    retry_after, details = error.get("retry_after"), error.get("details")
    raise from_server(
        code,
        message,
        request_id=str(error.get("request_id", "")),
        retry_after=retry_after if isinstance(retry_after, int | float) else None,
        details=details if isinstance(details, dict) else None,
    )


def _from_between(response: httpx.Response) -> CliError:
    """What an error means that is not in the server's form: something on the way made it."""
    host, status = response.url.netloc.decode("ascii", "replace"), response.status_code
    if meaning := _REFUSED.get(status):
        return UsageProblem(f"something on the way to {host} {meaning}")
    if response.is_redirect:
        target = httpx.URL(response.headers.get("Location", "")).host or "another place"
        return NetworkError(
            f"{host} answered {status} and points to {target}; redirects are never followed, since"
            " the key would go along: name the right address with --url"
        )
    text = f"{host} answered {status} and is no ResonantGenesis server; check --url"
    if status in _NOBODY_BEHIND:
        text += ", or see whether the server behind that proxy runs"
    return NetworkError(text)


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The body of a read response. Raises NetworkError if it is no JSON object."""
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NetworkError(f"{response.url.host} is no ResonantGenesis server; check --url")
    return value

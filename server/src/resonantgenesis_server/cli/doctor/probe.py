"""The doctor's checks of a server and of the way to it.

Is the server reachable, do its clock and ours agree, does something on the way hold streams back,
and does it let WebSockets through? The probe speaks HTTP itself, since the SDK hides such things.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from ..errors import CliError, NetworkError, broken_off, from_between, from_server, not_reached
from ..target import Key, is_loopback, ready_urls
from .findings import Finding, Level, fail, ok, warn

#: Events that are sent one by one, each awaited before the next.
_EVENTS = 5
#: Seconds on the way from which a stream is not live.
_LATE = 1.0
_TYPE = "app.doctor.probe"
_SCOPES = "it needs the scopes events:read and events:write"
_FILES = re.compile(r"^process_(open|max)_fds (\S+)$", re.MULTILINE)
_UPGRADE = (
    "let the proxy pass WebSockets on (nginx: `proxy_http_version 1.1; proxy_set_header Upgrade"
    ' $http_upgrade; proxy_set_header Connection "upgrade";`)'
)
_BUFFERED = (
    "turn off buffering and compression of responses between here and the server (nginx:"
    " `proxy_buffering off; gzip off;`), then compare with the server's own address"
)


class _Connect(connect):
    """Follows no redirect: the key goes only to the named server."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


@dataclass(slots=True)
class Probe:
    """Checks one server.

    `patience`: seconds that an answer, or an event on its way, may take. `expected`: a server
    should be there. After `run`, `ahead` has the seconds by which the server's clock is ahead and
    `files` the open and allowed files of its process, if the server told them.
    """

    url: str
    key: Key | None
    patience: float
    expected: bool = True
    ahead: float | None = None
    files: tuple[int, int] | None = None

    async def run(self) -> AsyncIterator[Finding]:
        """The findings, each as soon as its check has ended."""
        headers = {"Authorization": f"Bearer {self.key.value}"} if self.key else {}
        async with httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=self.patience,
            # No proxy leads to this machine, but its certificates are those of the environment.
            trust_env=not is_loopback(self.url),
            verify=httpx.create_ssl_context(trust_env=self.url.startswith("https:")),
        ) as http:
            server = await self._reach(http)
            yield server
            if server.level != Level.OK:
                return
            await self._ask_files(http)
            if self.key is None:
                todo = "set RESONANTGENESIS_API_KEY, or name the server's directory with --data"
                yield warn("stream", "not measured, since no key is known", todo)
                return
            yield await self._measure(http)
            yield await self._socket()

    async def _socket(self) -> Finding:
        """Open a WebSocket and wait for the answer to a ping."""
        key = "" if self.key is None else self.key.value
        opening = _Connect(
            f"ws{self.url.removeprefix('http')}/v1/ws",
            additional_headers={"Authorization": f"Bearer {key}"},
            proxy=None if is_loopback(self.url) else True,
            open_timeout=self.patience,
            close_timeout=self.patience,
        )
        began = time.monotonic()
        try:
            async with asyncio.timeout(2 * self.patience), opening as socket:
                began = time.monotonic()
                await socket.send('{"type": "ping"}')
                await socket.recv()
        except InvalidStatus as error:
            return fail("socket", *_refused(error))
        except TimeoutError:
            message = f"no answer over a WebSocket within {2 * self.patience:.1f} s"
            return fail("socket", f"something holds messages back: {message}", _UPGRADE)
        except InvalidHandshake as error:
            return fail("socket", f"the answer is not a WebSocket's: {error}", _UPGRADE)
        except (OSError, WebSocketException) as error:
            what = str(error) or type(error).__name__
            return fail("socket", f"the WebSocket broke off: {what}", "try again")
        took = time.monotonic() - began
        return ok("socket", f"a WebSocket opens and answers within {took * 1000:.0f} ms")

    async def _reach(self, http: httpx.AsyncClient) -> Finding:
        began = time.time()
        try:
            for url in ready_urls(self.url):
                answer = await http.get(url)
                if answer.status_code != httpx.codes.NOT_FOUND:
                    break
            took = time.time() - began
            _check(answer)
        except httpx.HTTPError as error:
            message, _, todo = str(_failure(self.url, error)).partition("; ")
            return (fail if self.expected else warn)("server", message, todo)
        except CliError as error:
            if error.code != "UNAVAILABLE":
                return fail("server", f"{self.url}: {error}", "check --url")
            return warn("server", f"{self.url} takes no requests: {error}", "try again soon")
        with contextlib.suppress(KeyError, ValueError):
            date = parsedate_to_datetime(answer.headers["date"]).timestamp()
            self.ahead = date + 0.5 - (began + took / 2)  # a Date has whole seconds
        return ok("server", f"{self.url} answers in {took * 1000:.0f} ms")

    async def _ask_files(self, http: httpx.AsyncClient) -> None:
        """Read the number of open files; only a server on this machine shows its metrics freely."""
        with contextlib.suppress(httpx.HTTPError):
            answer = await http.get("/metrics")
            files = {name: float(value) for name, value in _FILES.findall(answer.text)}
            if answer.is_success and files.keys() == {"open", "max"}:
                self.files = int(files["open"]), int(files["max"])

    async def _measure(self, http: httpx.AsyncClient) -> Finding:
        """Publish events one by one and measure when each comes back over a stream."""
        began = time.monotonic()
        try:
            delays, coding = await self._echo(http)
        except TimeoutError:
            waited = time.monotonic() - began
            message = f"an answer that the server sends at once has not come within {waited:.1f} s"
            return fail("stream", f"something holds the stream back: {message}", _BUFFERED)
        except httpx.HTTPError as error:
            message, _, todo = str(_failure(self.url, error)).partition("; ")
            return fail("stream", message, todo)
        except CliError as error:
            message, _, todo = str(error).partition("; ")
            return fail("stream", f"not measured: {message}", f"{todo}: {_SCOPES}")
        worst = max(delays)
        message = f"events arrive within {worst * 1000:.0f} ms"
        if worst > _LATE:
            return warn("stream", f"{message}: something holds them back for a while", _BUFFERED)
        if coding:
            return warn("stream", f"{message}, but something on the way compresses them", _BUFFERED)
        return ok("stream", f"{message}, each as it is sent")

    async def _echo(self, http: httpx.AsyncClient) -> tuple[list[float], str]:
        """The seconds that each event took, and the stream's Content-Encoding.

        Raises TimeoutError if an event does not come, httpx.HTTPError, CliError.
        """
        probe = uuid.uuid4().hex
        query = {"events": _TYPE, "filters": json.dumps({"probe": probe})}
        delays: list[float] = []
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self.patience):
                opening = http.stream(
                    "GET", "/v1/events/subscribe", params=query, timeout=2 * self.patience
                )
                stream = await stack.enter_async_context(opening)
                if not stream.is_success:
                    await stream.aread()
                    _check(stream)
                lines = stream.aiter_lines()
                await anext(lines)  # a first comment leaves the server at once
            for number in range(_EVENTS):
                began = time.monotonic()
                body = {"type": _TYPE, "data": {"probe": probe, "number": number}}
                _check(await http.post("/v1/events", json=body))
                async with asyncio.timeout(self.patience):
                    await _until(lines, probe, number)
                delays.append(time.monotonic() - began)
        return delays, stream.headers.get("content-encoding", "")


def _failure(url: str, error: httpx.HTTPError) -> NetworkError:
    """The error of an exchange that failed."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return broken_off(url, "the server did not answer in time")
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return not_reached(url, reason)
    return broken_off(url, reason)


def _check(response: httpx.Response) -> None:
    """Raises CliError for a read response that is no success."""
    if response.is_success:
        return
    try:
        error = response.json()["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        location = response.headers.get("Location", "") if response.is_redirect else None
        raise from_between(str(response.url), response.status_code, location) from None
    raise from_server(code, message, request_id=str(error.get("request_id", "")))


def _refused(error: InvalidStatus) -> tuple[str, str]:
    """The message for a refused handshake, and the next step.

    The server's own words name the header that has not reached it.
    """
    response = error.response
    status = f"a WebSocket is refused with {response.status_code}"
    try:
        message = str(json.loads(response.body or b"")["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{status}, and not by the server", _UPGRADE
    if response.status_code == 426:
        return f"{status}: something on the way drops a header. {message}", _UPGRADE
    return f"{status}: {message}", "use a key that has the scope events:read"


async def _until(lines: AsyncIterator[str], probe: str, number: int) -> None:
    """Read up to the event. Raises httpx.RemoteProtocolError if the stream ends before it."""
    async for line in lines:
        if line.startswith("data:") and probe in line:
            data = json.loads(line.removeprefix("data:")).get("data", {})
            if data.get("number") == number:
                return
    raise httpx.RemoteProtocolError("the stream ended")

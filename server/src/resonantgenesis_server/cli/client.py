"""The Python SDK as the commands use it.

The SDK reads, resumes and repeats; the commands decide how long that may take and what a person
hears of it. The SDK is imported when a command first needs it, since `--help` does not.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .errors import CliError, NetworkError, broken_off, from_between, from_server, not_reached
from .target import Target, is_loopback

if TYPE_CHECKING:
    from resonantgenesis import Page, Reconnection, StreamError, SyncResonantGenesis

#: Takes a sentence for the person who waits.
Notice = Callable[[str], None]

#: Seconds of failing after which a broken stream of chunks, or a transfer, is given up.
PATIENCE = 30.0
#: Seconds that a tail, which is left alone for hours, waits for its server to come back.
TAIL_PATIENCE = 300.0
#: Seconds that a call which is safe to repeat is repeated for.
CALL_PATIENCE = 10.0
#: A time after all events: the cursor found there is the end of the log.
END = "9999-12-31T23:59:59Z"

_CONNECT, _SILENCE = 5.0, 15.0
#: Seconds for an answer. A server that syncs a large file to its disk may need a while.
_ANSWER, _TRANSFER_ANSWER = 30.0, 120.0
#: About 300 s of the SDK's back-off, which the `Patience` of each call ends earlier.
_RETRIES = 80
_PAGE = 200

# The commands say themselves that a server cannot be reached; the SDK's log need not.
logging.getLogger("resonantgenesis").addHandler(logging.NullHandler())


@contextlib.contextmanager
def open_client(target: Target, *, patient: bool = False) -> Iterator[SyncResonantGenesis]:
    """A client of the server. Every error of the SDK in the block becomes a CliError.

    The first failure of a call is raised. `patient`: a failed call is repeated, and needs a
    `Patience` as its `on_reconnect`.
    """
    from resonantgenesis import SyncResonantGenesis, Timeouts

    answer = _TRANSFER_ANSWER if patient else _ANSWER
    with (
        translated(target.url),
        SyncResonantGenesis(
            api_key=target.key,
            base_url=target.url,
            timeout=Timeouts(connect=_CONNECT, answer=answer, silence=_SILENCE),
            max_retries=_RETRIES if patient else 0,
            # A proxy is for the network; a server on this machine is not behind one.
            trust_env=not is_loopback(target.url),
        ) as client,
    ):
        yield client


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise a CliError for an error of the SDK; `url` is the server's address."""
    from resonantgenesis import StreamError

    try:
        yield
    except StreamError as error:
        raise _from_sdk(error, url) from error


def _from_sdk(error: StreamError, url: str) -> CliError:
    from resonantgenesis import ConnectionLost

    if isinstance(error, ConnectionLost):
        if error.status is not None:  # the server stored something else
            return CliError(f"{error.message}; try again")
        return (broken_off if error.reached else not_reached)(url, error.message)
    if error.status is not None and error.request_id is None:
        return from_between(url, error.status, error.details.get("location"))
    return from_server(
        error.code,
        error.message,
        request_id=error.request_id or "",
        details=error.details,
    )


class Patience:
    """An `on_reconnect` that gives up a call when it has failed for too long.

    It says once that the connection is lost, and once that there is one again. Most failures are
    over after the first attempt, which comes at once, so the first failure is not said.
    """

    def __init__(
        self, seconds: float, say: Notice, doing: str | None = None, *, reached: bool = True
    ) -> None:
        """`seconds`: how long a call may fail. `doing`: the words for a lost connection; None:
        the place from which the stream goes on. `reached`: the server has answered before; if
        not, a first connection that cannot be made is final."""
        self._seconds = seconds
        self._say = say
        self._doing = doing
        self._reached = reached
        self._failures = 0
        self._since = 0.0
        self._was_said = False

    def __call__(self, reconnection: Reconnection) -> None:
        """Raises the StreamError that ended the last attempt, once the patience is spent."""
        if reconnection.error is None:
            self._connected()
            return
        now = time.monotonic()
        if self._failures == 0:
            self._since = now
        self._failures += 1
        self._reached = self._reached or getattr(reconnection.error, "reached", True)
        if not self._reached or now - self._since + reconnection.delay > self._seconds:
            raise reconnection.error
        if self._failures > 1 and not self._was_said:
            self._was_said = True
            place = reconnection.cursor or f"position {reconnection.position or 0}"
            self._say(self._doing or f"connection lost, trying again from {place}")

    def _connected(self) -> None:
        self._failures = 0
        if self._was_said:
            self._was_said = False
            self._say("connected again")


def items(list_page: Callable[..., Page[Any]], limit: int) -> Iterator[dict[str, Any]]:
    """At most `limit` items of a list; `list_page` takes `limit` and `cursor`."""
    cursor: str | None = None
    while limit > 0:
        page = list_page(limit=min(limit, _PAGE), cursor=cursor)
        for item in page:
            yield item.raw
        limit -= len(page)
        cursor = page.next_cursor
        if cursor is None:
            return


def cursor_behind(client: SyncResonantGenesis, since: str, **event_filter: Any) -> str:
    """The cursor behind the first event since a place; the end's if there is none."""
    cursor = client.events.list(since=since, limit=1, **event_filter).next_cursor
    if cursor is None:
        raise NetworkError(f"{client.base_url} did not say where its events end; check --url")
    return cursor

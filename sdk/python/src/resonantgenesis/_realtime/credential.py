"""The credential of a socket: a fixed one, or fresh ones from a callable of the caller's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from ..errors import AuthenticationError, ConnectionLost, StreamError
from .requests import Message, PendingReply

#: Returns a credential; may be asynchronous.
GetToken = Callable[[], str | Awaitable[str]]

#: Seconds before a token that could not be fetched is asked for again; never more often.
RENEW_AGAIN = 1.0
#: A token is replaced when so much of its remaining life is over.
_USED = 0.8


class Credential:
    """`get_token` is asked for every new socket, and before a token expires."""

    def __init__(self, api_key: str, get_token: GetToken | None, timeout: float) -> None:
        self._api_key = api_key
        self._get_token = get_token
        self._timeout = timeout
        self._used: str | None = None
        self._refused: str | None = None

    @property
    def renewable(self) -> bool:
        """Whether there is a callable to ask."""
        return self._get_token is not None

    @property
    def current(self) -> str:
        """The credential that was used last."""
        return self._used or self._api_key

    async def fetch(self) -> str:
        """The credential to use now.

        Raises AuthenticationError for one that was refused already, ConnectionLost where the
        callable fails or takes too long, since that may pass.
        """
        token = self._api_key if self._get_token is None else await self._request(self._get_token)
        if token == self._refused:
            raise AuthenticationError("the credential was refused, and get_token has no other")
        self._used = token
        return token

    def refused(self, error: StreamError) -> StreamError:
        """The error of a refused credential: retryable if `get_token` may bring another one."""
        if not self.renewable or error.code != "UNAUTHENTICATED":
            return error
        self._refused = self._used
        return ConnectionLost(error.message)

    async def _request(self, get_token: GetToken) -> str:
        try:
            async with asyncio.timeout(self._timeout):
                token = get_token()
                return await token if inspect.isawaitable(token) else token
        except Exception as error:
            # The callable is the caller's: whatever it raises, it brought no credential.
            raise ConnectionLost(f"get_token failed: {error or type(error).__name__}") from error


def renew_in(expires_at: object, now: datetime | None = None) -> float | None:
    """Seconds until a token that expires at an RFC 3339 time is to be replaced; None: never."""
    if not isinstance(expires_at, str):
        return None
    try:
        left = (datetime.fromisoformat(expires_at) - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, TypeError):
        return None
    return max(RENEW_AGAIN, left * _USED)


class TokenRenewal:
    """Replaces a socket's token before it expires, if `get_token` can bring one."""

    def __init__(
        self,
        credential: Credential,
        request: Callable[[Message], PendingReply],
        nudge: Callable[[], None],
    ) -> None:
        self._credential = credential
        self._request = request
        self._nudge = nudge
        self._asked: PendingReply | None = None
        self._at: float | None = None

    def begin(self) -> None:
        """Send the token as a message too: the answer names its expiry."""
        if self._credential.renewable:
            self._say(self._credential.current)

    async def tick(self, now: float) -> float | None:
        """Renew if it is time; returns the time of the next look."""
        if self._asked is not None and self._asked.there:
            answer, self._asked = self._asked.answer or {}, None
            left = renew_in(answer.get("expires_at"))
            self._at = None if left is None else now + left
        if self._at is not None and now >= self._at:
            self._at = now + RENEW_AGAIN
            with suppress(ConnectionLost):
                self._say(await self._credential.fetch())
        return self._at

    def _say(self, token: str) -> None:
        self._asked = self._request({"type": "auth", "token": token})
        self._asked.wake = self._nudge

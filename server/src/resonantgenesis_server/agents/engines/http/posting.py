"""Signed POSTs to endpoints: the connections of agents and of webhooks.

They lead to the public internet and to the hosts that a setting allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version

import httpcore
import httpx

from ....model.errors import InvalidRequest
from ...tools.base import in_thread
from ...tools.fetch.network import PublicNetwork, is_public
from ...tools.settings import AllowedHost

_CONNECT_SECONDS, _WRITE_SECONDS = 5.0, 30.0
_MAX_CONNECTIONS, _MAX_IDLE, _IDLE_SECONDS = 1_000, 100, 15.0


class PostFailed(Exception):
    """There is no answer. The message is what the endpoint did, without its name."""


class EndpointClient:
    """One pool of connections. To be closed."""

    def __init__(self, allow_hosts: Collection[str], setting: str, silence: float) -> None:
        """`setting` is the name of the setting that `allow_hosts` comes from; `silence` is in
        seconds."""
        self.setting = setting
        self._allowed = [AllowedHost.parse(host) for host in allow_hosts]
        self._timeouts = {
            "connect": _CONNECT_SECONDS,
            "write": _WRITE_SECONDS,
            "read": silence,
            "pool": _WRITE_SECONDS,
        }
        self._opening = asyncio.Lock()
        self._pool: httpcore.AsyncConnectionPool | None = None

    def check(self, url: httpx.URL) -> None:
        """Raises InvalidRequest unless requests to this address may be tried."""
        if url.scheme != "https" and not self._is_allowed(url):
            raise InvalidRequest.field(
                "url", f"must begin with https://, unless {self.setting} lists its host"
            )

    def leads_inside(self, url: httpx.URL) -> bool:
        """Whether no request can get there. Of a name each connection decides."""
        try:
            return not is_public(url.host) and not self._is_allowed(url)
        except ValueError:
            return False

    def _is_allowed(self, url: httpx.URL) -> bool:
        port = url.port or (443 if url.scheme == "https" else 80)
        return any(each.covers(url.host, port) for each in self._allowed)

    @asynccontextmanager
    async def post(
        self, url: httpx.URL, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> AsyncIterator[httpcore.Response]:
        """The answer, whose body is still to be read. Raises AddressRefused, and PostFailed, which
        reading the answer raises as well."""
        pool = await self._open()
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        try:
            async with pool.stream(
                "POST",
                target,
                headers=[*_headers(url), *headers],
                content=body,
                extensions={"timeout": self._timeouts},
            ) as response:
                yield response
        except httpcore.TimeoutException as error:
            raise PostFailed("did not answer in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            why = str(error)[:200] or "the connection failed"
            raise PostFailed(f"could not be asked: {why}") from error

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def _open(self) -> httpcore.AsyncConnectionPool:
        async with self._opening:
            if self._pool is None:
                trust = await in_thread(httpcore.default_ssl_context, "agents read certificates")
                self._pool = httpcore.AsyncConnectionPool(
                    trust,
                    max_connections=_MAX_CONNECTIONS,
                    max_keepalive_connections=_MAX_IDLE,
                    keepalive_expiry=_IDLE_SECONDS,
                    network_backend=PublicNetwork(self._allowed),
                )
            return self._pool


def _headers(url: httpx.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", f"ResonantGenesis/{version('resonantgenesis-server')}".encode()),
    ]


def header_of(response: httpcore.Response, name: bytes) -> str:
    """The first header of this name in lower case, or the empty text."""
    found = [value for key, value in response.headers if key.lower() == name]
    return found[0].decode("latin-1") if found else ""


def retry_after(response: httpcore.Response) -> float | None:
    """The seconds that the answer asks to wait."""
    text = header_of(response, b"retry-after")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None


def status_text(status: int) -> str:
    """The status with its phrase."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)

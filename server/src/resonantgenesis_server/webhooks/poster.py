"""One attempt to deliver: the request, and what became of it."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpcore

from .. import metrics
from ..agents.engines.http.endpoint import EndpointRecords
from ..agents.engines.http.posting import (
    EndpointClient,
    PostFailed,
    header_of,
    retry_after,
    status_text,
)
from ..agents.tools.fetch.network import AddressRefused
from ..config.webhooks import WebhookSettings
from ..model.errors import InvalidRequest
from ..tracing import spans
from .message import Message, headers_of

#: Bytes of an answer that are kept, and that are read so that its connection can be used again.
_KEPT, _READ = 1_000, 65_536


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt. `error` None: the receiver has taken the message."""

    status: int | None
    error: str | None
    answer: str | None
    duration_ms: int
    retry_after: float | None = None

    @property
    def is_gone(self) -> bool:
        return self.status == HTTPStatus.GONE


class Slots:
    """Attempts at once: of all organizations, and of one.

    Receivers that have just failed have slots of their own. So those that hang until the time-out
    hold up no others, however many they are.
    """

    def __init__(self, total: int, of_organization: int) -> None:
        self._total = _Lanes(total)
        self._of_organization = of_organization
        self._organizations: weakref.WeakValueDictionary[str, _Lanes] = (
            weakref.WeakValueDictionary()
        )

    @asynccontextmanager
    async def taken(
        self, organization_id: str, *, is_failing: bool, wait: float | None = None
    ) -> AsyncIterator[None]:
        """Raises TimeoutError if there is none for `wait` seconds; None: as long as it takes."""
        lanes = self._organizations.get(organization_id)
        if lanes is None:
            lanes = self._organizations[organization_id] = _Lanes(self._of_organization)
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(wait):
                for each in (lanes, self._total):
                    await stack.enter_async_context(each.lane(is_failing))
            yield


class _Lanes:
    def __init__(self, slots: int) -> None:
        self._healthy = asyncio.Semaphore(slots)
        self._failing = asyncio.Semaphore(max(1, slots // 4))

    def lane(self, is_failing: bool) -> asyncio.Semaphore:
        return self._failing if is_failing else self._healthy


class Poster:
    """Sends messages to endpoints. To be closed."""

    def __init__(
        self,
        settings: WebhookSettings,
        endpoints: EndpointRecords,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.endpoints = endpoints
        self.client = EndpointClient(settings.allow_hosts, "webhooks.allow_hosts", settings.timeout)
        self._slots = Slots(settings.concurrency, settings.organization_concurrency)
        self._timeout = settings.timeout
        self._now = now

    async def close(self) -> None:
        await self.client.close()

    async def post(
        self,
        organization_id: str,
        kept: Mapping[str, Any],
        message: Message,
        *,
        is_failing: bool = False,
        wait: float | None = None,
    ) -> Outcome:
        """One attempt, once there is a slot; `kept` is the endpoint as the records have it. Any
        answer but 2xx is a failure, and a redirect is never followed. `wait`: see `Slots.taken`."""
        async with self._slots.taken(organization_id, is_failing=is_failing, wait=wait):
            with spans.delivery(message.type, message.id, message.traceparent) as span:
                outcome = await self._attempt(kept, message)
                span.set(http__response__status_code=outcome.status)
                if outcome.error is not None:
                    span.fail(str(outcome.status or "no_answer"))
        metrics.webhook_posted(
            "failed" if outcome.error else "delivered", outcome.duration_ms / 1_000
        )
        return outcome

    async def _attempt(self, kept: Mapping[str, Any], message: Message) -> Outcome:
        began = time.perf_counter()
        status = answer = error = wait = None
        try:
            endpoint = self.endpoints.open(kept)
            headers = headers_of(message, endpoint, self._now())
            headers += [(name.encode(), of.encode()) for name, of in spans.headers().items()]
            async with (
                asyncio.timeout(self._timeout),
                self.client.post(endpoint.url, headers, message.body) as response,
            ):
                status, wait = response.status, retry_after(response)
                if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                    error = f"the receiver answered {_said(response)}"
                answer = await _beginning(response)
        except TimeoutError:
            error = error or f"the receiver did not answer within {self._timeout:g} s"
        except PostFailed as failure:
            error = error or f"the receiver {failure}"
        except AddressRefused:
            error = (
                "the address is not on the public internet; the server's setting"
                f" {self.client.setting} lists the others"
            )
        except InvalidRequest as problem:  # kept under another secret of the server
            error = problem.message
        seconds = time.perf_counter() - began
        error = None if error is None else _printable(error)
        return Outcome(status, error, answer, round(seconds * 1_000), wait)


def _printable(text: str) -> str:
    """The text, whose parts may be a receiver's, on one line."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _said(response: httpcore.Response) -> str:
    said = status_text(response.status)
    location = header_of(response, b"location")[:200]
    return f"{said} to {location}, which is not followed" if location else said


async def _beginning(response: httpcore.Response) -> str:
    """The first bytes of the answer as text."""
    data = bytearray()
    async for part in response.aiter_stream():
        data += part
        if len(data) > _READ:
            break
    return bytes(data[:_KEPT]).decode("utf-8", "replace").replace("\0", "\ufffd")

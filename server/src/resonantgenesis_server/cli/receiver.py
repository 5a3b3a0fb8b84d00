"""A receiver of webhooks on this machine, for `webhooks listen`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from ..agents.engines.http.endpoint import Endpoint, EndpointRecords
from ..codec.json import dumps
from ..webhooks.message import Message, headers_of

#: Seconds that a receiver has for its answer.
_SECONDS = 15.0


class Receiver:
    """Takes events as from a webhook. `secret` is what signs them, as it is shown."""

    def __init__(self, http: httpx.Client, endpoint: Endpoint, secret: str) -> None:
        self._http, self._endpoint = http, endpoint
        self.secret = secret

    def send(self, event: dict[str, Any]) -> str:
        """Returns the status of the answer, or why there was none."""
        body = dumps({**event, "timestamp": event["created_at"]})
        message = Message(event["id"], event["type"], body)
        headers = headers_of(message, self._endpoint, time.time())
        try:
            answer = self._http.post(self._endpoint.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            return str(error) or "no answer"
        return str(answer.status_code)


@contextmanager
def open_receiver(address: str, secret: str | None) -> Iterator[Receiver]:
    """The receiver at an address; without a secret it gets a new one."""
    records = EndpointRecords()
    kept, shown = records.make(address, secret)
    with httpx.Client(timeout=_SECONDS, trust_env=False) as http:
        yield Receiver(http, records.open(kept), shown)

"""What a receiver gets: the body of an event, and the headers that sign it.

Two sets of headers sign each request. Standard Webhooks (standardwebhooks.com) has libraries in
every language. `X-Webhook-Signature` is simpler to check by hand.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..agents.engines.http.endpoint import Endpoint
from ..codec.events import event_json
from ..codec.json import dumps
from ..codec.times import rfc3339
from ..feed.filter import parsed
from ..log.base import Entry

Format = Literal["event", "cloudevents"]


@dataclass(frozen=True, slots=True)
class Message:
    """`id` and `type` are those of the event."""

    id: str
    type: str
    body: bytes
    content_type: str = "application/json"
    #: The place of the event's turn in a trace; empty if there is none.
    traceparent: str = ""


def message_of(entry: Entry, epoch: str, format: str, organization_id: str) -> Message:
    """The message of an event in the log."""
    event = parsed(entry)
    at = rfc3339(entry.at / 1e6)
    parent = event["metadata"].get("traceparent", "")
    if format == "cloudevents":
        made = cloud_event(event["id"], entry.kind, at, organization_id, event["data"])
        return replace(made, traceparent=parent)
    # Standard Webhooks asks for `timestamp` beside `type` and `data`.
    body = b'%b,"timestamp":"%b"}' % (event_json(entry, epoch)[:-1], at.encode())
    return Message(event["id"], entry.kind, body, traceparent=parent)


def trial(event_id: str, format: str, organization_id: str, webhook_id: str, now: float) -> Message:
    """The message of a test, whose event is in no log."""
    kind, data, at = "webhook.test", {"webhook_id": webhook_id}, rfc3339(now)
    if format == "cloudevents":
        return cloud_event(event_id, kind, at, organization_id, data)
    metadata = {"organization_id": organization_id, "key_id": None, "request_id": None}
    event = {"id": event_id, "type": kind, "channel": "webhooks", "data": data}
    rest = {"metadata": metadata, "created_at": at, "timestamp": at}
    return Message(event_id, kind, dumps(event | rest))


def cloud_event(
    event_id: str, kind: str, at: str, organization_id: str, data: Mapping[str, Any]
) -> Message:
    """An event as CloudEvents 1.0 has it, in structured JSON."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/organizations/{organization_id}",
        "type": kind,
        "time": at,
        "datacontenttype": "application/json",
    }
    session_id = data.get("session_id")
    if isinstance(session_id, str) and session_id:
        event["subject"] = session_id
    return Message(
        event_id, kind, dumps(event | {"data": data}), "application/cloudevents+json; charset=utf-8"
    )


def headers_of(message: Message, endpoint: Endpoint, now: float) -> list[tuple[bytes, bytes]]:
    """The headers of a request at `now`. While a secret is being replaced, the standard's header
    has a signature by each, and `X-Webhook-Signature` that of the new one."""
    signed = endpoint.signed(message.id, message.body, now)
    timestamp = dict(signed)[b"webhook-timestamp"]
    digest = hmac.digest(endpoint.secrets[0], timestamp + b"." + message.body, "sha256").hex()
    own = [(name.encode(), value.encode()) for name, value in endpoint.headers.items()]
    return [
        *own,
        (b"Accept", b"*/*"),
        (b"Content-Type", message.content_type.encode()),
        *signed,
        (b"X-Webhook-Timestamp", timestamp),
        (b"X-Webhook-Signature", b"sha256=" + digest.encode()),
    ]

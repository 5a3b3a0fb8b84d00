"""What a receiver of webhooks needs: `verify_webhook`, which is all that stands between it and
anybody who knows its address.

event = verify_webhook(await request.body(), request.headers, secret)
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Seconds that the clocks of sender and receiver may be apart.
TOLERANCE = 300.0
_PREFIX = "whsec_"
_MADE = 32


class WebhookVerificationError(ValueError):
    """The request is not one of the server's, or an old one; do not read it."""


def new_webhook_secret() -> str:
    """A secret for a webhook or a callback: `whsec_` and base64 of 32 random bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_MADE)).decode()


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> dict[str, Any]:
    """The event of a request, once its signature has been checked.

    `body` is the body as it came, before it is parsed. `headers` may have names in any case; those
    of Standard Webhooks are checked, else `X-Webhook-Signature`. `secret` is `whsec_…`, or several
    while one replaces another. `tolerance` is in seconds, `now` in seconds since 1970. Raises
    WebhookVerificationError, and ValueError for what is no secret.
    """
    keys = [_key(each) for each in ([secret] if isinstance(secret, str) else secret)]
    raw = body.encode() if isinstance(body, str) else bytes(body)
    found = {name.lower(): value for name, value in headers.items()}
    if "webhook-signature" in found:
        _check_standard(raw, found, keys, tolerance, now)
    elif "x-webhook-signature" in found:
        _check_plain(raw, found, keys, tolerance, now)
    else:
        raise WebhookVerificationError("the request has no signature")
    try:
        event = json.loads(raw)
    except ValueError:
        raise WebhookVerificationError("the body is no JSON") from None
    if not isinstance(event, dict):
        raise WebhookVerificationError("the body is no JSON object")
    return event


def _check_standard(
    body: bytes,
    headers: Mapping[str, str],
    keys: Iterable[bytes],
    tolerance: float,
    now: float | None,
) -> None:
    timestamp = _timestamp(headers.get("webhook-timestamp"), tolerance, now)
    content = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    given = [
        part.removeprefix("v1,")
        for part in headers["webhook-signature"].split(" ")
        if part.startswith("v1,")
    ]
    wanted = [base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys]
    _check_any(given, wanted)


def _check_plain(
    body: bytes,
    headers: Mapping[str, str],
    keys: Iterable[bytes],
    tolerance: float,
    now: float | None,
) -> None:
    timestamp = _timestamp(headers.get("x-webhook-timestamp"), tolerance, now)
    content = f"{timestamp}.".encode() + body
    wanted = ["sha256=" + hmac.digest(key, content, "sha256").hex() for key in keys]
    _check_any([headers["x-webhook-signature"]], wanted)


def _timestamp(text: str | None, tolerance: float, now: float | None) -> str:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 12:
        raise WebhookVerificationError("the request has no timestamp")
    if abs((time.time() if now is None else now) - int(text)) > tolerance:
        raise WebhookVerificationError("the timestamp is too far away")
    return text


def _check_any(given: Iterable[str], wanted: Sequence[str]) -> None:
    for signature in given:
        for right in wanted:
            if hmac.compare_digest(signature.encode("utf-8", "replace"), right.encode()):
                return
    raise WebhookVerificationError("the signature is wrong")


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the secret of a webhook is whsec_ and base64") from None

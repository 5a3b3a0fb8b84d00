"""`verify_webhook` takes what a library of Standard Webhooks signs, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from resonantgenesis import WebhookVerificationError, new_webhook_secret, verify_webhook
from standardwebhooks.webhooks import Webhook

BODY = '{"id":"evt_1","type":"app.a","data":{"name":"Zoë"}}'
NOW = 1_800_000_000
SECRET, OTHER = new_webhook_secret(), new_webhook_secret()


def standard(*secrets: str, body: str = BODY, at: int = NOW) -> dict[str, str]:
    moment = datetime.fromtimestamp(at, UTC)
    signed = [Webhook(secret).sign("evt_1", moment, body) for secret in secrets]
    return {
        "Webhook-Id": "evt_1",
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": " ".join(signed),
    }


def plain(secret: str, body: str = BODY, at: int = NOW) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return {"X-Webhook-Timestamp": str(at), "X-Webhook-Signature": f"sha256={digest}"}


@pytest.mark.parametrize("headers", [standard(SECRET), standard(OTHER, SECRET), plain(SECRET)])
def test_what_is_signed_is_taken(headers: Mapping[str, str]) -> None:
    for body in (BODY, BODY.encode()):
        assert verify_webhook(body, headers, SECRET, now=NOW)["data"] == {"name": "Zoë"}
    assert verify_webhook(BODY, headers, ["whsec_" + "QUFB" * 8, SECRET], now=NOW + 299)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        standard(OTHER),
        plain(OTHER),
        standard(SECRET, body=BODY + " "),
        plain(SECRET, body=BODY + " "),
        standard(SECRET, at=NOW - 301),
        plain(SECRET, at=NOW + 301),
        standard(SECRET) | {"Webhook-Timestamp": str(NOW + 1)},
        standard(SECRET) | {"Webhook-Timestamp": "now"},
        standard(SECRET) | {"Webhook-Id": "evt_2"},
        standard(SECRET) | {"Webhook-Signature": "v1a,abc"},
        # Whoever has signed one set of headers has signed the other.
        plain(SECRET) | {"Webhook-Signature": "v1,abc", "Webhook-Timestamp": str(NOW)},
        plain(SECRET) | {"X-Webhook-Signature": "sha256=é"},
    ],
)
def test_all_else_is_refused(headers: Mapping[str, str]) -> None:
    with pytest.raises(WebhookVerificationError):
        verify_webhook(BODY, headers, SECRET, now=NOW)


def test_a_signed_body_that_is_no_event_is_refused() -> None:
    for body in ("[]", "nothing"):
        with pytest.raises(WebhookVerificationError):
            verify_webhook(body, standard(SECRET, body=body), SECRET, now=NOW)
    with pytest.raises(ValueError, match="whsec_ and base64"):
        verify_webhook(BODY, standard(SECRET), "whsec_?", now=NOW)

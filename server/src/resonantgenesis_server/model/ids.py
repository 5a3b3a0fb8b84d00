"""Identifiers: a prefix that tells the kind, then 20 random characters of [0-9a-v] (100 bits)."""

from __future__ import annotations

import base64
import re
import secrets

_AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ANY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def new_id(prefix: str) -> str:
    """A fresh id, e.g. `sess_0h2c…`; unguessable, safe in URLs and file names."""
    return f"{prefix}_{base64.b32hexencode(secrets.token_bytes(13)).decode().lower()[:20]}"


def is_agent_id(text: str) -> bool:
    """Whether `text` may name an agent: `[A-Za-z0-9_-]{1,64}`."""
    return _AGENT_ID.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether `text` could be any id of ours; what is not cannot exist."""
    return _ANY_ID.fullmatch(text) is not None

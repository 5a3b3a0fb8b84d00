"""RFC 3339 times between text and numbers."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """UTC with microseconds, e.g. `2026-02-21T00:00:00.000000Z`; `seconds` are since 1970.

    Rounded as the stores round, so that a time is the same before and after it was kept.
    """
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    moment = datetime.fromtimestamp(whole, UTC).replace(microsecond=micros)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339_or_none(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def parse_time(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time. Returns None for any other text.

    A time without a zone is UTC. A date is the midnight (UTC) with which it begins.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e6)

"""The tool `current_time`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .base import JsonValue, ToolContext, ToolError, text_argument

_MAX_NAME = 64


def _now() -> datetime:
    return datetime.now(UTC)


class CurrentTime:
    """The tool `current_time`. `now` gives the time, with its zone."""

    name = "current_time"
    description = "Tells the current date, weekday and time, in UTC or in a time zone."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "timezone": {
                "type": "string",
                "maxLength": _MAX_NAME,
                "default": "UTC",
                "description": "IANA name, e.g. Europe/Berlin.",
            }
        },
        "additionalProperties": False,
    }

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self._now = now

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """`{time, weekday, timezone, utc_offset}`, with `time` in ISO 8601 to the second."""
        name = text_argument(args, "timezone", _MAX_NAME) if "timezone" in args else "UTC"
        zone = UTC if name.upper() == "UTC" else await asyncio.to_thread(_zone, name)
        local = self._now().astimezone(zone).replace(microsecond=0)
        return {
            "time": local.isoformat(),
            "weekday": local.strftime("%A"),
            "timezone": "UTC" if zone is UTC else name,
            "utc_offset": local.isoformat()[-6:],
        }


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:  # OSError: it names a directory
        raise ToolError(
            f"there is no time zone {name!r}; give an IANA name like Europe/Berlin"
        ) from exc

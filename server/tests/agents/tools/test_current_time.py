from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from resonantgenesis_server.agents.tools.base import NO_CONTEXT, ToolError
from resonantgenesis_server.agents.tools.current_time import CurrentTime

pytestmark = pytest.mark.anyio

SUMMER = CurrentTime(lambda: datetime(2026, 7, 3, 22, 30, 15, 123456, UTC))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, ("2026-07-03T22:30:15+00:00", "Friday", "UTC", "+00:00")),
        ({"timezone": "utc"}, ("2026-07-03T22:30:15+00:00", "Friday", "UTC", "+00:00")),
        (
            {"timezone": "Europe/Berlin"},
            ("2026-07-04T00:30:15+02:00", "Saturday", "Europe/Berlin", "+02:00"),
        ),
        (
            {"timezone": "America/St_Johns"},
            ("2026-07-03T20:00:15-02:30", "Friday", "America/St_Johns", "-02:30"),
        ),
    ],
)
async def test_the_time_in_a_zone(args: dict[str, Any], expected: tuple[str, ...]) -> None:
    result: Any = await SUMMER.call(args, NO_CONTEXT)
    names = ("time", "weekday", "timezone", "utc_offset")
    assert tuple(result[name] for name in names) == expected


async def test_without_a_clock_of_its_own_it_tells_the_time_of_now() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    result: Any = await CurrentTime().call({}, NO_CONTEXT)
    assert before <= datetime.fromisoformat(result["time"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    "zone",
    ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "a\0b", "", 5, "x" * 65],
)
async def test_what_is_no_zone_is_said(zone: object) -> None:
    with pytest.raises(ToolError, match=r"time ?zone"):
        await SUMMER.call({"timezone": zone}, NO_CONTEXT)

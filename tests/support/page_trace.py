"""What a page costs, by the browser's own trace."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from playwright.async_api import Page


@dataclass(frozen=True)
class Trace:
    """What the page's main thread did: milliseconds of its tasks, and between its frames.

    A task's time is what the processor worked for it: others on the machine do not lengthen it.
    """

    tasks: list[float]
    frames: list[float]

    @classmethod
    def of(cls, raw: bytes) -> Trace:
        events: list[dict[str, Any]] = json.loads(raw)["traceEvents"]
        # The page is the renderer whose main thread did most; the browser has others in reserve.
        threads = {
            (each["pid"], each["tid"])
            for each in events
            if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
        }
        work: dict[tuple[int, int], list[float]] = {thread: [] for thread in threads}
        for each in events:
            thread = (each["pid"], each.get("tid", 0))
            if each["name"] == "RunTask" and thread in work:
                work[thread].append(each.get("tdur", 0) / 1000)
        page = max(work, key=lambda thread: sum(work[thread]))
        drawn = sorted(
            each["ts"] / 1000
            for each in events
            if each["name"] == "DrawFrame" and each["pid"] == page[0]
        )
        return cls(work[page], [b - a for a, b in pairwise(drawn)])

    @property
    def longest(self) -> float:
        return max(self.tasks)

    @property
    def frame(self) -> float:
        """The usual time between two frames."""
        return statistics.median(self.frames)


class Tracing:
    """Traces the page inside of a `with`; `trace` is what was seen."""

    def __init__(self, page: Page) -> None:
        assert page.context.browser is not None
        self._browser, self._page = page.context.browser, page
        self.trace = Trace([], [])

    async def __aenter__(self) -> Tracing:
        categories = [
            "toplevel",
            "devtools.timeline",
            "disabled-by-default-devtools.timeline.frame",
        ]
        categories += ["devtools.timeline.frame", "disabled-by-default-devtools.timeline"]
        await self._browser.start_tracing(page=self._page, categories=categories)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.trace = Trace.of(await self._browser.stop_tracing())

"""All scenarios, in the order in which they run."""

from __future__ import annotations

from .base import Scenario
from .fanout import ADAPTERS, DEFLATE, SSE, WEBSOCKET
from .first import FIRST
from .idle import IDLE
from .resume import COMPACT, RESUME
from .slow import SLOW_READERS
from .storm import STORM
from .tokens import RAISE, TOKENS
from .topics import TOPICS

SCENARIOS: tuple[Scenario, ...] = (
    SSE,
    WEBSOCKET,
    TOKENS,
    RAISE,
    FIRST,
    RESUME,
    COMPACT,
    IDLE,
    STORM,
    TOPICS,
    DEFLATE,
    SLOW_READERS,
    ADAPTERS,
)

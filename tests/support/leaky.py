"""An agent with a secret in its hands when it fails."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

from resonantgenesis_server.agent_api import AgentChunk, Turn


async def leaky(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Fails as a provider's library does that repeats the key it was given."""
    key = os.environ["OPENAI_API_KEY"]
    headers = {"Authorization": f"Bearer {turn.goal}"}
    logging.getLogger("provider").error("refused: %s %r", key, headers)
    yield "asking "
    raise RuntimeError(f"401 Incorrect API key provided: {key} in {headers}")

"""An agent in twenty lines. In this directory:

resonantgenesis serve --agent words=agent:answer
"""

from collections import Counter
from collections.abc import AsyncIterator

from resonantgenesis_server.agent_api import AgentChunk, Step, ToolCall, ToolResult, Turn


async def answer(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Counts the words of the goal, and says how many turns the session has had."""
    yield Step("count")
    yield ToolCall("count_words", {"text": turn.goal}, call_id="1")
    counts = Counter(turn.goal.lower().split())
    yield ToolResult("count_words", dict(counts), call_id="1")
    yield Step("count", "completed")
    for word, count in counts.most_common(3):
        yield f"{word}: {count}\n"
    yield f"This is turn {len(turn.history) + 1} of our conversation."

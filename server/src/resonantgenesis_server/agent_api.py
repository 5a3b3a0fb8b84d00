"""What an agent written in Python imports: the turn it gets and the values it may yield.

An agent is a generator function, plain or async, that takes a `Turn` and yields `str` or these
values; `AgentError` tells the client, in the agent's own words, why the turn failed. A tool
written in Python raises `ToolError`, and gets the turn's `ToolContext` if it asks for one.
"""

from .agents.base import (
    Answer,
    ClientTool,
    Inbox,
    InboxMessage,
    NotAnswered,
    PastCall,
    PastStep,
    PastTurn,
    StoredFile,
    Turn,
    TurnFiles,
    TurnTools,
)
from .agents.declared import agent
from .agents.tools.base import ToolContext, ToolError
from .model.chunks import (
    AgentChunk,
    Ask,
    Data,
    File,
    Keep,
    Reasoning,
    Source,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from .model.errors import AgentError

__all__ = [
    "AgentChunk",
    "AgentError",
    "Answer",
    "Ask",
    "ClientTool",
    "Data",
    "File",
    "Inbox",
    "InboxMessage",
    "Keep",
    "NotAnswered",
    "PastCall",
    "PastStep",
    "PastTurn",
    "Reasoning",
    "Source",
    "Step",
    "StoredFile",
    "Text",
    "ToolCall",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "Turn",
    "TurnFiles",
    "TurnTools",
    "Usage",
    "agent",
]

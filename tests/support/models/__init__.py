"""A model provider of our own: a real HTTP server that says what a test tells it to.

It speaks the streaming wire formats of OpenAI's chat completions and Anthropic's messages, and
records what it was asked and which of its streams the client left.
"""

from .script import Call, Gate, Reply, Script
from .server import FakeProvider, Seen

__all__ = ["Call", "FakeProvider", "Gate", "Reply", "Script", "Seen"]

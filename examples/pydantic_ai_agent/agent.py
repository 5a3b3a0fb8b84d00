"""An agent of pydantic-ai, and the one line that serves it."""

import os

from pydantic_ai import Agent, DeferredToolRequests
from resonantgenesis_server import adapters

desk = Agent(
    os.environ.get("MODEL", "openai-chat:gpt-5-mini"),
    instructions="Answer briefly. Refund an order only if the customer asks.",
    output_type=[str, DeferredToolRequests],
)


@desk.tool_plain
def order_total(order: int) -> float:
    """The sum of an order."""
    return order * 10.0


@desk.tool_plain(requires_approval=True)
def refund(order: int) -> str:
    """Pay an order back."""
    return f"order {order} is paid back"


answer = adapters.pydantic_ai(desk)

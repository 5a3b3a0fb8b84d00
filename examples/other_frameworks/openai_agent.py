"""Two agents of OpenAI's Agents SDK, a tool that needs approval, and the line that serves them."""

import os

from agents import Agent, ModelSettings, function_tool, set_default_openai_api
from resonantgenesis_server import adapters

set_default_openai_api("chat_completions")  # which every OpenAI-compatible server speaks


@function_tool(needs_approval=True)
def refund(order: int) -> str:
    """Pay an order back."""
    return f"order {order} is paid back"


model = {
    "model": os.environ.get("MODEL", "gpt-5-mini"),
    "model_settings": ModelSettings(include_usage=True),
}
refunds = Agent(name="refunds", instructions="Pay orders back.", tools=[refund], **model)
desk = Agent(name="desk", instructions="Answer briefly.", handoffs=[refunds], **model)

answer = adapters.openai_agents(desk)

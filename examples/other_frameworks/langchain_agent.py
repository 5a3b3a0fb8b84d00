"""An agent of LangChain with a tool that needs approval, a chain, and the lines that serve both."""

import os

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from resonantgenesis_server import adapters

model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5-mini"), stream_usage=True)


def order_total(order: int) -> float:
    """The sum of an order."""
    return order * 10.0


def refund(order: int) -> str:
    """Pay an order back."""
    return f"order {order} is paid back"


desk = create_agent(
    model,
    tools=[order_total, refund],
    middleware=[HumanInTheLoopMiddleware({"refund": True})],
    system_prompt="Answer briefly. Refund an order only if the customer asks.",
)
translator = (
    ChatPromptTemplate.from_messages([("system", "Translate into French."), ("user", "{input}")])
    | model
    | StrOutputParser()
)

answer = adapters.langchain(desk)
translate = adapters.langchain(translator)

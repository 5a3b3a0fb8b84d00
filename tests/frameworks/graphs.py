"""Agents for the tests, served as `frameworks.graphs:NAME`."""

import operator
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from agents import Agent, RunContextWrapper, function_tool
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from resonantgenesis_server import adapters
from resonantgenesis_server.agent_api import Source


def graph_of(*nodes: Any, **options: Any) -> Any:
    """A graph whose nodes run one after the other; its state is messages."""
    graph = StateGraph(MessagesState)
    names = [getattr(node, "__name__", "helper") for node in nodes]
    for name, node in zip(names, nodes, strict=True):
        graph.add_node(name, node)
    for before, after in zip([START, *names], names, strict=False):
        graph.add_edge(before, after)
    return graph.compile(**options)


def say(text: Any) -> dict[str, Any]:
    return {"messages": [AIMessage(text)]}


# -- a team --------------------------------------------------------------------------------

researcher = create_agent(ChatOpenAI(model="researcher"), tools=[], name="researcher")


@tool
async def research(topic: str) -> str:
    """Find out about a topic."""
    found = await researcher.ainvoke({"messages": [("user", topic)]})
    return str(found["messages"][-1].content)


team = adapters.langchain(create_agent(ChatOpenAI(model="lead"), tools=[research], name="lead"))


# -- asks ----------------------------------------------------------------------------------


def talk(state: MessagesState) -> dict[str, Any]:
    first = interrupt("One?")
    return say(f"{first} {interrupt('Two?')} ")


def inner(state: MessagesState) -> dict[str, Any]:
    return say(f"{interrupt({'question': 'Three?'})}.")


asks = adapters.langgraph(graph_of(talk, graph_of(inner)))


def pay(state: MessagesState) -> dict[str, Any]:
    return say("Paid.")


careful = adapters.langgraph(graph_of(pay, interrupt_before=["pay"]))


class Trip(TypedDict):
    """A state of the graph's own."""

    goal: str
    said: Annotated[list[str], operator.add]


def first(state: Trip) -> dict[str, Any]:
    return {"said": [interrupt(f"{state['goal']}?", response_schema=int)]}


def second(state: Trip) -> dict[str, Any]:
    return {"said": [interrupt({"message": "And?"})]}


_trip = StateGraph(Trip)
for _node in (first, second):
    _trip.add_node(_node)
    _trip.add_edge(START, _node.__name__)
trip = adapters.langgraph(_trip.compile(), input=lambda turn: {"goal": turn.goal, "said": []})


# -- kinds of chunks -----------------------------------------------------------------------


def think(state: MessagesState) -> dict[str, Any]:
    cited = {"type": "citation", "url": "https://a.example", "title": "A"}
    thought = {"type": "reasoning", "reasoning": "Hm."}
    return say([thought, {"type": "text", "text": "Yes.", "annotations": [cited]}])


def note(state: MessagesState) -> dict[str, Any]:
    get_stream_writer()({"percent": 50})
    get_stream_writer()(Source("https://b.example"))
    return {}


kinds = adapters.langgraph(graph_of(think, note))


def count(state: MessagesState) -> dict[str, Any]:
    return say(f"{len(state['messages'])} messages")


forgets = adapters.langgraph(graph_of(count))
remembers = adapters.langgraph(graph_of(count, checkpointer=InMemorySaver()))


def again(state: MessagesState) -> dict[str, Any]:
    return {}


_endless = StateGraph(MessagesState)
_endless.add_node(again)
_endless.add_edge(START, "again")
_endless.add_edge("again", "again")
endless = adapters.langgraph(_endless.compile(), config=lambda turn: {"recursion_limit": 3})


# -- OpenAI's Agents SDK, twice in one process ---------------------------------------------


@dataclass
class Caller:
    """A context that no JSON can hold."""

    subject: str
    lock: threading.Lock = field(default_factory=threading.Lock)


@function_tool(needs_approval=True)
def whoami(caller: RunContextWrapper[Caller]) -> str:
    """Who asks."""
    return caller.context.subject


knowing = adapters.openai_agents(
    Agent(name="knowing", tools=[whoami], model="knowing"),
    context=lambda turn: Caller(turn.metadata["name"]),
)

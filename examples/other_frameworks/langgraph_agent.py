"""A graph of LangGraph that asks a person, and the one line that serves it."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from resonantgenesis_server import adapters


def book(state: MessagesState) -> dict:
    seats = interrupt({"message": "How many seats?", "trip": state["messages"][-1].content})
    return {"messages": [AIMessage(f"{seats} seats are booked. ")]}


def confirm(state: MessagesState) -> dict:
    return {"messages": [AIMessage("The tickets are in your mail.")]}


graph = StateGraph(MessagesState)
graph.add_node(book)
graph.add_node(confirm)
graph.add_edge(START, "book")
graph.add_edge("book", "confirm")

answer = adapters.langgraph(graph.compile())

"""Graphs of LangGraph, which agents of LangChain are as well."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.pregel import Pregel
from langgraph.types import Command, Interrupt
from pydantic_core import to_jsonable_python

from ..agent_api import (
    AgentChunk,
    AgentError,
    Answer,
    Ask,
    Data,
    Keep,
    NotAnswered,
    Step,
    Turn,
)
from .langchain_messages import (
    ToolCalls,
    conversation_of,
    parts_of,
    tool_call,
    tool_result,
    usage_of,
)

#: What `adapted` takes.
TAKES = Pregel
#: The node that runs tools, in LangGraph's and LangChain's own graphs.
_TOOLS = "tools"
#: Characters of a message of an ask.
_MAX_MESSAGE = 4_000
_OURS = tuple(kind for kind in get_args(AgentChunk) if kind is not str)


def adapted(
    graph: Any,
    make_input: Callable[[Turn], Any] | None,
    make_config: Callable[[Turn], Mapping[str, Any]] | None,
    make_context: Callable[[Turn], Any] | None,
) -> Callable[[Turn], AsyncGenerator[AgentChunk, None]]:
    """See `adapters.langgraph`."""

    async def run(turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        given = {} if make_config is None else dict(make_config(turn))
        named = {"thread_id": turn.session_id, **given.get("configurable", {})}
        options: dict[str, Any] = {"config": given | {"configurable": named}}
        if make_context is not None:
            options["context"] = make_context(turn)
        async for chunk in _GraphRun(graph, turn, make_input, options).chunks():
            yield chunk

    return run


class _GraphRun:
    """The part of a turn up to its end or to its next asks.

    A graph with a checkpointer of its own keeps its threads there. The state of any other graph is
    kept with the turn that waits.
    """

    def __init__(
        self,
        graph: Any,
        turn: Turn,
        make_input: Callable[[Turn], Any] | None,
        options: dict[str, Any],
    ) -> None:
        self._turn = turn
        self._make_input = make_input
        self._options = options
        self._saver: InMemorySaver | None = None
        if not graph.checkpointer:
            self._saver = InMemorySaver()
            graph = graph.copy(update={"checkpointer": self._saver})
            options["durability"] = "exit"
        self._graph = graph
        self._shown = _GraphView(graph.name)

    async def chunks(self) -> AsyncGenerator[AgentChunk, None]:
        given = await self._input()
        try:
            async for namespace, mode, data in self._graph.astream(
                given,
                stream_mode=["messages", "tasks", "custom"],
                subgraphs=True,
                **self._options,
            ):
                for chunk in self._shown.chunks(namespace, mode, data):
                    yield chunk
        except GraphRecursionError as error:
            raise AgentError(f"{error}", "MAX_STEPS") from error
        state = await self._graph.aget_state(self._options["config"])
        if state.next:
            for chunk in self._stop(state):
                yield chunk
        elif (output := _output(state.values)) is not None:
            yield Data("output", to_jsonable_python(output, fallback=str))

    async def _input(self) -> Any:
        kept = self._turn.kept
        if kept is not None:
            if self._saver is not None:
                _restore(self._saver, kept["state"])
            return _resumed(kept["asked"], self._turn.answers)
        if self._make_input is not None:
            return self._make_input(self._turn)
        if self._saver is None:
            state = await self._graph.aget_state(self._options["config"])
            if state.values.get("messages"):  # the thread has the earlier turns
                return {"messages": [HumanMessage(self._turn.goal)]}
        return {"messages": conversation_of(self._turn)}

    def _stop(self, state: Any) -> Iterator[AgentChunk]:
        """Ask what the graph has stopped for, and keep which interrupts the answers are for."""
        asks = _GraphAsks(
            0 if self._turn.kept is None else self._turn.kept["count"], self._shown.calls
        )
        for interrupt in state.interrupts:
            yield from asks.about(interrupt)
        if not state.interrupts:  # a breakpoint: `interrupt_before`, `interrupt_after`
            asks.before(state.next)
        saved = None if self._saver is None else _saved(self._saver)
        yield Keep({"count": asks.count, "asked": asks.asked, "state": saved})
        yield from asks.asks


class _GraphView:
    """What the stream shows of a graph.

    An agent that a tool runs is a sub-agent. A graph that is a node of another one answers the user
    itself: its text is the turn's, and the rest bears its name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._whole = ToolCalls()
        #: Calls without a result.
        self.calls: dict[str, dict[str, Any]] = {}
        self._origins: dict[str, dict[str, str]] = {}
        #: The steps that have begun, by task; and the calls that tasks of tools make.
        self._steps: dict[str, Step] = {}
        self._running: dict[str, list[dict[str, Any]]] = {}

    def chunks(self, namespace: tuple[str, ...], mode: str, data: Any) -> Iterator[AgentChunk]:
        if mode == "tasks":
            yield from self._task(namespace, data)
        elif mode == "custom":
            is_ours = isinstance(data, _OURS)
            yield data if is_ours else Data("custom", to_jsonable_python(data, fallback=str))
        else:
            yield from self._message(namespace, *data)

    def _message(
        self, namespace: tuple[str, ...], message: Any, metadata: Mapping[str, Any]
    ) -> Iterator[AgentChunk]:
        origin = self._origin(namespace, metadata)
        if isinstance(message, ToolMessage):
            call = self.calls.pop(message.tool_call_id, None)
            if call is not None or message.name:
                yield tool_result(message, call["name"] if call else "", origin)
        elif isinstance(message, AIMessage):
            yield from parts_of(message, origin if origin.get("parent") else {}, origin)
            for call in self._whole.of(message):
                self.calls[call["id"]] = call
                yield tool_call(call, origin)
            if used := usage_of(message):
                yield used

    def _task(self, namespace: tuple[str, ...], task: Mapping[str, Any]) -> Iterator[Step]:
        if "triggers" not in task:
            yield from self._completed(task["id"])
        elif task["name"] == _TOOLS:
            self._running[task["id"]] = _calls_in(task["input"])
        elif "." not in task["name"]:  # a node of middleware has a dot
            origin = self._origin(namespace, task.get("metadata") or {})
            self._steps[task["id"]] = Step(task["name"], "started", **origin)
            yield self._steps[task["id"]]

    def _completed(self, task: str) -> Iterator[Step]:
        if (step := self._steps.pop(task, None)) is not None:
            yield replace(step, status="completed")

    def _origin(self, namespace: tuple[str, ...], metadata: Mapping[str, Any]) -> dict[str, str]:
        """The fields that name the sub-agent of a namespace, whose parts are NODE:TASK."""
        if not namespace:
            return {}
        place = "|".join(namespace)
        if place not in self._origins:
            named = metadata.get("lc_agent_name")
            self._origins[place] = self._named(namespace, "" if named == self._name else named)
        return self._origins[place]

    def _named(self, namespace: tuple[str, ...], name: str | None) -> dict[str, str]:
        for part in reversed(namespace):
            node, _, task = part.partition(":")
            if node == _TOOLS:
                [call] = self._running.get(task) or [{"name": _TOOLS, "id": task}]
                return {"agent_id": name or call["name"], "parent": call["id"]}
        return {"agent_id": name or namespace[-1].partition(":")[0]}


def _calls_in(given: Any) -> list[dict[str, Any]]:
    """The one call of a task that runs tools; none: it runs several at once."""
    if isinstance(given, Mapping) and "tool_call" in given:
        return [given["tool_call"]]
    is_one = isinstance(given, list) and len(given) == 1 and isinstance(given[0], dict)
    return given if is_one and "id" in given[0] else []


class _GraphAsks:
    """The asks of one stop."""

    def __init__(self, count: int, calls: Mapping[str, Mapping[str, Any]]) -> None:
        """`count`: asks of the turn so far, which number those that have no call of their own."""
        self.count = count
        self.asks: list[Ask] = []
        #: For each interrupt its id, the form of its answer, and the ids of its asks.
        self.asked: list[tuple[str, str, list[str]]] = []
        self._calls = dict(calls)

    def about(self, interrupt: Interrupt[Any]) -> Iterator[Data]:
        """Ask for one interrupt. A value that is more than a message is shown as data."""
        value = interrupt.value
        fields = value if isinstance(value, Mapping) else {}
        if "action_requests" in fields:
            allowed = [config["allowed_decisions"] for config in fields["review_configs"]]
            pairs = zip(fields["action_requests"], allowed, strict=True)
            ids = [self._decision(request, words) for request, words in pairs]
            self.asked.append((interrupt.id, "decisions", ids))
        elif fields.get("type") == "tool_approval":
            self.asked.append((interrupt.id, "decision", [self._decision(fields, ["approve"])]))
        else:
            shown = to_jsonable_python(value, fallback=str)
            if isinstance(value, Mapping):
                yield Data("interrupt", shown)
            words = fields.get("message") or fields.get("question") or ("" if fields else shown)
            schema = getattr(interrupt, "response_schema", None)
            id = self._ask(Ask("input", str(words), schema=schema))
            self.asked.append((interrupt.id, "value", [id]))

    def before(self, nodes: Sequence[str]) -> None:
        """Ask whether the graph may go on to its next nodes."""
        ids = [self._ask(Ask("approval", f"Go on with {node}?", node)) for node in nodes]
        self.asked.append(("", "go", ids))

    def _decision(self, request: Mapping[str, Any], allowed: Sequence[str]) -> str:
        """Ask about a call: for leave, or for a result in its place."""
        message, name = request.get("description") or "", request["name"]
        args = to_jsonable_python(request["args"], fallback=str)
        call_id = request.get("tool_call_id") or self._call_of(name, request["args"])
        if "approve" in allowed:
            return self._ask(Ask("approval", message, name, args, call_id=call_id))
        return self._ask(Ask("tool", message, name, args, call_id=call_id))

    def _call_of(self, name: str, args: Any) -> str:
        """The id of such a call that was not asked about yet."""
        for call_id, call in self._calls.items():
            if (call["name"], call["args"]) == (name, args):
                del self._calls[call_id]
                return call_id
        return ""

    def _ask(self, ask: Ask) -> str:
        self.count += 1
        message, call_id = ask.message[:_MAX_MESSAGE], ask.call_id or f"interrupt_{self.count}"
        ask = replace(ask, message=message, call_id=call_id)
        self.asks.append(ask)
        return ask.call_id


def _resumed(
    asked: Sequence[tuple[str, str, Sequence[str]]], answers: Mapping[str, Answer]
) -> Command[Any] | None:
    """What the graph goes on with; None where it stopped at a breakpoint. Raises NotAnswered."""
    values = {}
    for interrupt, form, ids in asked:
        given = [answers[call_id] for call_id in ids]
        if form == "decisions":
            values[interrupt] = {"decisions": [_decided(answer) for answer in given]}
        elif form == "decision":
            values[interrupt] = _decided(given[0])
        else:
            for answer in given:
                if not answer:
                    raise NotAnswered(answer)
            if form == "go":
                return None
            values[interrupt] = given[0].payload
    return Command(resume=values)


def _decided(answer: Answer) -> dict[str, Any]:
    """A decision in LangChain's form."""
    if not answer:
        return {"type": "reject", "message": answer.refusal}
    if answer.approved is not None:
        return {"type": "approve"}
    said = answer.payload
    return {"type": "respond", "message": said if isinstance(said, str) else json.dumps(said)}


def _output(values: Any) -> Any:
    """What a graph says beside its messages; None: nothing."""
    if isinstance(values, Mapping) and "messages" in values:
        return values.get("structured_response")
    return values or None


def _saved(saver: InMemorySaver) -> str:
    """The saver's one thread as text."""
    threads = {name: dict(spaces) for name, spaces in saver.storage.items()}
    whole = threads, list(saver.writes.items()), list(saver.blobs.items())
    kind, data = saver.serde.dumps_typed(whole)
    return f"{kind} {base64.b64encode(data).decode()}"


def _restore(saver: InMemorySaver, text: str) -> None:
    kind, _, data = text.partition(" ")
    threads, writes, blobs = saver.serde.loads_typed((kind, base64.b64decode(data)))
    for thread, spaces in threads.items():
        saver.storage[thread].update(spaces)
    saver.writes.update((tuple(key), each) for key, each in writes)
    saver.blobs.update((tuple(key), blob) for key, blob in blobs)

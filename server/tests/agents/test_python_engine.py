from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.agent_api import (
    AgentError,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)
from resonantgenesis_server.agents.engines.python import AgentLoadError, PythonAgent, load

pytestmark = pytest.mark.anyio

Collect = Callable[..., Awaitable[list[Any]]]

CHUNKS = [
    "text",
    Text("more"),
    Step("s"),
    ToolCall("t", {"a": 1}, "c"),
    ToolResult("t", [1], "c"),
    Step("s", "completed"),
    Usage(1, 2),
]


def sync_generator(turn: Turn) -> Iterator[Any]:
    yield from CHUNKS


async def async_generator(turn: Turn) -> AsyncIterator[Any]:
    for chunk in CHUNKS:
        yield chunk


def decorated(turn: Turn) -> Any:
    return async_generator(turn)


def decorated_sync(turn: Turn) -> Any:
    return iter(CHUNKS)


class WithRun:
    def run(self, turn: Turn) -> Iterator[Any]:
        yield from CHUNKS


class WithCall:
    async def __call__(self, turn: Turn) -> AsyncIterator[Any]:
        for chunk in CHUNKS:
            yield chunk


@pytest.mark.parametrize(
    "function",
    [
        sync_generator,
        async_generator,
        decorated,
        decorated_sync,
        WithRun().run,
        WithCall().__call__,
        functools.partial(sync_generator),
        functools.partial(async_generator),
    ],
)
async def test_every_kind_of_callable_streams_its_chunks(
    function: Callable[[Turn], object], collect: Collect
) -> None:
    assert await collect(PythonAgent("m:a", function)) == CHUNKS


async def test_functions_that_return_the_answer(collect: Collect) -> None:
    async def coroutine(turn: Turn) -> str:
        return turn.goal.upper()

    def plain_of_coroutine(turn: Turn) -> object:
        return coroutine(turn)

    async def coroutine_of_stream(turn: Turn) -> object:
        return async_generator(turn)

    assert await collect(PythonAgent("m:a", lambda turn: turn.goal), "hi") == ["hi"]
    assert await collect(PythonAgent("m:a", lambda turn: Text(turn.goal)), "hi") == [Text("hi")]
    assert await collect(PythonAgent("m:a", coroutine), "hi") == ["HI"]
    assert await collect(PythonAgent("m:a", coroutine_of_stream)) == CHUNKS
    assert await collect(PythonAgent("m:a", plain_of_coroutine), "hi") == ["HI"]


async def test_the_agent_gets_the_turn(collect: Collect) -> None:
    def tell(turn: Turn) -> Iterator[str]:
        yield f"{turn.goal} {turn.context} {turn.session_id} {turn.turn} {turn.subject}"

    said = await collect(PythonAgent("m:a", tell), "g", context={"k": 1}, subject="u")
    assert said == ["g {'k': 1} sess_1 1 u"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (42, "42 (int)"),
        (None, "None (NoneType)"),
        (b"bytes", "(bytes)"),
        ({"type": "text"}, "(dict)"),
        (Text(5), "Text(content=5)"),  # type: ignore[arg-type]
        (ToolCall("t", [1]), "(ToolCall)"),  # type: ignore[arg-type]
        (ToolResult("t", 1, is_error=None), "(ToolResult)"),  # type: ignore[arg-type]
        (Step("s", "begun"), "(Step)"),  # type: ignore[arg-type]
        (Usage(-1), "(Usage)"),
    ],
)
async def test_a_wrong_yield_is_a_type_error_that_names_it(
    wrong: object, named: str, collect: Collect
) -> None:
    async def asynchronous(turn: Turn) -> AsyncIterator[object]:
        yield wrong

    def synchronous(turn: Turn) -> Iterator[object]:
        yield wrong

    for function in (asynchronous, synchronous, lambda turn: wrong):
        with pytest.raises(TypeError) as caught:
            await collect(PythonAgent("my:agent", function))
        assert named in str(caught.value)
        assert "'my:agent' yielded" in str(caught.value)


async def test_what_was_yielded_before_an_error_comes_first(collect: Collect) -> None:
    error = AgentError("full", "RATE_LIMITED", retry_after=3)

    def synchronous(turn: Turn) -> Iterator[str]:
        yield "one"
        yield "two"
        raise error

    async def asynchronous(turn: Turn) -> AsyncIterator[str]:
        yield "one"
        yield "two"
        raise error

    for function in (synchronous, asynchronous):
        stream = PythonAgent("m:a", function).run(Turn("g", "s", 1, "a"))
        assert [await anext(stream), await anext(stream)] == ["one", "two"]
        with pytest.raises(AgentError) as caught:
            await anext(stream)
        assert caught.value is error


async def test_exits_and_stray_cancellations_are_ordinary_failures(collect: Collect) -> None:
    async def exits(turn: Turn) -> AsyncIterator[str]:
        yield "x"
        sys.exit(1)

    def exits_in_thread(turn: Turn) -> str:
        sys.exit(1)

    async def awaits_what_was_cancelled(turn: Turn) -> AsyncIterator[str]:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        yield "never"

    for function, named in (
        (exits, "SystemExit"),
        (exits_in_thread, "SystemExit"),
        (awaits_what_was_cancelled, "CancelledError"),
    ):
        with pytest.raises(RuntimeError, match=f"the agent raised {named}"):
            await collect(PythonAgent("m:a", function))


async def test_cancelling_reaches_an_async_agent_at_its_await() -> None:
    entered = asyncio.Event()
    seen: list[str] = []

    async def waits(turn: Turn) -> AsyncIterator[str]:
        try:
            entered.set()
            await asyncio.Event().wait()
            yield "never"
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def consume() -> None:
        async for _ in PythonAgent("m:a", waits).run(Turn("g", "s", 1, "a")):
            pass

    task = asyncio.create_task(consume())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_closing_the_stream_closes_an_async_agent() -> None:
    closed: list[bool] = []

    async def endless(turn: Turn) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            await asyncio.sleep(0)  # cleaning up may await
            closed.append(True)

    stream = PythonAgent("m:a", endless).run(Turn("g", "s", 1, "a"))
    await anext(stream)
    await stream.aclose()
    assert closed == [True]


# Loading


@pytest.mark.parametrize("kind", ["answer", "Agent", "agent", "Agent.make", "partial"])
async def test_load_finds_agents_in_the_current_directory(
    kind: str, workplace: Path, collect: Collect
) -> None:
    (workplace / "my_agent_module.py").write_text(
        "import functools\n"
        "def answer(turn):\n    yield turn.goal\n"
        "class Agent:\n"
        "    def run(self, turn):\n        yield turn.goal\n"
        "    @staticmethod\n    async def make(turn):\n        return turn.goal\n"
        "agent = Agent()\n"
        "partial = functools.partial(lambda x, turn: turn.goal, 1)\n"
    )
    importlib.invalidate_caches()
    assert await collect(load(f"my_agent_module:{kind}"), "hello") == ["hello"]


BROKEN = {
    "raises_on_import": "raise ValueError('line one\\nline two')\n",
    "exits_on_import": "import sys\nsys.exit(3)\n",
    "needs_another": "import no_such_module_at_all\n",
    "bad_syntax": "def (:\n",
    "contents": (
        "number = 5\n"
        "def nothing(): yield ''\n"
        "def two(a, b): yield ''\n"
        "class Needs:\n    def __init__(self, x): pass\n    def run(self, turn): yield ''\n"
    ),
}


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("no_such_thing:answer", "no module 'no_such_thing'"),
        ("json.no_such_part:answer", "no module 'json.no_such_part'"),
        ("contents:missing", "'contents' has no attribute 'missing'"),
        ("contents:Needs.missing", "'Needs' has no attribute 'missing'"),
        ("contents:number", "a int is not callable"),
        ("contents:nothing", "it takes ()"),
        ("contents:two", "it takes (a, b)"),
        ("contents:Needs", "making a Needs failed: TypeError"),
        ("raises_on_import:a", "failed: ValueError: line one line two"),
        ("raises_on_import:a", "raises_on_import.py, line 1)"),
        ("exits_on_import:a", "failed: SystemExit: 3"),
        ("exits_on_import:a", "exits_on_import.py, line 2)"),
        ("needs_another:a", "failed: ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("needs_another:a", "needs_another.py, line 1)"),
        ("bad_syntax:a", "failed: SyntaxError"),
        ("bad_syntax:a", "bad_syntax.py, line 1)"),
        ("my_agent.py:answer", "without .py"),
        ("./my_agent:answer", "MODULE:ATTRIBUTE"),
        ("nocolon", "MODULE:ATTRIBUTE"),
        (":a", "MODULE:ATTRIBUTE"),
        ("a:", "MODULE:ATTRIBUTE"),
        ("a:b:c", "MODULE:ATTRIBUTE"),
        (".relative:a", "MODULE:ATTRIBUTE"),
    ],
)
def test_load_says_in_one_line_what_is_wrong(reference: str, says: str, workplace: Path) -> None:
    for name, source in BROKEN.items():
        (workplace / f"{name}.py").write_text(source)
    importlib.invalidate_caches()
    with pytest.raises(AgentLoadError) as caught:
        load(reference)
    message = str(caught.value)
    assert says in message
    assert repr(reference) in message
    assert "\n" not in message

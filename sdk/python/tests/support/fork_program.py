"""Forks with a client in use: `python fork_program.py NAME URL`; ends with 0 when all is well.

Each scenario runs in a process of its own, since the tests' has threads and a loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from resonantgenesis import ResonantGenesis, SyncResonantGenesis
from resonantgenesis.streaming import StreamingPool

KEY = "rg_test_key"
CHILDREN, CALLS = 3, 24


def forked(work: Callable[[], None], *, quick: bool = False) -> int:
    """A child that does `work`, and ends as programs do; `quick`: as multiprocessing does."""
    child = os.fork()
    if child:
        return child
    # A child that hangs is ended by itself.
    signal.alarm(40)
    work()
    if quick:
        os._exit(0)
    sys.exit(0)


def reaped(children: list[int]) -> None:
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ends == [0] * len(children), ends


def ask(client: SyncResonantGenesis, calls: int = CALLS) -> None:
    """Each answer is the one to its own question."""
    for number in range(calls):
        goal = f"{os.getpid()}-{threading.get_ident()}-{number}"
        if number % 2:
            output = client.sessions.execute(agent_id="a", goal=goal).output
        else:
            chunks = list(client.sessions.execute_stream(agent_id="a", goal=goal))
            output = chunks[0].content
        assert output == goal, (output, goal)


def crowd(work: Callable[[], None], count: int = CHILDREN) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def many(url: str) -> None:
    """A client with idle connections, then parent and children at once, each with threads."""
    client = SyncResonantGenesis(api_key=KEY, base_url=url)
    for thread in crowd(lambda: ask(client, 2)):
        thread.join()

    def child() -> None:
        threads = crowd(lambda: ask(client, CALLS // 2), 2)
        ask(client)
        for thread in threads:
            thread.join()

    children = [forked(child) for _ in range(CHILDREN)]
    ask(client)
    reaped(children)


def busy(url: str) -> None:
    """Forks in the midst of other threads' requests, whose locks may be held."""
    client = SyncResonantGenesis(api_key=KEY, base_url=url)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            ask(client, 2)

    threads = crowd(work)
    stream = iter(client.sessions.execute_stream(agent_id="a", goal="held"))
    next(stream)
    reaped([forked(lambda: ask(client, 2), quick=bool(n % 2)) for n in range(10)])
    over.set()
    for thread in threads:
        thread.join()
    stream.close()  # type: ignore[attr-defined]
    client.close()


def closed(url: str) -> None:
    """Closed in the parent, and in a child; the others go on."""
    client = SyncResonantGenesis(api_key=KEY, base_url=url)
    ask(client, 2)
    told, tell = os.pipe()

    def child() -> None:
        os.read(told, 1)
        ask(client, 4)
        client.close()

    children = [forked(child), forked(child)]
    client.close()
    os.write(tell, b"gg")
    reaped(children)


def live(url: str) -> None:
    """An open stream goes on in both processes, each over its own connection."""
    client = SyncResonantGenesis(api_key=KEY, base_url=url)
    stream = client.sessions.execute_stream(agent_id="a", goal="long")
    first = [next(stream).position for _ in range(3)]
    assert first == [1, 2, 3]

    def child() -> None:
        assert [chunk.position for chunk in stream] == list(range(4, 31))

    children = [forked(child), forked(child)]
    assert [chunk.position for chunk in stream] == list(range(4, 31))
    reaped(children)


def left(url: str) -> None:
    """Left by the parent, the connection ends, though a child has a copy of it."""
    client = SyncResonantGenesis(api_key=KEY, base_url=url)
    stream = client.sessions.execute_stream(agent_id="a", goal="held")
    next(stream)
    ended, end = os.pipe()
    child = forked(lambda: bool(os.read(ended, 1)))
    stream.close()
    print("closed", flush=True)
    sys.stdin.readline()
    os.write(end, b"g")
    reaped([child])


def remembered(url: str) -> None:
    """A child does not take up what its parent left; a lock that a thread holds blocks nobody."""
    client = SyncResonantGenesis(api_key=KEY, base_url=url)
    parents = client.sessions.execute_stream(agent_id="a", goal="held")
    with parents:
        pass
    held = threading.Event()
    over = threading.Event()

    def hold() -> None:
        with client.sessions._memory._entries.get().lock:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def child() -> None:
        with client.sessions.execute_stream(agent_id="a", goal="held", resume_from=0) as own:
            assert own.session_id != parents.session_id

    children = [forked(child)]
    reaped(children)
    over.set()
    thread.join()


def loops(url: str) -> None:
    """The asynchronous client, its sockets and a pool."""
    client = ResonantGenesis(api_key=KEY, base_url=url)

    async def asked(count: int) -> None:
        async def one(number: int) -> None:
            goal = f"{os.getpid()}-{number}"
            result = await client.sessions.execute(agent_id="a", goal=goal)
            assert result.output == goal, (result.output, goal)

        await asyncio.gather(*map(one, range(count)))

    def child() -> None:
        asyncio.run(asked(CALLS))
        asyncio.run(client.aclose())

    asyncio.run(asked(8))
    children = [forked(child) for _ in range(CHILDREN)]
    asyncio.run(asked(CALLS))
    reaped(children)

    async def parent() -> None:
        stream = client.sessions.execute_stream(agent_id="a", goal="long")
        await anext(stream)

        def rest() -> None:
            async def read() -> list[int]:
                return [chunk.position async for chunk in stream]

            assert asyncio.run(read()) == list(range(2, 31))

        def loopless() -> None:
            # What `fork` leaves of the running loop is no loop to run on.
            asyncio.events._set_running_loop(None)
            rest()

        children = [forked(loopless, quick=True)]
        assert [chunk.position async for chunk in stream] == list(range(2, 31))
        reaped(children)

    asyncio.run(parent())


def sockets(url: str) -> None:
    """A socket is its process's own; a pool opens others."""
    client = ResonantGenesis(api_key=KEY, base_url=url)
    pool = StreamingPool(api_key=KEY, base_url=url)

    async def talk() -> Any:
        async with pool.get_connection() as connection:
            await connection.send({"type": "ping", "id": str(os.getpid())})
            assert str(os.getpid()) in str(await connection.recv())
            return connection.ws.local_address

    async def parent() -> None:
        async with client.realtime() as rt:
            session = rt.session("s")
            mine = await talk()

            def child() -> None:
                asyncio.events._set_running_loop(None)
                for use in (rt.cancel("s"), anext(session), rt.subscribe("app")):
                    try:
                        asyncio.run(asyncio.wait_for(use, 5))
                    except RuntimeError as error:
                        assert "another process" in str(error), error
                    else:
                        raise AssertionError("an inherited socket was used")
                asyncio.run(rt.aclose())
                assert asyncio.run(talk()) != mine

            reaped([forked(child, quick=True)])
            assert await talk() == mine
            assert rt.state.error is None
        await pool.aclose()

    asyncio.run(parent())


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])

"""The synchronous client: the same names over the same logic."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest
from resonantgenesis import (
    AgentFailed,
    ConnectionLost,
    NotFound,
    ResonantGenesis,
    SyncResonantGenesis,
    Timeouts,
)
from resonantgenesis._async.events import AsyncEvents, AsyncEventStream, AsyncReplay
from resonantgenesis._async.files import AsyncFiles
from resonantgenesis._async.resources import (
    AsyncAgents,
    AsyncKeys,
    AsyncOrganizations,
    AsyncTokens,
    AsyncUsage,
    AsyncWebhooks,
)
from resonantgenesis._async.sessions import AsyncSession, AsyncSessions
from resonantgenesis._async.stream import AsyncStream
from resonantgenesis._sync.events import SyncEvents, SyncEventStream, SyncReplay
from resonantgenesis._sync.files import SyncFiles
from resonantgenesis._sync.resources import (
    SyncAgents,
    SyncKeys,
    SyncOrganizations,
    SyncTokens,
    SyncUsage,
    SyncWebhooks,
)
from resonantgenesis._sync.sessions import SyncSession, SyncSessions
from resonantgenesis._sync.stream import SyncStream

from ..conftest import KEY, ServerThread, hasten
from ..support.evil_proxy import EvilProxy, Mode

TWINS = [
    (ResonantGenesis, SyncResonantGenesis),
    (AsyncSessions, SyncSessions),
    (AsyncSession, SyncSession),
    (AsyncStream, SyncStream),
    (AsyncAgents, SyncAgents),
    (AsyncTokens, SyncTokens),
    (AsyncKeys, SyncKeys),
    (AsyncOrganizations, SyncOrganizations),
    (AsyncUsage, SyncUsage),
    (AsyncWebhooks, SyncWebhooks),
    (AsyncEvents, SyncEvents),
    (AsyncEventStream, SyncEventStream),
    (AsyncReplay, SyncReplay),
    (AsyncFiles, SyncFiles),
]


def shape(kind: type) -> dict[str, list[str]]:
    """Public methods with their parameters, the asynchronous spelling taken out."""
    shapes = {}
    for name, member in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            shapes[name.replace("aclose", "close")] = list(inspect.signature(member).parameters)
    return shapes


@pytest.mark.parametrize(("asynchronous", "synchronous"), TWINS)
def test_both_clients_have_the_same_names(asynchronous: type, synchronous: type) -> None:
    # A socket that keeps itself needs a loop to live on.
    assert shape(asynchronous).keys() - shape(synchronous).keys() <= {"realtime"}
    same = {name: shape(asynchronous)[name] for name in shape(synchronous)}
    assert same == shape(synchronous)


def test_a_stream_is_a_plain_iterator(
    served: ServerThread, sync_client: SyncResonantGenesis
) -> None:
    stream = sync_client.sessions.execute_stream(agent_id="a", goal="12")
    chunks = list(stream)
    assert [chunk.position for chunk in chunks] == list(range(1, 13))
    assert (stream.session_id, stream.turn, stream.position) == ("sess_1", 1, 12)
    assert list(stream) == []


def test_a_sessions_life(served: ServerThread, sync_client: SyncResonantGenesis) -> None:
    session = sync_client.sessions.create("a", context={"user": "Alice"})
    assert session.id == "sess_1"
    assert len(list(session.execute_stream("9"))) == 9
    assert session.execute("9").position == 18
    assert [c.position for c in session.join(turn=1)] == list(range(1, 10))
    assert [s.id for s in sync_client.sessions.list()] == ["sess_1"]
    assert len(session.steps()) == 2 and session.refresh().position == 18
    session.cancel()
    session.delete()
    with pytest.raises(NotFound):
        sync_client.sessions.get("sess_1")


def test_agents_and_tokens(sync_client: SyncResonantGenesis) -> None:
    assert sync_client.agents.create(id="writer", name="Writer").id == "writer"
    assert sync_client.agents.update("writer", name="Poet").name == "Poet"
    assert sync_client.agents.get("writer").name == "Poet"
    assert len(sync_client.agents.list()) == 1
    sync_client.agents.delete("writer")
    assert sync_client.tokens.create(["*"]).token == "rg_tok_secret"


def test_execute_follows_and_raises(served: ServerThread, sync_client: SyncResonantGenesis) -> None:
    served.server.answer_wait = 0.0
    served.server.pace = 0.001
    assert sync_client.sessions.execute("a", "9").output == served.server.sessions["sess_1"].text()
    served.server.script = lambda goal: [
        {"type": "error", "code": "AGENT_FAILED", "message": "no", "retryable": False},
        {"type": "done", "status": "failed"},
    ]
    with pytest.raises(AgentFailed):
        sync_client.sessions.execute("a", "9")


@pytest.mark.parametrize("modes", [["cut"], ["reset"], ["stall", "cut"], ["buffer"]])
def test_recovery_is_the_same(served: ServerThread, modes: list[Mode]) -> None:
    served.server.heartbeat = 0.1
    made: list[EvilProxy] = []

    async def start() -> None:
        given = iter(lambda: modes[made[0].connections % len(modes)], None)
        made.append(EvilProxy(served.server.port, lambda: next(given)))
        await made[0].start()

    served.run(start)
    timeouts = Timeouts(silence=0.2)
    try:
        with SyncResonantGenesis(
            api_key=KEY, base_url=made[0].url, max_retries=50, timeout=timeouts
        ) as client:
            stream = hasten(client).sessions.execute_stream(agent_id="a", goal="200")
            assert [chunk.position for chunk in stream] == list(range(1, 201))
    finally:
        served.run(made[0].stop)
    assert served.server.sessions["sess_1"].turns == 1


def on_loop(served: ServerThread, act: Callable[[], Any]) -> Any:
    async def run() -> Any:
        return act()

    return served.run(run)


def test_leaving_closes_the_connection(
    served: ServerThread, sync_client: SyncResonantGenesis
) -> None:
    served.server.hold_at = 3
    for chunk in sync_client.sessions.execute_stream("a", "9"):
        assert chunk.position == 1
        break
    served.run(lambda: served.server.wait_streams(0))
    with sync_client.sessions.execute_stream("a", "9") as stream:
        assert stream.session_id == "sess_2"
    served.run(lambda: served.server.wait_streams(0))
    assert list(stream) == []


def test_cancel_from_another_thread(served: ServerThread, sync_client: SyncResonantGenesis) -> None:
    served.server.hold_at = 3
    stream = sync_client.sessions.execute_stream("a", "9")
    next(stream)
    canceller = threading.Thread(target=stream.cancel)
    canceller.start()
    assert [chunk.status for chunk in stream][-1] == "cancelled"
    canceller.join(5)


def test_the_guides_loop(served: ServerThread, sync_client: SyncResonantGenesis) -> None:
    for chunk in sync_client.sessions.execute_stream("a", "9", resume_from=0):
        if chunk.position == 4:
            break
    again = sync_client.sessions.execute_stream("a", "9", resume_from=4)
    assert [chunk.position for chunk in again] == [5, 6, 7, 8, 9]
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(sync_client.sessions.get("sess_1")))
    other.start()
    other.join(5)
    assert found[0].session_id == "sess_1"


def test_a_dead_server_is_connection_lost() -> None:
    with SyncResonantGenesis(api_key=KEY, base_url="http://127.0.0.1:9", max_retries=2) as client:
        with pytest.raises(ConnectionLost):
            list(hasten(client).sessions.execute_stream("a", "9"))
        with pytest.raises(ConnectionError):
            client.agents.get("a")
    with pytest.raises(RuntimeError, match="closed"):
        client.agents.get("a")

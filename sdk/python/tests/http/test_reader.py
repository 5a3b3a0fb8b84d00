"""`on_reconnect`: what a caller is told while a stream is lost, and when it is there again."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from resonantgenesis import (
    ConnectionLost,
    Reconnection,
    ResonantGenesis,
    StreamError,
    SyncResonantGenesis,
)
from resonantgenesis._core.actions import Answered, Finish, Lost, Opened, Received, Wait, Waited
from resonantgenesis._core.event_plan import event_plan
from resonantgenesis._core.event_stream import EventStreamMachine
from resonantgenesis._core.messages import Answer
from resonantgenesis._core.settings import Settings
from resonantgenesis._http.reader import EventReader

from ..conftest import KEY, MakeClient, ServerThread, hasten
from ..support.evil_proxy import EvilProxy
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio


def check(told: list[Reconnection], positions: list[int]) -> None:
    """A loss comes first; one `connected` ends each run of losses; positions never go back."""
    assert positions == list(range(1, 201)) and told
    assert not told[0].connected and told[-1].connected
    attempt, lost = 0, False
    for one in told:
        assert one.cursor is None and (one.position is None or one.position in range(201))
        if one.connected:
            assert lost and (one.attempt, one.delay, one.error) == (attempt, 0.0, None)
            lost = False
        else:
            # A connection that broke before its first chunk is one more failure in a row.
            assert one.attempt == attempt + 1 or (one.attempt == 1 and not lost)
            assert isinstance(one.error, StreamError) and one.error.retryable and one.delay >= 0
            attempt, lost = one.attempt, True
    places = [one.position or 0 for one in told]
    assert places == sorted(places)


async def test_a_stream_tells_of_cuts(server: FakeServer, make_client: MakeClient) -> None:
    modes = itertools.cycle(["cut", "reset"])
    proxy = EvilProxy(server.port, lambda: next(modes))  # type: ignore[arg-type,return-value]
    await proxy.start()
    told: list[Reconnection] = []
    client = make_client(proxy.url, max_retries=50)
    stream = client.sessions.execute_stream(agent_id="a", goal="200", on_reconnect=told.append)
    positions = [chunk.position async for chunk in stream]
    check(told, positions)
    session = await client.sessions.get("sess_1")
    told.clear()
    joined = session.join(resume_from=0, on_reconnect=told.append)
    check(told, [chunk.position async for chunk in joined])
    await proxy.stop()


def test_so_does_a_plain_iterator(served: ServerThread) -> None:
    made: list[EvilProxy] = []

    async def start() -> None:
        made.append(EvilProxy(served.server.port, lambda: "cut"))
        await made[0].start()

    served.run(start)
    told: list[Reconnection] = []
    with SyncResonantGenesis(api_key=KEY, base_url=made[0].url, max_retries=50) as client:
        stream = hasten(client).sessions.execute_stream("a", "200", on_reconnect=told.append)
        check(told, [chunk.position for chunk in stream])
    served.run(made[0].stop)


async def test_a_server_that_was_never_there(make_client: MakeClient) -> None:
    told: list[Reconnection] = []
    client = make_client("http://127.0.0.1:9", max_retries=2)
    with pytest.raises(ConnectionLost):
        await anext(client.sessions.execute_stream("a", "9", on_reconnect=told.append))
    assert [(one.connected, one.attempt, one.position) for one in told] == [
        (False, 1, 0),
        (False, 2, 0),
    ]
    told.clear()
    with pytest.raises(ConnectionLost):
        await anext(client.events.subscribe("app.*", on_reconnect=told.append))
    assert [(one.connected, one.attempt, one.cursor) for one in told] == [
        (False, 1, None),
        (False, 2, None),
    ]


async def test_what_it_raises_ends_the_stream(make_client: MakeClient) -> None:
    class Enough(Exception):
        pass

    def give_up(reconnection: Reconnection) -> None:
        raise Enough from reconnection.error

    client = make_client("http://127.0.0.1:9")
    stream = client.sessions.execute_stream("a", "9", on_reconnect=give_up)
    with pytest.raises(Enough) as raised:
        await anext(stream)
    assert isinstance(raised.value.__cause__, ConnectionLost)
    assert [chunk async for chunk in stream] == []


async def test_a_sound_network_is_not_worth_a_word(
    server: FakeServer, client: ResonantGenesis
) -> None:
    told: list[Reconnection] = []
    session = await client.sessions.create("a")
    stream = session.execute_stream("9", on_reconnect=told.append)
    assert len([chunk async for chunk in stream]) == 9
    assert [chunk.position async for chunk in session.join(on_reconnect=told.append)]
    assert told == []


class Subscription(EventReader):
    """A subscription without a network: its outcomes are given by hand."""

    def __init__(self, told: list[Reconnection]) -> None:
        super().__init__(told.append)
        self._plan = event_plan("app.*", None, "c_1", "raise")
        self._machine = EventStreamMachine(self._plan, Settings("http://h", "k"))

    def give(self, *outcomes: Any) -> None:
        """As a shell does it."""
        assert self._machine is not None
        for outcome in outcomes:
            self._machine.give(outcome)
            self._after_outcome(self._machine)
            action = self._machine.next()
            assert not isinstance(action, Finish)
            if isinstance(action, Wait):
                self._before_wait(action)


OPENED = Opened({"content-type": "text/event-stream"})


def test_a_subscription_names_its_cursor() -> None:
    told: list[Reconnection] = []
    subscription = Subscription(told)
    subscription.give(OPENED, Received(b'id: c_5\nevent: app.x\ndata: {"id": "e"}\n\n'))
    assert next(iter([subscription._machine])).next() and told == []  # type: ignore[union-attr]
    subscription.give(Lost("the connection broke"))
    assert (told[0].connected, told[0].attempt, told[0].cursor) == (False, 1, "c_5")
    unavailable = Answered(Answer(503, {"retry-after": "2"}))
    subscription.give(Waited(), unavailable)
    assert told[1].attempt == 2 and told[1].delay >= 2.0
    assert told[1].error is not None and told[1].error.code == "UNAVAILABLE"
    # A stream that is open has not brought anything yet.
    subscription.give(Waited(), OPENED)
    assert len(told) == 2
    # Nor does the comment at its beginning: a server that is about to stop opens streams as well.
    subscription.give(Received(b": stream\n"), Received(b"\n"))
    assert len(told) == 2
    subscription.give(Received(b"id: c_6\n\n"))
    assert len(told) == 3
    assert (told[2].connected, told[2].attempt, told[2].cursor) == (True, 2, "c_6")
    assert len(told) == 3


def test_a_heartbeat_before_an_error_moves_the_cursor() -> None:
    told: list[Reconnection] = []
    error = b'event: error\ndata: {"code": "UNAVAILABLE", "message": "m", "retryable": true}\n\n'
    Subscription(told).give(OPENED, Received(b"id: c_20\n\n" + error))
    assert [one.cursor for one in told] == ["c_20"]


def test_a_heartbeat_shows_that_a_stream_carries() -> None:
    told: list[Reconnection] = []
    subscription = Subscription(told)
    subscription.give(Lost("the connection broke"), Waited(), OPENED, Received(b": stream\n\n"))
    assert [one.connected for one in told] == [False]
    subscription.give(Received(b": hb\n\n"), Received(b": hb\n\n"))
    assert [one.connected for one in told] == [False, True]

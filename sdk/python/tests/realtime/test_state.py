"""The client's half of a socket, one thing after the other."""

from __future__ import annotations

import json

import pytest
from resonantgenesis import (
    ConnectionLost,
    InvalidRequest,
    NotFound,
    PositionExpired,
    RateLimited,
    Unavailable,
)
from resonantgenesis._realtime.consumers import ChunkConsumer
from resonantgenesis._realtime.requests import MAX_MESSAGE

from ..support.realtime_world import (
    World,
    events_consumer,
    ids,
    one_turn,
    positions,
    turn_consumer,
    watch_consumer,
)


def test_a_subscription_starts_where_the_server_says() -> None:
    world, consumer = World(), events_consumer("app")
    world.server.publish("app")
    world.start(consumer)
    world.exchange()
    assert consumer.there and consumer.cursor == "c_1"
    world.server.publish("app")
    world.settle()
    assert ids(world.got[consumer]) == ["evt_2"] and consumer.cursor == "c_2"


def test_a_channel_has_one_subscription() -> None:
    world = World()
    first = events_consumer("app", "teams")
    world.start(first)
    with pytest.raises(ValueError, match="app: already subscribed"):
        world.start(events_consumer("app", "system"))
    world.exchange()
    world.state.leave(first)
    second = events_consumer("app")
    world.start(second)
    world.exchange()
    assert second.there
    heard = [(m["type"], m.get("channels")) for m in world.connect().heard]
    assert heard == [
        ("subscribe", ["app", "teams"]),
        ("unsubscribe", ["app", "teams"]),
        ("subscribe", ["app"]),
    ]


def test_a_heartbeat_moves_the_cursor_but_not_past_what_waits_to_be_read() -> None:
    world, consumer = World(), events_consumer("app")
    world.start(consumer)
    world.exchange()
    world.server.publish("app")
    world.server.publish("system")
    socket = world.connect()
    socket.pump(5)
    socket.cursors()
    world.deliver()
    assert consumer.cursor == "c_0" and consumer.queue.cursor == "c_2"
    world.consume(consumer)
    assert consumer.cursor == "c_2"


def test_a_full_buffer_stops_one_subscription_and_none_other() -> None:
    world = World()
    slow, quick = (
        events_consumer("app", since="c_0", most=4),
        events_consumer("teams", since="c_0", most=4),
    )
    world.start(slow)
    world.start(quick)
    world.exchange()
    for _ in range(50):
        world.server.publish("app")
        world.server.publish("teams")
        world.connect().pump(2)
        world.exchange()
        world.consume(quick)
        assert slow.waiting <= 4
    assert len(world.got[quick]) == 50
    left = [m["channels"] for m in world.connect().heard if m["type"] == "unsubscribe"]
    assert left == [["app"]]
    world.settle()
    assert len(world.got[slow]) == 50 and ids(world.got[slow]) == [
        event["id"] for event in world.server.events if event["channel"] == "app"
    ]


def test_a_place_that_is_gone_raises_or_starts_at_the_earliest() -> None:
    world = World()
    for _ in range(3):
        world.server.publish("app")
    world.server.earliest = 2
    strict, lenient = (
        events_consumer("app", since="c_0"),
        events_consumer("app", since="c_0", on_expired="earliest"),
    )
    world.start(strict)
    world.exchange()
    assert isinstance(strict.error, PositionExpired)
    assert strict.error.details == {"earliest": "c_2"}
    world.start(lenient)
    world.settle()
    assert [(e.type, e.cursor) for e in world.got[lenient]] == [("gap", "c_2"), ("app.x", "c_3")]


def test_an_execute_whose_answer_is_lost_startsone_turn() -> None:
    world, consumer = World(), turn_consumer()
    world.start(consumer)
    world.connect()
    world.cut(reaching=5)
    assert world.server.executes == 1
    world.settle()
    assert (
        positions(world.got[consumer]) == [1, 2, 3, 4] and consumer.over and consumer.error is None
    )
    assert world.server.executes == 1


def test_a_busy_server_is_asked_again_in_its_time_and_at_last_not() -> None:
    world, consumer = World(retries=2), turn_consumer()
    world.server.busy = 2
    world.start(consumer)
    world.exchange()
    assert world.state.requests.tick(world.now) == pytest.approx(0.55)
    assert len(world.connect().heard) == 1
    world.settle()
    assert positions(world.got[consumer]) == [1, 2, 3, 4]
    world.server.busy, consumer = 3, turn_consumer()
    world.start(consumer)
    world.settle()
    assert isinstance(consumer.error, RateLimited)


def test_a_turn_of_a_session_that_is_watched_comes_once_to_both() -> None:
    world, watch, turn = World(), watch_consumer("sess_1", 0), turn_consumer("sess_1")
    world.server.sessions["sess_1"] = one_turn()
    world.start(watch)
    world.exchange()
    world.start(turn)
    world.settle()
    assert positions(world.got[watch]) == list(range(1, 9))
    assert positions(world.got[turn]) == [5, 6, 7, 8]
    sent = [m for m in world.connect().heard if m["type"] == "subscribe"]
    assert len(sent) == 1


def test_a_turn_of_long_ago_is_read_again_for_who_names_its_key() -> None:
    world, watch = World(), watch_consumer("sess_1", 6)
    world.server.sessions["sess_1"] = one_turn()
    world.server.keys["k0"] = ("sess_1", 1)
    world.server.keys["k1"] = ("sess_1", 2)
    world.server.sessions["sess_1"].goals.append("g")
    for _ in range(4):
        world.server.grow("sess_1")
    world.start(watch)
    world.settle()
    again = turn_consumer("sess_1", key="k1")
    world.start(again)
    world.settle()
    assert positions(world.got[watch]) == [7, 8]
    assert positions(world.got[again]) == [5, 6, 7, 8] and again.over


def test_leaving_a_session_while_a_turn_of_it_starts_does_not_silence_the_turn() -> None:
    world, watch, turn = World(), watch_consumer("sess_1", 0), turn_consumer("sess_1")
    world.server.sessions["sess_1"] = one_turn()
    world.start(watch)
    world.exchange()
    world.start(turn)
    world.state.leave(watch)
    world.settle()
    assert positions(world.got[turn]) == [5, 6, 7, 8]
    assert world.connect().heard[-1]["type"] == "unsubscribe"


def test_missing_chunks_are_read_again() -> None:
    world, watch = World(), watch_consumer("sess_1", 0)
    world.server.sessions["sess_1"] = one_turn()
    world.start(watch)
    world.exchange()
    socket = world.connect()
    socket.pump(4)
    del socket.out[1]
    world.settle()
    assert positions(world.got[watch]) == [1, 2, 3, 4]


def test_another_epoch_ends_a_session() -> None:
    world, watch = World(), watch_consumer("sess_1", 0)
    world.server.sessions["sess_1"] = one_turn()
    world.start(watch)
    world.exchange()
    world.server.epoch = "e2"
    world.cut()
    world.exchange()
    assert isinstance(watch.error, PositionExpired)


def test_a_subscription_that_the_server_ends_is_over_or_asked_for_again() -> None:
    world, watch, consumer = World(), watch_consumer("sess_1", 0), events_consumer("app")
    world.server.sessions["sess_1"] = one_turn()
    world.start(watch)
    world.start(consumer)
    world.exchange()
    world.connect().end("session:sess_1", "SESSION_NOT_FOUND")
    world.connect().end("app", "UNAVAILABLE", retryable=True)
    world.exchange()
    assert isinstance(watch.error, NotFound) and not consumer.over
    world.server.publish("app")
    world.settle()
    assert ids(world.got[consumer]) == ["evt_1"]


def test_a_message_that_no_server_takes_fails_alone() -> None:
    world, consumer = World(), events_consumer("app")
    world.start(consumer)
    turn = ChunkConsumer(body={"agent_id": "a", "goal": "x" * MAX_MESSAGE})
    world.start(turn)
    world.exchange()
    assert isinstance(turn.error, InvalidRequest) and turn.error.code == "PAYLOAD_TOO_LARGE"
    assert consumer.there and len(world.connect().heard) == 1


def test_in_the_end_everybody_is_told() -> None:
    world = World()
    consumers = [
        events_consumer("app"),
        turn_consumer(),
        turn_consumer("sess_1"),
        watch_consumer("sess_1", 0),
    ]
    world.server.sessions["sess_1"] = one_turn()
    for consumer in consumers[:2]:
        world.start(consumer)
    world.exchange()
    for consumer in consumers[2:]:
        world.start(consumer)
    reply = world.state.request({"type": "cancel", "session_id": "sess_1"})
    world.cut()
    error = ConnectionLost("no more")
    world.state.fail(error)
    assert [consumer.error for consumer in consumers] == [error] * 4 and reply.error is error
    late = events_consumer("teams")
    world.start(late)
    assert late.error is error and world.state.request({"type": "ping"}).error is error


def test_questions_are_asked_again_unless_they_belong_to_their_socket() -> None:
    world = World()
    lasting = world.state.request({"type": "cancel", "session_id": "sess_1"})
    passing = world.state.request({"type": "auth", "token": "t"}, lasting=False)
    world.server.sessions["sess_1"] = one_turn()
    world.connect()
    world.cut(reaching=2)
    assert isinstance(passing.error, ConnectionLost) and not lasting.there
    world.exchange()
    assert lasting.answer is not None and lasting.answer["type"] == "cancelled"


def test_what_is_no_message_is_passed_over() -> None:
    world = World()
    for text in ["", "[]", "{", "1", "{}", '{"type":"new"}', '{"channel":"app","event":{}}']:
        world.state.receive(text, 0.0)
    told = {"type": "error", "code": "UNAUTHENTICATED", "message": "revoked"}
    world.state.receive(json.dumps(told), 0.0)
    assert world.state.last_word is not None and world.state.last_word.code == "UNAUTHENTICATED"
    world.state.receive('{"type":"draining","retry_after":3}', 0.0)
    assert world.state.draining == 3.0
    world.connect()
    assert world.state.draining is None and not isinstance(world.state.last_word, Unavailable)

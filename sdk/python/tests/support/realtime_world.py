"""A client's half of a socket, the model of the server's, and the network between them."""

from __future__ import annotations

from typing import Any

from resonantgenesis._core.event_plan import EventFilter, OnExpired
from resonantgenesis._core.retry import Backoff, RetryBudget
from resonantgenesis._realtime.consumers import ChunkConsumer, Consumer, EventConsumer
from resonantgenesis._realtime.state import RealtimeState

from .model_server import ModelServer, ModelSocket, Payload


class World:
    """A client, a server, and a network that hands over what it is told to."""

    def __init__(self, retries: int = 100_000) -> None:
        self.now = 0.0
        self.server = ModelServer()
        self.state = RealtimeState(
            lambda: RetryBudget(retries, Backoff(base=0.1, cap=0.1), rng=lambda: 0.5)
        )
        self.socket: ModelSocket | None = None
        self.got: dict[Consumer[Any], list[Any]] = {}

    def connect(self) -> ModelSocket:
        if self.socket is None:
            self.socket = ModelSocket(self.server)
            self.state.socket_opened()
        return self.socket

    def cut(self, reaching: int = 0) -> None:
        """The link breaks; so many texts of the client's still arrive, no answer does."""
        if self.socket is not None:
            self.send(reaching)
            self.socket = None
            self.state.socket_lost()

    def send(self, most: int = 1000) -> None:
        outbox = self.state.requests.outbox
        for _ in range(most):
            if not outbox or self.socket is None:
                return
            self.socket.receive(outbox.popleft())

    def deliver(self, most: int = 1000) -> None:
        for _ in range(most):
            if self.socket is None or not self.socket.out:
                return
            self.state.receive(self.socket.out.popleft(), self.now)

    def exchange(self) -> None:
        """Everything said so far is heard and answered."""
        self.connect()
        self.send()
        self.deliver()

    def start(self, consumer: Consumer[Any]) -> None:
        self.got[consumer] = []
        self.state.start(consumer)

    def consume(self, consumer: Consumer[Any], most: int = 1000) -> None:
        for _ in range(most):
            if not consumer.waiting:
                return
            self.got[consumer].append(consumer.take())
            self.state.taken(consumer)

    def settle(self) -> None:
        """Without further trouble, until nothing happens any more."""
        quiet = 0
        while quiet < 3:
            self.now += 10
            self.state.requests.tick(self.now)
            before = self.measure()
            for session_id in list(self.server.sessions):
                self.server.grow(session_id)
            self.exchange()
            moved = self.connect().pump(10)
            self.deliver()
            for consumer in self.got:
                self.consume(consumer)
            quiet = 0 if moved or before != self.measure() else quiet + 1

    def measure(self) -> Any:
        logs = [len(log.chunks) for log in self.server.sessions.values()]
        return logs, [len(got) for got in self.got.values()], len(self.connect().heard)


def events_consumer(
    *channels: str,
    since: str | None = None,
    most: int = 1000,
    on_expired: OnExpired = "raise",
) -> EventConsumer:
    return EventConsumer(channels, EventFilter(), since, on_expired, most)


def turn_consumer(session_id: str | None = None, *, most: int = 1000, **more: Any) -> ChunkConsumer:
    body: Payload = {"agent_id": "a", "goal": "g"}
    if session_id is not None:
        body["session_id"] = session_id
    return ChunkConsumer(body=body, max_items=most, raise_on_error=False, **more)


def watch_consumer(
    session_id: str, resume_from: int | None = None, most: int = 1000
) -> ChunkConsumer:
    return ChunkConsumer(
        session_id=session_id, resume_from=resume_from, max_items=most, raise_on_error=False
    )


def ids(events: list[Any]) -> list[str]:
    return [event.id for event in events]


def positions(chunks: list[Any]) -> list[int]:
    return [chunk.position for chunk in chunks]


def one_turn() -> Any:
    """A session with a turn that has ended."""
    server = ModelServer()
    server.begin_turn({"idempotency_key": "k0", "session_id": "sess_1", "goal": "g"})
    for _ in range(4):
        server.grow("sess_1")
    return server.sessions["sess_1"]

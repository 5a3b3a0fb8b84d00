"""The server's half of a socket (PROTOCOL.md, section 6) as plain objects, for the SDK's tests.

`ModelServer` holds the logs; a `ModelSocket` takes the client's texts and has the server's ready
in `out`. Nothing is sent by itself: `pump` moves a subscription on, so that a test decides what
has arrived when a link is cut.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

Payload = dict[str, Any]


@dataclass
class Log:
    """A session: its chunks, and its turns with the goals they are for."""

    chunks: list[Payload] = field(default_factory=list)
    goals: list[str] = field(default_factory=list)

    def dones(self) -> int:
        return sum(chunk["type"] == "done" for chunk in self.chunks)

    def begin(self, turn: int) -> int:
        """The place before a turn's first chunk, as far as it is known."""
        ends = [chunk["position"] for chunk in self.chunks if chunk["type"] == "done"]
        return 0 if turn == 1 else ends[turn - 2] if len(ends) >= turn - 1 else len(self.chunks)


class ModelServer:
    """What is durable: events, sessions, keys."""

    def __init__(self) -> None:
        self.events: list[Payload] = []
        self.sessions: dict[str, Log] = {}
        self.keys: dict[str, tuple[str, int]] = {}
        self.epoch = "e1"
        self.earliest = 0
        self.busy = 0
        self.executes = 0

    def publish(self, channel: str, **data: Any) -> Payload:
        number = len(self.events) + 1
        event = {"id": f"evt_{number}", "type": f"{channel}.x", "channel": channel, "data": data}
        self.events.append({**event, "cursor": f"c_{number}"})
        return self.events[-1]

    def grow(self, session_id: str) -> None:
        """The next chunk of the session's running turn; each has a step, two texts, a done."""
        log = self.sessions[session_id]
        turn = log.dones() + 1
        if turn > len(log.goals):
            return
        place = len(log.chunks) - log.begin(turn)
        kinds: list[Payload] = [
            {"type": "step", "step": 1, "turn": turn, "status": "started"},
            {"type": "text", "content": f"{turn}a"},
            {"type": "text", "content": f"{turn}b"},
            {"type": "done", "turn": turn, "status": "success"},
        ]
        named = {"position": len(log.chunks) + 1, "session_id": session_id}
        log.chunks.append(kinds[place] | named)

    def begin_turn(self, message: Payload) -> tuple[str, int]:
        """The turn of an execute, made at most once for its key."""
        key = message["idempotency_key"]
        if key not in self.keys:
            self.executes += 1
            session_id = message.get("session_id") or f"sess_{len(self.sessions) + 1}"
            log = self.sessions.setdefault(session_id, Log())
            log.goals.append(message["goal"])
            self.keys[key] = session_id, len(log.goals)
        return self.keys[key]


@dataclass
class Sub:
    """A subscription; `until`: over with that turn's done; `skip`: silent before that turn."""

    channels: tuple[str, ...]
    after: int
    until: int | None = None
    skip: int = 0


class ModelSocket:
    """One connection."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.out: deque[str] = deque()
        self.heard: list[Payload] = []
        self.subs: list[Sub] = []

    def receive(self, text: str) -> None:
        message = json.loads(text)
        self.heard.append(message)
        answer = getattr(self, f"_{message['type']}")(message)
        self._say(answer, message)
        self._settle()

    def pump(self, most: int = 1) -> int:
        """Sends up to `most` entries of every subscription; how many there were."""
        return sum(self._step(sub) for _ in range(most) for sub in list(self.subs))

    def end(self, channel: str, code: str, **more: Any) -> None:
        """The server ends a subscription by itself."""
        self._leave({channel})
        self._say({"type": "error", "code": code, "details": {"channels": [channel], **more}}, {})

    def cursors(self) -> None:
        """Tells quiet subscriptions where they are."""
        for sub in self.subs:
            if not sub.channels[0].startswith("session:") and sub.after == len(self.server.events):
                cursor = {"type": "cursor", "cursor": f"c_{sub.after}"}
                self._say(cursor | {"channels": list(sub.channels)}, {})

    # -- messages -------------------------------------------------------------------------------

    def _subscribe(self, message: Payload) -> Payload:
        channels = tuple(message["channels"])
        if channels[0].startswith("session:"):
            return self._subscribe_session(channels, message)
        place = message.get("since")
        after = len(self.server.events) if place is None else int(place.removeprefix("c_"))
        if after < self.server.earliest:
            details = {"earliest": f"c_{self.server.earliest}"}
            return {"type": "error", "code": "POSITION_EXPIRED", "details": details}
        self._leave(set(channels))
        self.subs.append(Sub(channels, after))
        return {"type": "subscribed", "channels": list(channels), "cursor": f"c_{after}"}

    def _subscribe_session(self, channels: tuple[str, ...], message: Payload) -> Payload:
        session_id = channels[0].removeprefix("session:")
        log = self.server.sessions.get(session_id)
        if log is None:
            return {"type": "error", "code": "SESSION_NOT_FOUND", "message": "no such session"}
        standing = next((sub.after for sub in self.subs if sub.channels == channels), None)
        newest = standing if standing is not None else log.begin(max(len(log.goals), 1))
        after = message.get("resume_from", newest)
        self._leave(set(channels))
        self.subs.append(Sub(channels, after))
        answer = {"type": "subscribed", "channels": list(channels), "position": after}
        return answer | {"epoch": self.server.epoch}

    def _unsubscribe(self, message: Payload) -> Payload:
        self._leave(set(message["channels"]))
        return {"type": "unsubscribed", "channels": message["channels"]}

    def _execute(self, message: Payload) -> Payload:
        if self.server.busy:
            self.server.busy -= 1
            return {"type": "error", "code": "RATE_LIMITED", "message": "m", "retry_after": 0.5}
        session_id, turn = self.server.begin_turn(message)
        channels = (f"session:{session_id}",)
        standing = next((sub for sub in self.subs if sub.channels == channels), None)
        if standing is None:
            begin = self.server.sessions[session_id].begin(turn)
            self.subs.append(Sub(channels, begin, until=turn, skip=turn))
        elif standing.until is not None:
            standing.until = max(standing.until, turn)
        return {"type": "started", "session_id": session_id, "turn": turn}

    def _cancel(self, message: Payload) -> Payload:
        if message["session_id"] not in self.server.sessions:
            return {"type": "error", "code": "SESSION_NOT_FOUND", "message": "no such session"}
        return {"type": "cancelled", "session_id": message["session_id"], "turn": 1}

    def _ping(self, message: Payload) -> Payload:
        return {"type": "pong"}

    def _auth(self, message: Payload) -> Payload:
        return {"type": "authenticated"}

    # -- inside ---------------------------------------------------------------------------------

    def _say(self, payload: Payload, asked: Payload) -> None:
        self.out.append(json.dumps(payload | ({"id": asked["id"]} if "id" in asked else {})))

    def _leave(self, channels: set[str]) -> None:
        for sub in self.subs:
            sub.channels = tuple(name for name in sub.channels if name not in channels)
        self._settle()

    def _settle(self) -> None:
        self.subs = [sub for sub in self.subs if sub.channels]

    def _step(self, sub: Sub) -> int:
        channel = sub.channels[0] if sub.channels else ""
        if not channel.startswith("session:"):
            return self._step_events(sub)
        chunks = self.server.sessions[channel.removeprefix("session:")].chunks
        if sub.after >= len(chunks):
            return 0
        chunk = chunks[sub.after]
        turn = 1 + sum(before["type"] == "done" for before in chunks[: sub.after])
        sub.after += 1
        if turn >= sub.skip:
            self._say(chunk, {})
        if sub.until is not None and chunk["type"] == "done" and turn >= sub.until:
            sub.channels = ()
            self._settle()
        return 1

    def _step_events(self, sub: Sub) -> int:
        if sub.after >= len(self.server.events) or not sub.channels:
            return 0
        event = self.server.events[sub.after]
        sub.after += 1
        if event["channel"] in sub.channels:
            self._say({"type": "event", "channel": event["channel"], "event": event}, {})
        return 1

"""One giving of a turn to a worker, as the node that runs the turn sees it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...model.chunks import AgentChunk
from ..remote import EndOfTurn, chunk_of, error_of

#: An organization's id and the id of one of its agents.
AgentName = tuple[str, str]


class WorkerLost(Exception):
    """The worker is gone for longer than its grace, or gave the turn back."""


class AssignmentLink(Protocol):
    """The way to a worker: its socket at this node, or the node that has the socket."""

    @property
    def node(self) -> int: ...

    def ack(self, assignment: str, seq: int) -> None:
        """Tell the worker that its messages up to this one are taken."""
        ...

    def cancel(self, assignment: str) -> None:
        """Tell the worker that nobody wants this turn's chunks any more."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerMessage:
    """Chunks of an assignment. `seq` counts the messages of an assignment from 1. `is_last`: the
    turn is over, with this `error` or as a success."""

    seq: int
    chunks: Sequence[object]
    is_last: bool = False
    error: Mapping[str, Any] | None = None


class Assignment:
    """A turn in the hands of one worker, from `attach` to `close`.

    Its id is used once, over all processes: so a chunk of an earlier assignment of the same turn is
    one of an assignment that is no more. Messages are taken in their order, each once.
    """

    def __init__(self, id: str, agent: AgentName, grace: float) -> None:
        """`grace`: seconds that a worker may be cut off."""
        self.id = id
        self.agent = agent
        #: The number of the newest message that was accepted, and of the newest that was taken.
        self.accepted = self.taken = 0
        #: A chunk has come: the turn cannot be given to another worker any more.
        self.has_begun = False
        self._grace = grace
        self._link: AssignmentLink | None = None
        #: The way that was cut off last.
        self._former: AssignmentLink | None = None
        self._queue: deque[WorkerMessage] = deque()
        self._is_lost = False
        #: The worker has ended the turn, and knows that this is known.
        self._is_over = False
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def link(self) -> AssignmentLink | None:
        """The way to its worker; None while the worker is cut off."""
        return self._link

    def attach(self, link: AssignmentLink) -> bool:
        """The worker is there, or there again. False: it comes too late."""
        if self._is_lost:
            return False
        self._stop_timer()
        self._link = link
        if link == self._former:  # the news that it is cut off again came first
            self.detach(link)
        return True

    def detach(self, link: AssignmentLink) -> None:
        """The worker is cut off; it has the grace to come back."""
        self._former = link
        if self._link != link or self._is_lost:
            return
        self._link = None
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(self._grace, self.lose)

    def lose(self) -> None:
        """The worker does not come back, or does not know the assignment."""
        self._stop_timer()
        self._link = None
        self._is_lost = True
        self._changed.set()

    def accept(self, message: WorkerMessage) -> bool:
        """Keep a message until it is taken; one that was sent again is dropped. False: a message
        before it is missing, or the assignment is over."""
        if message.seq <= self.accepted:
            return True
        if self._is_lost or message.seq != self.accepted + 1:
            return False
        self.accepted = message.seq
        self.has_begun = self.has_begun or bool(message.chunks)
        self._queue.append(message)
        self._changed.set()
        return True

    async def chunks(self) -> AsyncGenerator[AgentChunk, None]:
        """The chunks, until the worker ends the turn.

        A message is acknowledged once all of its chunks were taken: a worker whose messages are not
        acknowledged waits. Raises AgentError as the worker said, and WorkerLost.
        """
        while True:
            message = await self._next()
            for value in message.chunks:
                chunk = value if type(value) is str else chunk_of(value)
                if isinstance(chunk, EndOfTurn):
                    return
                yield chunk
            self.taken = message.seq
            if self._link is not None:
                self._link.ack(self.id, message.seq)
            self._is_over = message.is_last
            if message.error is not None:
                raise error_of(message.error)
            if message.is_last:
                return

    def close(self) -> None:
        """Nobody takes its chunks any more: the worker is told, unless it has ended the turn."""
        link = self._link
        self.lose()
        self._queue.clear()
        if link is not None and not self._is_over:
            link.cancel(self.id)

    async def _next(self) -> WorkerMessage:
        while not self._queue:
            if self._is_lost:
                raise WorkerLost
            self._changed.clear()
            await self._changed.wait()
        return self._queue.popleft()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

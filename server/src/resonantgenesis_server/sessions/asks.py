"""What the agent of a turn asks, until the turn stops for it.

An agent asks in two ways. It yields `Ask` values and returns: it is started again with the answers.
Or it awaits `turn.ask`: it goes on in its place while its process holds it, else it is run again
from its start. What it yields up to its asks was written before, and is left out then.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..agents.base import Answer
from ..agents.threads import result_in_thread
from ..codec.json import NotJson, dumps
from ..model.chunks import Ask, ToolCall
from ..model.errors import AgentError
from ..model.limits import Limits
from .chunks import ChunkMaker, Encoded, ask_chunk
from .state import Resume
from .turn_writer import Sealed

#: Asks of one stop, and bytes of their chunks together, under the log's bound of an append.
MAX_ASKS, _MAX_BYTES = 32, 2 << 20
#: Characters of a message and of a call_id.
_MAX_MESSAGE, _MAX_CALL_ID = 4_000, 128
#: Bytes of JSON of what an agent keeps.
MAX_KEPT = 256 * 1024
#: Seconds in which further asks of the same moment gather.
_GATHER = 0.01
#: The longest `expires_in`, in seconds.
MAX_EXPIRES = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Asked:
    """An ask with its id and its end, in seconds since 1970; `chunk` is its `input_required`."""

    call_id: str
    ask: Ask
    expires_at: float
    chunk: Encoded


@dataclass(frozen=True, slots=True)
class Stop:
    """A turn stops. `ran` is in seconds; `kept` is what the agent wants back."""

    asks: list[Asked]
    resume: Resume
    held: bool
    ran: float
    input_tokens: int
    output_tokens: int
    kept: Any = None


class Answers(Mapping[str, Answer]):
    """The answers of a turn, as its agent sees them; `taken` are those that it has looked up."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = dict(answers)
        self.taken: set[str] = set()

    def __getitem__(self, call_id: str) -> Answer:
        answer = self._answers[call_id]
        self.taken.add(call_id)
        return answer

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, answers: Mapping[str, Answer]) -> None:
        self._answers |= answers


async def _over(_call: ToolCall) -> None:
    raise Sealed


class TurnQuestions:
    """The `TurnAsks` of one run of an agent.

    `ready` is called when asks have gathered for a stop. `maker` numbers the calls; `show` writes a
    call that the agent did not yield. With `replays` the agent was started again, and `replaying`
    is true until it has taken all answers, or asks something new.
    """

    def __init__(
        self,
        turn: int,
        answers: Answers,
        maker: ChunkMaker,
        *,
        replays: bool,
        limits: Limits,
        now: Callable[[], float],
        ready: Callable[[], None],
        show: Callable[[ToolCall], Awaitable[None]],
    ) -> None:
        self.answers = answers
        self.maker = maker
        self._replays = replays
        self._turn = turn
        self._limits = limits
        self._now = now
        self._ready = ready
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._inputs = 0 if replays else len(answers)
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        #: Asks for the next stop, and all that have no answer yet, by call_id.
        self._gathered: dict[str, Asked] = {}
        self._open: dict[str, asyncio.Future[Answer] | None] = {}
        self._known: set[str] = set()
        #: Asks of the stop that the agent waits for no more.
        self.withdrawn: set[str] = set()

    @property
    def replaying(self) -> bool:
        return self._replays and not self.answers.taken.issuperset(self.answers)

    @property
    def gathered(self) -> list[Asked]:
        """The asks for the next stop."""
        return list(self._gathered.values())

    @property
    def are_ready(self) -> bool:
        """Whether the turn is to stop while its agent waits."""
        return (
            bool(self._gathered)
            and self._timer is None
            and any(self._open[call_id] is not None for call_id in self._gathered)
        )

    def stopped(self) -> list[Asked]:
        """Take the gathered asks into a stop."""
        asks, self._gathered = self.gathered, {}
        return asks

    def answered(self, answers: Mapping[str, Answer]) -> None:
        """Give the agent its answers; it goes on."""
        self.answers.add(answers)
        self.withdrawn.clear()
        for call_id, answer in answers.items():
            future = self._open.pop(call_id, None)
            if future is not None and not future.done():
                self.answers.taken.add(call_id)
                future.set_result(answer)

    def close(self) -> None:
        """Nobody answers any more: who still waits is cancelled."""
        self._is_closed = True
        self._show = _over
        if self._timer is not None:
            self._timer.cancel()
        for future in self._open.values():
            if future is not None:
                future.cancel()

    # -- called by the agent ---------------------------------------------------------------

    async def ask(self, ask: Ask) -> Answer:
        call_id, is_shown = self._name(ask)
        known = self.answers.get(call_id)
        if known is not None:
            if not is_shown:
                list(self.maker.encode(_call(ask, call_id)))
            return known
        self._replays = False
        asked = self._asked(ask, call_id)
        if self._is_closed:
            raise asyncio.CancelledError
        if not is_shown:
            await self._show(_call(ask, call_id))
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._gather(asked, future)
        try:
            return await future
        except asyncio.CancelledError:
            self._withdraw(call_id)
            raise

    def ask_from_thread(self, ask: Ask) -> Answer:
        if threading.get_ident() == self._thread:
            raise RuntimeError("this is the event loop: await ask instead")
        return result_in_thread(self.ask(ask), self._loop)

    async def yielded(self, ask: Ask) -> None:
        """An `Ask` that the agent has yielded: the turn stops for it when the agent returns."""
        call_id, is_shown = self._name(ask)
        if self.answers.get(call_id) is not None:
            return  # the agent asks again for what it has
        asked = self._asked(ask, call_id)
        if not is_shown:
            await self._show(_call(ask, call_id))
        self._gather(asked, None)

    # -- inside ----------------------------------------------------------------------------

    def _name(self, ask: Ask) -> tuple[str, bool]:
        """The ask's call_id, and whether the stream shows its call. Raises AgentError."""
        if len(ask.call_id) > _MAX_CALL_ID:
            raise AgentError(f"a call_id has at most {_MAX_CALL_ID} characters")
        if ask.kind != "input":
            if not ask.tool:
                raise AgentError(f"an ask of kind {ask.kind} names a tool")
            call_id, is_shown = self.maker.asked_about(ask, self._known)
        else:
            self._inputs += not ask.call_id
            call_id, is_shown = ask.call_id or f"ask_{self._turn}_{self._inputs}", True
        if call_id in self._known:
            raise AgentError(f"the call_id {call_id!r} was asked already")
        self._known.add(call_id)
        return call_id, is_shown

    def _asked(self, ask: Ask, call_id: str) -> Asked:
        """Raises AgentError for an ask that cannot be shown to clients."""
        if len(self._gathered) >= MAX_ASKS:
            raise AgentError(f"a turn asks at most {MAX_ASKS} things at once")
        if len(ask.message) > _MAX_MESSAGE:
            raise AgentError(f"the message of an ask has at most {_MAX_MESSAGE} characters")
        seconds = self._limits.input_expires if ask.expires_in is None else ask.expires_in
        if not 0 < seconds <= MAX_EXPIRES:
            raise AgentError(f"expires_in must be over 0 and at most {MAX_EXPIRES:g} seconds")
        if ask.schema is not None and ask.kind == "input":
            _check_schema(ask.schema, call_id)
        try:
            expires_at = round(self._now() + seconds, 6)
            chunk = ask_chunk(ask, call_id, expires_at)
        except NotJson as error:
            raise AgentError(f"the ask {call_id!r} cannot be made: {error}") from error
        sizes = [len(each.chunk.body) for each in self._gathered.values()]
        if len(chunk.body) > self._limits.chunk or sum(sizes) + len(chunk.body) > _MAX_BYTES:
            raise AgentError("the asks are too large", "PAYLOAD_TOO_LARGE")
        return Asked(call_id, ask, expires_at, chunk)

    def _gather(self, asked: Asked, future: asyncio.Future[Answer] | None) -> None:
        self._gathered[asked.call_id] = asked
        self._open[asked.call_id] = future
        if future is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_GATHER, self._have_gathered)

    def _have_gathered(self) -> None:
        self._timer = None
        self._ready()

    def _withdraw(self, call_id: str) -> None:
        if self._is_closed:
            return
        self._open.pop(call_id, None)
        if self._gathered.pop(call_id, None) is None:
            self.withdrawn.add(call_id)
            self._ready()


def _check_schema(schema: Mapping[str, Any], call_id: str) -> None:
    # Most servers never import it: 20 ms. In a thread, asks of one moment would not stay together.
    json_schema = importlib.import_module("..codec.json_schema", __package__)
    try:
        json_schema.check_schema(schema)
    except json_schema.BadSchema as error:
        raise AgentError(f"the ask {call_id!r} cannot be made: {error}") from error


def _call(ask: Ask, call_id: str) -> ToolCall:
    """The call that an ask is about."""
    return ToolCall(ask.tool, ask.args, call_id, agent_id=ask.agent_id, parent=ask.parent)


def check_kept(value: Any) -> Any:
    """What the agent keeps. Raises AgentError."""
    try:
        size = len(dumps(value))
    except NotJson as error:
        raise AgentError(f"what the agent keeps has no JSON form: {error}") from error
    if size > MAX_KEPT:
        raise AgentError(f"the agent keeps {size} bytes; at most {MAX_KEPT} fit")
    return value

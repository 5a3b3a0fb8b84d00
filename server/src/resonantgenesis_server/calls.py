"""Calls between nodes: what one node must ask another to do, since only that one writes a session.

A call is a message with an answer. A message can be lost, so a caller waits for a bounded time and
then looks again; whoever answers may have done what was asked all the same. Therefore every verb
can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson
import structlog

from . import metrics
from .codec.json import dumps
from .log.base import LogError
from .model.errors import ApiError, Internal, Unavailable

log_ = structlog.get_logger("resonantgenesis.nodes")

#: Calls of other nodes that are answered at once; more are refused.
_MAX_CALLS = 2_000
#: Seconds after which the caller of a node that does not answer looks again.
CALL_SECONDS = 5.0
#: Seconds for a question to all nodes; who has not answered by then is left out.
ALL_SECONDS = 0.5


class NoAnswer(Unavailable):
    """The other node has not answered in time, or is not the one to ask; it may have done what was
    asked all the same."""

    def __init__(self, message: str = "the other node does not answer", **said: Any) -> None:
        super().__init__(message, **{"retry_after": 1.0, **said})


Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Mail(Protocol):
    """Messages between nodes; see `log/postgres/nodes.py`."""

    on_message: Callable[[bytes], None]

    @property
    def id(self) -> int: ...

    @property
    def others(self) -> Iterable[int]: ...

    async def send(self, nodes: Sequence[int], body: bytes) -> None: ...


class Calls:
    """Asks other nodes, and answers them by `handlers`, until `close`."""

    def __init__(self, mail: Mail) -> None:
        self.handlers: dict[str, Handler] = {}
        self._mail = mail
        self._number = 0
        #: Calls that wait for an answer, by number.
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        mail.on_message = self._hear

    @property
    def node(self) -> int:
        """The number of this node."""
        return self._mail.id

    @property
    def others(self) -> frozenset[int]:
        """The numbers of the other nodes that live."""
        return frozenset(self._mail.others)

    async def close(self) -> None:
        for task in self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering, timeout=5.0)

    async def call(
        self, node: int, verb: str, args: Mapping[str, Any], *, seconds: float = CALL_SECONDS
    ) -> Any:
        """What the node answers. Raises its ApiError, NoAnswer, and LogUnavailable."""
        number, answer = self._expect()
        try:
            await self._send([node], {"call": number, "verb": verb, "args": args})
            async with asyncio.timeout(seconds):
                result = await answer
        except (NoAnswer, LogError):
            metrics.node_called("failed")
            raise
        except TimeoutError:
            metrics.node_called("failed")
            raise NoAnswer from None
        except ApiError:
            metrics.node_called("answered")
            raise
        finally:
            del self._waiting[number]
        metrics.node_called("answered")
        return result

    async def ask_all(
        self, verb: str, args: Mapping[str, Any], *, seconds: float = ALL_SECONDS
    ) -> list[Any]:
        """The answers of all other nodes that answer in time, and not with an error."""
        calls = [self.call(node, verb, args, seconds=seconds) for node in self.others]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return [each for each in answers if not isinstance(each, BaseException)]

    async def all_do(
        self, verb: str, args: Mapping[str, Any], *, seconds: float = ALL_SECONDS
    ) -> bool:
        """Whether all other nodes have done this in time."""
        others = len(self.others)
        return len(await self.ask_all(verb, args, seconds=seconds)) >= others

    async def tell_all(self, verb: str, args: Mapping[str, Any]) -> None:
        """Tell all other nodes; nobody answers, and a message may be lost. Raises
        LogUnavailable."""
        await self._send(tuple(self.others), {"verb": verb, "args": args})

    def _expect(self) -> tuple[int, asyncio.Future[Any]]:
        self._number += 1
        answer = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = answer
        return self._number, answer

    async def _send(self, nodes: Sequence[int], message: Mapping[str, Any]) -> None:
        await self._mail.send(nodes, dumps({"from": self._mail.id, **message}))

    # -- heard -----------------------------------------------------------------------------

    def _hear(self, body: bytes) -> None:
        message = orjson.loads(body)
        if "answer" not in message:
            task = asyncio.create_task(self._answer(message), name=f"call {message['verb']}")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        answer = self._waiting.get(message["answer"])
        if answer is None or answer.done():
            return  # it came too late
        if "error" in message:
            answer.set_exception(_raised(message["error"]))
        else:
            answer.set_result(message["result"])

    async def _answer(self, message: Mapping[str, Any]) -> None:
        said: dict[str, Any]
        try:
            handler = self.handlers.get(message["verb"])
            if handler is None or len(self._answering) > _MAX_CALLS:
                raise NoAnswer("this node cannot answer now")
            said = {"result": await handler(message["args"])}
        except ApiError as error:
            said = {"error": _said(error)}
        except LogError as error:
            said = {"error": _said(Unavailable(str(error), retry_after=1))}
        except Exception as error:
            metrics.defect("other")
            log_.error("a call of another node failed", verb=message["verb"], exc_info=error)
            said = {"error": _said(Internal("the other node failed internally"))}
        if "call" not in message:
            return  # nobody waits
        try:
            await self._send([message["from"]], {"answer": message["call"], **said})
        except LogError as error:
            log_.warning("an answer to another node is lost", error=str(error))


def _said(error: ApiError) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "details": error.details,
        "retry_after": error.retry_after,
    }


def _raised(said: Mapping[str, Any]) -> ApiError:
    kind = _kinds().get(said["kind"], Unavailable)
    return kind(said["message"], details=said["details"], retry_after=said["retry_after"])


def _kinds() -> dict[str, type[ApiError]]:
    kinds = {ApiError.__name__: ApiError}
    left = [ApiError]
    while left:
        for kind in left.pop().__subclasses__():
            kinds[kind.__name__] = kind
            left.append(kind)
    return kinds

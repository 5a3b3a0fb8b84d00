"""What callers see and change of a conversation, within their rights: messages and the queue."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..agents.base import CheckTools
from ..codec.times import rfc3339
from ..model.errors import PayloadTooLarge
from ..model.ids import new_id
from ..model.principal import Principal
from .chunks import user_message_chunk
from .message_pages import FoldOf, MessagePage, MessagePages, answer_fold
from .peers import SessionPeers
from .session import Session
from .state import SessionState
from .steering import edit_turn, post_message, remove_turn
from .supervisor import Supervisor

Json = dict[str, Any]


class Conversations:
    """Raises ApiError, LogError and StoreError. A change goes on when its caller is cancelled."""

    def __init__(
        self,
        supervisor: Supervisor,
        peers: SessionPeers,
        authorize: Callable[[Principal, str], Awaitable[SessionState]],
        check_tools: CheckTools,
    ) -> None:
        """`authorize` gives a session that the caller may see, `check_tools` raises for unknown
        tools."""
        self._supervisor = supervisor
        self._peers = peers
        self._authorize = authorize
        self._check_tools = check_tools
        self._pages = MessagePages(supervisor.states, supervisor.history)
        peers.offer("post", _post)
        peers.offer("edit_turn", _edit)
        peers.offer("remove_turn", _remove)

    async def messages(
        self,
        principal: Principal,
        session_id: str,
        *,
        limit: int,
        cursor: str | None,
        fold_of: FoldOf = answer_fold,
    ) -> MessagePage:
        """The newest messages, or those before the cursor; see MessagePages."""
        state = await self._authorize(principal, session_id)
        self._supervisor.states.viewed(session_id)
        return await self._pages.page(
            session_id, state, limit=limit, cursor=cursor, fold_of=fold_of
        )

    async def post(
        self,
        principal: Principal,
        session_id: str,
        content: str,
        *,
        message_id: str | None = None,
        key: str | None = None,
    ) -> Json:
        """Say something to the open turn; durable when this returns. `message_id`, or else the
        Idempotency-Key, makes a repeat the same message. See `post_message`."""
        await self._authorize(principal, session_id)
        name = message_id or _message_id(principal, key)
        self._check_content(name, content)
        args = {"session_id": session_id, "message_id": name, "content": content}
        turn = await self._supervisor.detached(self._peers.ask("post", args))
        return {"session_id": session_id, "turn": turn, "message_id": name}

    def _check_content(self, message_id: str, content: str) -> None:
        limits = self._supervisor.limits
        if len(content.encode("utf-8", "surrogatepass")) > limits.goal:
            raise PayloadTooLarge(
                f"the message is over {limits.goal} bytes", details={"limit": limits.goal}
            )
        size = len(user_message_chunk(message_id, content, taken=False).body)
        if size > limits.chunk:
            raise PayloadTooLarge(
                f"the message would be a chunk of {size} bytes; at most {limits.chunk} fit",
                details={"limit": limits.chunk},
            )

    # -- the queue -------------------------------------------------------------------------

    async def queue(self, principal: Principal, session_id: str) -> list[Json]:
        """The turns that wait for others, in their order."""
        state = await self._authorize(principal, session_id)
        queued: list[Json] = []
        for turn in state.open_turns:
            if turn.status == "queued" and not turn.withdrawn:
                request = await self._supervisor.history.request(session_id, turn)
                queued.append(
                    {
                        "turn": turn.turn,
                        "goal": request.goal,
                        "model": request.model,
                        "tools": request.tools,
                        "metadata": request.metadata,
                        "max_steps": request.max_steps,
                        "timeout_seconds": request.timeout_seconds,
                        "queued_at": rfc3339(turn.queued_at),
                    }
                )
        return queued

    async def edit_queued(
        self, principal: Principal, session_id: str, turn: int, changes: Mapping[str, Any]
    ) -> None:
        """Change a turn that waits; see `edit_turn`."""
        await self._authorize(principal, session_id)
        if changes.get("tools"):
            await self._check_tools(changes["tools"])
        limits = self._supervisor.limits
        bounds = {"max_steps": limits.max_steps, "timeout_seconds": limits.max_timeout}
        bounded = {
            name: min(value, bounds[name]) if name in bounds else value
            for name, value in changes.items()
        }
        args = {"session_id": session_id, "turn": turn, "changes": bounded}
        await self._supervisor.detached(self._peers.ask("edit_turn", args))

    async def remove_queued(self, principal: Principal, session_id: str, turn: int) -> None:
        """Take a turn that waits out of the queue; see `remove_turn`."""
        await self._authorize(principal, session_id)
        args = {"session_id": session_id, "turn": turn}
        await self._supervisor.detached(self._peers.ask("remove_turn", args))


def _message_id(principal: Principal, key: str | None) -> str:
    """The id of a message whose sender has not named it: for one key always the same."""
    if key is None:
        return new_id("msg")
    scope = f"{principal.organization_id}\0{principal.idempotency_scope}\0{key}"
    return f"msg_{hashlib.sha256(scope.encode()).hexdigest()[:32]}"


async def _post(session: Session, args: Mapping[str, Any]) -> int:
    return await post_message(session, args["message_id"], args["content"])


async def _edit(session: Session, args: Mapping[str, Any]) -> None:
    await edit_turn(session, args["turn"], args["changes"])


async def _remove(session: Session, args: Mapping[str, Any]) -> None:
    await remove_turn(session, args["turn"])

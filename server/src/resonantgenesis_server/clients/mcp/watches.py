"""What clients up to 2025-11-25 watch. They say it in requests of their own, so it is kept for each
MCP session: in the memory of every node, since the stream of its messages may be at any of them.
"""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...calls import Calls
from ...log.base import LogError
from ...model.errors import Unavailable
from ...model.principal import Principal
from ..json_rpc import INVALID_PARAMS, RpcError
from ..names import digest_key

#: MCP sessions of an organization that are remembered, and sessions that one of them watches; it
#: also hears of so many of its newest tasks. Beyond, the caller with the most forgets its oldest.
_REMEMBERED, MOST_WATCHED = 500, 64
_CHANGE, _ASK = "mcp watch", "mcp watches"

Kind = Literal["sessions", "tasks"]


@dataclass(slots=True)
class WatchSet:
    """The sessions and the tasks that a client hears of, the oldest first, and whether it hears of
    changed lists. `owner`: all MCP sessions of one caller have it."""

    sessions: dict[str, None] = field(default_factory=dict)
    tasks: dict[str, None] = field(default_factory=dict)
    tool_list: bool = False
    session_list: bool = False
    owner: str = ""


class Watches:
    """What each MCP session watches."""

    def __init__(self, calls: Calls | None) -> None:
        self._calls = calls
        self._of: dict[str, OrderedDict[str, WatchSet]] = {}
        if calls is not None:
            calls.handlers[_CHANGE] = self._hear
            calls.handlers[_ASK] = self._tell

    async def opened(self, principal: Principal, mcp_session: str) -> WatchSet:
        """What the MCP session watches, now and later. Other nodes are asked where this one knows
        nothing of it."""
        place = _place(principal, mcp_session)
        is_known = place["name"] in self._of.get(place["organization"], ())
        watched = self._watched(place)
        if self._calls is not None and not is_known:
            for answer in await self._calls.ask_all(_ASK, place):
                watched.sessions.update(dict.fromkeys(answer["sessions"]))
                watched.tasks.update(dict.fromkeys(answer["tasks"]))
        return watched

    async def watch(self, principal: Principal, mcp_session: str, session_id: str) -> None:
        """Raises RpcError for one too many, Unavailable if a node has not heard of it."""
        watched = await self.opened(principal, mcp_session)
        if session_id not in watched.sessions and len(watched.sessions) >= MOST_WATCHED:
            raise RpcError(INVALID_PARAMS, f"a client watches at most {MOST_WATCHED} resources")
        await self._change(principal, mcp_session, "sessions", session_id, added=True)

    async def unwatch(self, principal: Principal, mcp_session: str, session_id: str) -> None:
        """Raises Unavailable if a node has not heard of it."""
        await self._change(principal, mcp_session, "sessions", session_id, added=False)

    async def watch_task(self, principal: Principal, mcp_session: str, task_id: str) -> None:
        """Watch a task of the client, which may also ask for it."""
        with contextlib.suppress(Unavailable, LogError):
            await self._change(principal, mcp_session, "tasks", task_id, added=True)

    async def _change(
        self, principal: Principal, mcp_session: str, kind: Kind, value: str, *, added: bool
    ) -> None:
        change = {**_place(principal, mcp_session), "kind": kind, "value": value}
        await self._hear({**change, "added": added})
        if self._calls is not None and not await self._calls.all_do(
            _CHANGE, {**change, "added": added}
        ):
            raise Unavailable("not every node of the server has answered", retry_after=1)

    def _watched(self, place: Mapping[str, Any]) -> WatchSet:
        remembered = self._of.setdefault(place["organization"], OrderedDict())
        # A node of the version before names no owner.
        found = remembered.setdefault(place["name"], WatchSet(owner=place.get("owner", "")))
        remembered.move_to_end(place["name"])
        if len(remembered) > _REMEMBERED:
            del remembered[_oldest_of_most(remembered)]
        return found

    # -- asked by other nodes --------------------------------------------------------------

    async def _hear(self, change: Mapping[str, Any]) -> None:
        watched = self._watched(change)
        values = watched.tasks if change["kind"] == "tasks" else watched.sessions
        values.pop(change["value"], None)
        if change["added"]:
            values[change["value"]] = None
        while len(values) > MOST_WATCHED:
            del values[next(iter(values))]

    async def _tell(self, place: Mapping[str, Any]) -> dict[str, list[str]]:
        watched = self._of.get(place["organization"], {}).get(place["name"], WatchSet())
        return {"sessions": [*watched.sessions], "tasks": [*watched.tasks]}


def _oldest_of_most(remembered: Mapping[str, WatchSet]) -> str:
    """The oldest MCP session of the caller that has the most, so that no caller's flood makes the
    server forget what others watch."""
    ((most, _),) = Counter(each.owner for each in remembered.values()).most_common(1)
    return next(name for name, each in remembered.items() if each.owner == most)


def _place(principal: Principal, mcp_session: str) -> dict[str, str]:
    """Where the MCP session stands: no other caller can name it."""
    scope = principal.idempotency_scope
    return {
        "organization": principal.organization_id,
        "name": digest_key("mcp", [scope, mcp_session]),
        "owner": digest_key("mcp", [scope]),
    }

"""Sessions as resources, to be listed, read and watched."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ...codec.json import dumps
from ...model.errors import SessionNotFound
from ...model.ids import is_id
from ...model.principal import Principal
from ...sessions.service import SessionService
from ..json_rpc import INVALID_PARAMS, Json, RpcError

_BASE = "resonantgenesis://sessions/"
_TYPE = "application/json"
_NOT_FOUND = -32002
#: Sessions of a page, and messages of a session that is read.
_PAGE, _MESSAGES = 100, 50

TEMPLATES: Json = {
    "resourceTemplates": [
        {
            "uriTemplate": _BASE + "{session_id}",
            "name": "session",
            "title": "A session",
            "description": f"A session: its state, and its newest {_MESSAGES} messages.",
            "mimeType": _TYPE,
        }
    ]
}


def session_uri(session_id: str) -> str:
    return _BASE + session_id


def session_in(uri: object) -> str:
    """The id of the session that the URI names; "" for any other."""
    base, _, name = uri.rpartition("/") if isinstance(uri, str) else ("", "", "")
    return name if f"{base}/" == _BASE and is_id(name) else ""


class SessionResources:
    """Reads sessions as resources."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    async def page(self, principal: Principal, cursor: str | None) -> Json:
        """The sessions, newest first."""
        page = await self._service.list_sessions(
            principal, agent_id=None, status=None, limit=_PAGE, cursor=cursor
        )
        found: Json = {"resources": [_resource(each) for each in page.items]}
        return found | ({"nextCursor": page.next_cursor} if page.next_cursor else {})

    async def check(self, principal: Principal, uri: object, *, is_modern: bool) -> str:
        """The id of the session that the URI names. Raises RpcError for one that the caller does
        not see."""
        session_id = session_in(uri)
        with contextlib.suppress(SessionNotFound):
            await self._service.check(principal, session_id)
            return session_id
        code = INVALID_PARAMS if is_modern else _NOT_FOUND
        raise RpcError(code, "no such resource")

    async def read(self, principal: Principal, uri: object, *, is_modern: bool) -> Json:
        """The session with its newest messages."""
        session_id = await self.check(principal, uri, is_modern=is_modern)
        session = await self._service.get(principal, session_id)
        page = await self._service.conversations.messages(
            principal, session_id, limit=_MESSAGES, cursor=None
        )
        text = dumps({"session": session, "messages": page.messages}).decode()
        return {"contents": [{"uri": session_uri(session_id), "mimeType": _TYPE, "text": text}]}


def _resource(session: Mapping[str, Any]) -> Json:
    session_id = session["session_id"]
    return {
        "uri": session_uri(session_id),
        "name": session_id,
        "title": f"{session['agent_id']}: {session['status']}",
        "mimeType": _TYPE,
        "annotations": {"lastModified": session["updated_at"]},
    }

"""How clients of other protocols name sessions, turns and requests; and what their texts mean."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..codec.json import loads
from ..model.errors import InvalidRequest
from ..model.ids import id_of
from ..model.principal import Principal

#: Characters of an id that a client chooses.
_LONGEST_ID = 255
_TURN = re.compile(r"(sess_[A-Za-z0-9]{1,64})\.([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class SessionAlias:
    """A client's own name of a session, e.g. the chat id of the AI SDK.

    `agent_id` None: the name alone says which session is meant, whatever its agent.
    """

    protocol: str
    agent_id: str | None
    name: str

    def session_id(self, principal: Principal) -> str:
        """The session's id: a function of the name and of its owner, so nothing has to be kept and
        two requests that begin at once mean one session."""
        owner = (principal.organization_id, principal.idempotency_scope)
        return id_of("sess", *owner, self.protocol, self.agent_id or "", self.name)


def turn_named(name: str) -> tuple[str, int] | None:
    """The session and the turn of an id like `sess_….3`."""
    match = _TURN.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def check_name(name: str) -> None:
    """Raises InvalidRequest."""
    if not 1 <= len(name) <= _LONGEST_ID or not name.isprintable():
        raise InvalidRequest.field("id", f"1 to {_LONGEST_ID} printable characters")


def digest_key(protocol: str, parts: Sequence[str]) -> str:
    """An Idempotency-Key for a request that has none, from what makes it the same request."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return f"{protocol}:{hashlib.sha256(text).hexdigest()}"


def json_or_text(text: str) -> Any:
    """The value of a JSON text, or the text itself if it is none."""
    try:
        return loads(text)
    except ValueError:
        return text

"""`client.agents`, `keys`, `tokens` and `usage`, synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._core import calls
from .._core.calls import GroupBy, Moment
from ..models import Agent, ApiKey, Page, SigningKey, Token, UsageReport
from .transport import SyncTransport


class SyncAgents:
    """Agents. All methods raise StreamError."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def create(self, **fields: Any) -> Agent:
        """Makes an agent: id (optional), name, engine, instructions, model, tools, defaults."""
        return self._transport.call(calls.create_agent(fields))

    def get(self, agent_id: str) -> Agent:
        """An agent's settings."""
        return self._transport.call(calls.get_agent(agent_id))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Agent]:
        """One page of agents."""
        return self._transport.call(calls.list_agents(limit, cursor))

    def update(self, agent_id: str, **fields: Any) -> Agent:
        """Changes the given fields."""
        return self._transport.call(calls.update_agent(agent_id, fields))

    def delete(self, agent_id: str) -> None:
        """Deletes an agent; its sessions stay readable."""
        self._transport.call(calls.delete_agent(agent_id))


class SyncTokens:
    """Client tokens: short-lived credentials for browsers."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def create(
        self,
        scopes: Sequence[str],
        *,
        subject: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        ttl_seconds: int | None = None,
    ) -> Token:
        """A token with `scopes`, confined to a subject, session or agent if named."""
        return self._transport.call(
            calls.create_token(
                scopes,
                subject=subject,
                session_id=session_id,
                agent_id=agent_id,
                ttl_seconds=ttl_seconds,
            )
        )

    def rotate(self, *, end_tokens: bool = False) -> SigningKey:
        """Has the server sign tokens with a new key from now on; needs its bootstrap key. Tokens
        that are out stay valid until they expire, or end with `end_tokens`."""
        return self._transport.call(calls.rotate_tokens(end_tokens))


class SyncKeys:
    """API keys of the organization. Needs the scopes `keys:read` and `keys:write`; all methods
    raise StreamError."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def create(self, name: str, scopes: Sequence[str], *, expires_in: int | None = None) -> ApiKey:
        """A key with `scopes`, none of which the client's own may lack; `expires_in` in seconds,
        None: no end. Its `.key` is shown this once: when the answer was lost on the way, this
        raises Conflict, and a new one is to be made."""
        return self._transport.call(calls.create_key(name, scopes, expires_in))

    def get(self, key_id: str) -> ApiKey:
        """A key without its credential."""
        return self._transport.call(calls.get_key(key_id))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[ApiKey]:
        """One page of keys, newest first, also those that are revoked or have expired."""
        return self._transport.call(calls.list_keys(limit, cursor))

    def revoke(self, key_id: str) -> None:
        """Ends a key, its tokens, and what they hold open, for good."""
        self._transport.call(calls.revoke_key(key_id))


class SyncUsage:
    """What turns took. Needs the scope `usage:read`."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def report(
        self,
        group_by: GroupBy = "day",
        *,
        since: Moment = None,
        until: Moment = None,
        agent_id: str | None = None,
        key_id: str | None = None,
        subject: str | None = None,
        session_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> UsageReport:
        """Tokens, steps and time of the turns that ended from `since` (the last 30 days) to before
        `until` (now), one page of groups. Raises StreamError."""
        return self._transport.call(
            calls.usage_report(
                group_by,
                since=since,
                until=until,
                agent_id=agent_id,
                key_id=key_id,
                subject=subject,
                session_id=session_id,
                limit=limit,
                cursor=cursor,
            )
        )

"""`client.agents`, `teams`, `keys`, `nodes`, `organizations`, `tokens`, `usage`, `metrics`,
`tools`, `subjects` and `webhooks`, asynchronous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from .._core import calls
from .._core.calls import GroupBy, MetricsOf, Moment
from .._core.messages import without_none
from .._serving.handlers import Handler
from .._serving.worker import DEFAULT_CAPACITY, DEFAULT_DRAIN, Worker
from ..administration import Erased, LiveMetrics, Tool
from ..errors import Conflict, NotFound, PermissionDenied
from ..models import (
    Agent,
    AgentWorker,
    ApiKey,
    Organization,
    Page,
    ServerNode,
    SigningKey,
    SignInLink,
    Team,
    Token,
    UsageReport,
    Webhook,
    WebhookDelivery,
)
from ..webhooks import new_webhook_secret
from .transport import AsyncTransport


class AsyncAgents:
    """Agents. All methods raise StreamError."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **fields: Any) -> Agent:
        """Make an agent: id (optional), name, engine, instructions, model, tools, defaults, and
        for the engine `http` url and secret (optional)."""
        return await self._transport.call(calls.create_agent(fields))

    async def get(self, agent_id: str) -> Agent:
        """An agent's settings."""
        return await self._transport.call(calls.get_agent(agent_id))

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Agent]:
        """One page of agents."""
        return await self._transport.call(calls.list_agents(limit, cursor))

    async def update(self, agent_id: str, **fields: Any) -> Agent:
        """Change the given fields."""
        return await self._transport.call(calls.update_agent(agent_id, fields))

    async def delete(self, agent_id: str) -> None:
        """Delete an agent; its sessions stay readable."""
        await self._transport.call(calls.delete_agent(agent_id))

    async def workers(self) -> Page[AgentWorker]:
        """The workers that are connected, by agent."""
        return await self._transport.call(calls.list_workers())

    async def serve(
        self,
        agent_id: str,
        handler: Handler,
        *,
        capacity: int = DEFAULT_CAPACITY,
        name: str | None = None,
        drain_seconds: float = DEFAULT_DRAIN,
    ) -> None:
        """Be a worker: run the agent's turns with `handler`, at most `capacity` at once.

        `handler` takes a `serving.Turn` and yields or returns text or the values of `serving`: a
        generator, a coroutine or a function. Needs the scope `agents:serve`. An agent that does not
        exist is made, if the key may make agents. After a cut the worker goes on where it was. In
        the main thread SIGTERM and SIGINT let running turns end, at most `drain_seconds`, and then
        this returns.
        """
        await self._make_served(agent_id)
        worker = Worker(
            self._transport.settings,
            agent_id,
            handler,
            capacity=capacity,
            name=name,
            drain_seconds=drain_seconds,
        )
        # async only
        await worker.serve()
        # sync: worker.serve_here()

    async def _make_served(self, agent_id: str) -> None:
        """Make the agent unless it is there; the worker's socket tells what is wrong then."""
        try:
            await self.get(agent_id)
        except NotFound:
            with suppress(PermissionDenied, Conflict):
                await self.create(id=agent_id, name=agent_id, engine="worker")
        except PermissionDenied:
            return


class AsyncTeams:
    """Agents that do a turn together. A team is executed as an agent is, by its id. All methods
    raise StreamError."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **fields: Any) -> Team:
        """Make a team: id (optional), name, description, strategy (`sequential`, `parallel` or
        `hierarchical`), members (each {agent_id, role, instructions}), lead, on_failure (`fail` or
        `continue`), defaults."""
        return await self._transport.call(calls.create_team(fields))

    async def get(self, team_id: str) -> Team:
        """A team's settings."""
        return await self._transport.call(calls.get_team(team_id))

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Team]:
        """One page of teams."""
        return await self._transport.call(calls.list_teams(limit, cursor))

    async def update(self, team_id: str, **fields: Any) -> Team:
        """Change the given fields."""
        return await self._transport.call(calls.update_team(team_id, fields))

    async def delete(self, team_id: str) -> None:
        """Delete a team; its members and its sessions stay."""
        await self._transport.call(calls.delete_team(team_id))


class AsyncOrganizations:
    """Tenants of one server, sealed off from each other. Needs the server's bootstrap key; all
    methods raise StreamError."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, name: str, *, key_name: str | None = None) -> Organization:
        """An organization and its first key, with every scope in it, which is shown this once as
        `.key.key`."""
        return await self._transport.call(calls.create_organization(name, key_name))

    async def get(self, organization_id: str) -> Organization:
        """An organization."""
        return await self._transport.call(calls.get_organization(organization_id))

    async def list(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[Organization]:
        """One page of organizations, oldest first."""
        return await self._transport.call(calls.list_organizations(limit, cursor))

    async def update(
        self, organization_id: str, *, name: str | None = None, disabled: bool | None = None
    ) -> Organization:
        """Rename, disable or enable it. Disabled, none of its credentials opens anything, and what
        they hold open ends within 2 s; nothing is deleted."""
        fields = without_none(name=name, disabled=disabled)
        return await self._transport.call(calls.update_organization(organization_id, fields))

    async def delete(self, organization_id: str) -> Erased:
        """Disable it and delete all that it has, for some seconds: call again while `has_more`."""
        return await self._transport.call(calls.delete_organization(organization_id))

    async def create_key(
        self,
        organization_id: str,
        name: str,
        scopes: Sequence[str],
        *,
        expires_in: int | None = None,
    ) -> ApiKey:
        """A key in it, for an organization whose keys are lost; `expires_in` in seconds."""
        call = calls.create_organization_key(organization_id, name, scopes, expires_in)
        return await self._transport.call(call)


class AsyncTokens:
    """Client tokens: short-lived credentials for browsers."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        scopes: Sequence[str],
        *,
        subject: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        ttl_seconds: int | None = None,
    ) -> Token:
        """A token with `scopes`, confined to a subject, session or agent if named."""
        return await self._transport.call(
            calls.create_token(
                scopes,
                subject=subject,
                session_id=session_id,
                agent_id=agent_id,
                ttl_seconds=ttl_seconds,
            )
        )

    async def link(self) -> SignInLink:
        """A link that signs in to the server's console with the rights of the client's key."""
        return await self._transport.call(calls.create_link())

    async def rotate(self, *, end_tokens: bool = False) -> SigningKey:
        """Let the server sign tokens with a new key from now on; needs its bootstrap key. Tokens
        that are out stay valid until they expire, or end with `end_tokens`."""
        return await self._transport.call(calls.rotate_tokens(end_tokens))


class AsyncKeys:
    """API keys of the organization. Needs the scopes `keys:read` and `keys:write`; all methods
    raise StreamError."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, name: str, scopes: Sequence[str], *, expires_in: int | None = None
    ) -> ApiKey:
        """A key with `scopes`, none of which the client's own may lack; `expires_in` in seconds,
        None: no end. Its `.key` is shown this once: when the answer was lost on the way, this
        raises Conflict, and a new one is to be made."""
        return await self._transport.call(calls.create_key(name, scopes, expires_in))

    async def get(self, key_id: str) -> ApiKey:
        """A key without its credential."""
        return await self._transport.call(calls.get_key(key_id))

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[ApiKey]:
        """One page of keys, newest first, also those that are revoked or have expired."""
        return await self._transport.call(calls.list_keys(limit, cursor))

    async def revoke(self, key_id: str) -> None:
        """End a key, its tokens and their open streams and sockets, for good."""
        await self._transport.call(calls.revoke_key(key_id))


class AsyncNodes:
    """The processes that serve the store. Needs the server's bootstrap key."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> Page[ServerNode]:
        """All that live, oldest first. Raises StreamError."""
        return await self._transport.call(calls.list_nodes())


class AsyncMetrics:
    """What each node does now."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def read(self, of: MetricsOf = "organization") -> LiveMetrics:
        """For the organization (needs the scope `metrics:read`), or all that the `server` does
        (needs its bootstrap key). Raises StreamError."""
        return await self._transport.call(calls.read_metrics(of))


class AsyncTools:
    """The tools that agents may use. Needs the scope `agents:read`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> Page[Tool]:
        """All, by name. Raises StreamError."""
        return await self._transport.call(calls.list_tools())


class AsyncSubjects:
    """End users. Needs the scope `subjects:write`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def delete(self, subject: str) -> Erased:
        """Delete what belongs to one, for some seconds: call again while `has_more`. Raises
        StreamError."""
        return await self._transport.call(calls.delete_subject(subject))


class AsyncUsage:
    """Tokens, steps and time of turns. Needs the scope `usage:read`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def report(
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
        return await self._transport.call(
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


class AsyncWebhooks:
    """Addresses to which the server sends events. Needs the scopes `webhooks:read` and
    `webhooks:write`; all methods raise StreamError. `verify_webhook` checks what comes there."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        url: str,
        *,
        events: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        description: str | None = None,
        format: str | None = None,
        headers: Mapping[str, str] | None = None,
        secret: str | None = None,
        enabled: bool | None = None,
    ) -> Webhook:
        """A webhook, which is sent what happens from now on. Its `.secret` is shown this once:
        when the answer was lost on the way, this raises Conflict. `format` may be `cloudevents`;
        `headers` are sent with each delivery."""
        fields = without_none(
            url=url,
            events=None if events is None else list(events),
            filters=filters,
            description=description,
            format=format,
            headers=headers,
            secret=secret,
            enabled=enabled,
        )
        return await self._transport.call(calls.create_webhook(fields))

    async def get(self, webhook_id: str) -> Webhook:
        """A webhook and how far it has got, without its secret."""
        return await self._transport.call(calls.get_webhook(webhook_id))

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Webhook]:
        """One page of webhooks, newest first."""
        return await self._transport.call(calls.list_webhooks(limit, cursor))

    async def update(self, webhook_id: str, **fields: Any) -> Webhook:
        """Change the given fields, those of `create` but `secret`. `enabled=True` lets it go on
        where it was, with `skip_missed=True` from now on."""
        return await self._transport.call(calls.update_webhook(webhook_id, fields))

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook and what is known of its deliveries."""
        await self._transport.call(calls.delete_webhook(webhook_id))

    async def rotate(self, webhook_id: str, secret: str | None = None) -> Webhook:
        """Give it another secret, which the answer shows. For a day both sign."""
        call = calls.rotate_webhook(webhook_id, secret or new_webhook_secret())
        return await self._transport.call(call)

    async def test(self, webhook_id: str) -> WebhookDelivery:
        """Send an event of type `webhook.test` at once; what came of it."""
        return await self._transport.call(calls.test_webhook(webhook_id))

    async def deliveries(
        self,
        webhook_id: str,
        *,
        failed: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[WebhookDelivery]:
        """One page of attempts, newest first; `failed`: only those that failed, or that did not."""
        return await self._transport.call(calls.list_deliveries(webhook_id, failed, limit, cursor))

    async def resend(
        self,
        webhook_id: str,
        *,
        event_id: str | None = None,
        since: Moment = None,
        until: Moment = None,
    ) -> Webhook:
        """Send one event again, or those from `since` to `until`: times or cursors."""
        return await self._transport.call(calls.resend_webhook(webhook_id, event_id, since, until))

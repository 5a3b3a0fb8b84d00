"""Every call that does not stream: its request, and the model of its answer. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from ..administration import Erased, LiveMetrics, Tool
from ..errors import InternalError
from ..models import (
    Agent,
    AgentWorker,
    ApiKey,
    InputResult,
    MessagePage,
    Organization,
    Page,
    PostedMessage,
    QueuedTurn,
    ServerNode,
    SessionData,
    SigningKey,
    SignInLink,
    Step,
    Team,
    Token,
    UsageReport,
    Webhook,
    WebhookDelivery,
)
from .messages import Call, Request, make, new_key, place_of, query, segment, without_none

MetricsOf = Literal["organization", "server"]
GroupBy = Literal["day", "agent", "key", "subject", "session", "turn"]
#: A day like 2026-02-21 or an RFC 3339 time, as the server takes it, or a datetime with a zone.
Moment = str | datetime | None
S = TypeVar("S", bound=SessionData)
Object = Mapping[str, Any]
_KEYS = "/v1/keys"
_WEBHOOKS = "/v1/webhooks"
_ORGANIZATIONS = "/v1/organizations"
_TEAMS = "/v1/teams"
#: In place of a payload, since None is one.
NOT_GIVEN: Any = object()
#: Items on a page, at most.
_MOST = 500


def create_session(body: Object, key: str) -> Call[dict[str, Any]]:
    """`body`: agent_id, context, subject, metadata."""
    return Call(make("/v1/sessions", body, key), dict)


def get_session(session_id: str) -> Call[dict[str, Any]]:
    return Call(Request("GET", f"/v1/sessions/{segment(session_id)}"), dict)


def list_sessions(build: Callable[[Object], S], params: dict[str, str]) -> Call[Page[S]]:
    return Call(Request("GET", "/v1/sessions", params), lambda raw: Page(raw, build))


def delete_session(session_id: str) -> Call[None]:
    return Call(Request("DELETE", f"/v1/sessions/{segment(session_id)}"), _nothing)


def cancel_session(
    session_id: str | None, turn: int | None, idempotency_key: str | None
) -> Call[list[int]]:
    """By session, or by the key of an execute whose answer never came. Raises ValueError."""
    if session_id is not None:
        path = f"/v1/sessions/{segment(session_id)}/cancel"
        return Call(Request("POST", path, body=without_none(turn=turn)), _cancelled)
    if idempotency_key is None:
        raise ValueError("cancel needs session_id or idempotency_key")
    body = {"idempotency_key": idempotency_key}
    return Call(Request("POST", "/v1/sessions/cancel", body=body), _cancelled)


def give_input(session_id: str, call_id: str, answer: Object) -> Call[InputResult]:
    """`answer`: approved or payload, reason, turn."""
    path = f"/v1/sessions/{segment(session_id)}/input"
    return Call(Request("POST", path, body={"call_id": call_id, **answer}), InputResult)


def answer_fields(
    approved: bool | None, payload: object, reason: str | None, turn: int | None
) -> dict[str, Any]:
    """The fields of an answer; None is a payload. Raises ValueError where both are left out."""
    fields = without_none(approved=approved, reason=reason, turn=turn)
    if payload is not NOT_GIVEN:
        fields["payload"] = payload
    elif approved is None:
        raise ValueError("input needs approved or payload")
    return fields


def fork_session(
    session_id: str, turn: int | None, metadata: Object | None, key: str
) -> Call[dict[str, Any]]:
    body = without_none(turn=turn, metadata=metadata)
    return Call(make(f"/v1/sessions/{segment(session_id)}/fork", body, key), dict)


def session_messages(session_id: str, limit: int | None, cursor: str | None) -> Call[MessagePage]:
    path = f"/v1/sessions/{segment(session_id)}/messages"
    return Call(Request("GET", path, query(limit=limit, cursor=cursor)), MessagePage)


def post_message(session_id: str, content: str, message_id: str | None) -> Call[PostedMessage]:
    """Repeatable by its id, or else by a key made up for it."""
    body = without_none(content=content, message_id=message_id)
    return Call(make(f"/v1/sessions/{segment(session_id)}/messages", body), PostedMessage)


def session_queue(session_id: str) -> Call[Page[QueuedTurn]]:
    path = f"/v1/sessions/{segment(session_id)}/queue"
    return Call(Request("GET", path), lambda raw: Page(raw, QueuedTurn))


def edit_queued(session_id: str, turn: int, changes: Object) -> Call[None]:
    return Call(Request("PATCH", _queued_path(session_id, turn), body=changes), _nothing)


def remove_queued(session_id: str, turn: int) -> Call[None]:
    return Call(Request("DELETE", _queued_path(session_id, turn)), _nothing)


def _queued_path(session_id: str, turn: int) -> str:
    return f"/v1/sessions/{segment(session_id)}/queue/{turn}"


def session_steps(session_id: str, cursor: str | None) -> Call[Page[Step]]:
    path = f"/v1/sessions/{segment(session_id)}/steps"
    return Call(
        Request("GET", path, query(limit=_MOST, cursor=cursor)), lambda raw: Page(raw, Step)
    )


def create_agent(fields: Object, key: str | None = None) -> Call[Agent]:
    return Call(make("/v1/agents", fields, key), Agent)


def get_agent(agent_id: str) -> Call[Agent]:
    return Call(Request("GET", f"/v1/agents/{segment(agent_id)}"), Agent)


def list_agents(limit: int | None, cursor: str | None) -> Call[Page[Agent]]:
    params = query(limit=limit, cursor=cursor)
    return Call(Request("GET", "/v1/agents", params), lambda raw: Page(raw, Agent))


def update_agent(agent_id: str, fields: Object) -> Call[Agent]:
    return Call(Request("PATCH", f"/v1/agents/{segment(agent_id)}", body=fields), Agent)


def delete_agent(agent_id: str) -> Call[None]:
    return Call(Request("DELETE", f"/v1/agents/{segment(agent_id)}"), _nothing)


def create_team(fields: Object) -> Call[Team]:
    return Call(make(_TEAMS, fields), Team)


def get_team(team_id: str) -> Call[Team]:
    return Call(Request("GET", _team_path(team_id)), Team)


def list_teams(limit: int | None, cursor: str | None) -> Call[Page[Team]]:
    params = query(limit=limit, cursor=cursor)
    return Call(Request("GET", _TEAMS, params), lambda raw: Page(raw, Team))


def update_team(team_id: str, fields: Object) -> Call[Team]:
    return Call(Request("PATCH", _team_path(team_id), body=fields), Team)


def delete_team(team_id: str) -> Call[None]:
    return Call(Request("DELETE", _team_path(team_id)), _nothing)


def _team_path(team_id: str) -> str:
    return f"{_TEAMS}/{segment(team_id)}"


def list_workers() -> Call[Page[AgentWorker]]:
    return Call(Request("GET", "/v1/workers"), lambda raw: Page(raw, AgentWorker))


def create_token(
    scopes: Sequence[str],
    *,
    subject: str | None,
    session_id: str | None,
    agent_id: str | None,
    ttl_seconds: int | None,
) -> Call[Token]:
    body = without_none(
        scopes=list(scopes),
        subject=subject,
        session_id=session_id,
        agent_id=agent_id,
        ttl_seconds=ttl_seconds,
    )
    return Call(make("/v1/tokens", body), Token)


def create_link() -> Call[SignInLink]:
    return Call(Request("POST", "/v1/tokens/links", body={}), SignInLink)


def rotate_tokens(end_tokens: bool) -> Call[SigningKey]:
    """A repeated call changes the key once more, which does no harm."""
    return Call(Request("POST", "/v1/tokens/rotate", body={"end_tokens": end_tokens}), SigningKey)


def create_key(name: str, scopes: Sequence[str], expires_in: int | None) -> Call[ApiKey]:
    body = without_none(name=name, scopes=list(scopes), expires_in=expires_in)
    return Call(make(_KEYS, body), ApiKey)


def get_key(key_id: str) -> Call[ApiKey]:
    return Call(Request("GET", _key_path(key_id)), ApiKey)


def list_keys(limit: int | None, cursor: str | None) -> Call[Page[ApiKey]]:
    request = Request("GET", _KEYS, query(limit=limit, cursor=cursor))
    return Call(request, lambda raw: Page(raw, ApiKey))


def revoke_key(key_id: str) -> Call[None]:
    return Call(Request("DELETE", _key_path(key_id)), _nothing)


def _key_path(key_id: str) -> str:
    return f"{_KEYS}/{segment(key_id)}"


def create_organization(name: str, key_name: str | None) -> Call[Organization]:
    return Call(make(_ORGANIZATIONS, without_none(name=name, key_name=key_name)), Organization)


def get_organization(organization_id: str) -> Call[Organization]:
    return Call(Request("GET", _organization_path(organization_id)), Organization)


def list_organizations(limit: int | None, cursor: str | None) -> Call[Page[Organization]]:
    request = Request("GET", _ORGANIZATIONS, query(limit=limit, cursor=cursor))
    return Call(request, lambda raw: Page(raw, Organization))


def update_organization(organization_id: str, fields: Object) -> Call[Organization]:
    return Call(Request("PATCH", _organization_path(organization_id), body=fields), Organization)


def delete_organization(organization_id: str) -> Call[Erased]:
    return Call(Request("DELETE", _organization_path(organization_id)), Erased)


def delete_subject(subject: str) -> Call[Erased]:
    return Call(Request("DELETE", "/v1/subjects", {"subject": subject}), Erased)


def create_organization_key(
    organization_id: str, name: str, scopes: Sequence[str], expires_in: int | None
) -> Call[ApiKey]:
    body = without_none(name=name, scopes=list(scopes), expires_in=expires_in)
    return Call(make(f"{_organization_path(organization_id)}/keys", body), ApiKey)


def _organization_path(organization_id: str) -> str:
    return f"{_ORGANIZATIONS}/{segment(organization_id)}"


def create_webhook(fields: Object) -> Call[Webhook]:
    return Call(make(_WEBHOOKS, fields), Webhook)


def get_webhook(webhook_id: str) -> Call[Webhook]:
    return Call(Request("GET", _webhook_path(webhook_id)), Webhook)


def list_webhooks(limit: int | None, cursor: str | None) -> Call[Page[Webhook]]:
    request = Request("GET", _WEBHOOKS, query(limit=limit, cursor=cursor))
    return Call(request, lambda raw: Page(raw, Webhook))


def update_webhook(webhook_id: str, fields: Object) -> Call[Webhook]:
    return Call(Request("PATCH", _webhook_path(webhook_id), body=fields), Webhook)


def delete_webhook(webhook_id: str) -> Call[None]:
    return Call(Request("DELETE", _webhook_path(webhook_id)), _nothing)


def rotate_webhook(webhook_id: str, secret: str) -> Call[Webhook]:
    """A repeated call changes nothing more, since it names the secret."""
    path = f"{_webhook_path(webhook_id)}/rotate"
    return Call(Request("POST", path, body={"secret": secret}), Webhook)


def test_webhook(webhook_id: str) -> Call[WebhookDelivery]:
    return Call(Request("POST", f"{_webhook_path(webhook_id)}/test"), WebhookDelivery)


def list_deliveries(
    webhook_id: str, failed: bool | None, limit: int | None, cursor: str | None
) -> Call[Page[WebhookDelivery]]:
    named = None if failed is None else str(failed).lower()
    params = query(failed=named, limit=limit, cursor=cursor)
    request = Request("GET", f"{_webhook_path(webhook_id)}/deliveries", params)
    return Call(request, lambda raw: Page(raw, WebhookDelivery))


def resend_webhook(
    webhook_id: str, event_id: str | None, since: Moment, until: Moment
) -> Call[Webhook]:
    """Raises ValueError for a datetime without a time zone."""
    body = without_none(
        event_id=event_id, since=place_of(since, "since"), until=place_of(until, "until")
    )
    return Call(Request("POST", f"{_webhook_path(webhook_id)}/resend", body=body), Webhook)


def _webhook_path(webhook_id: str) -> str:
    return f"{_WEBHOOKS}/{segment(webhook_id)}"


def list_nodes() -> Call[Page[ServerNode]]:
    return Call(Request("GET", "/v1/nodes"), lambda raw: Page(raw, ServerNode))


def list_tools() -> Call[Page[Tool]]:
    return Call(Request("GET", "/v1/tools"), lambda raw: Page(raw, Tool))


def read_metrics(of: MetricsOf) -> Call[LiveMetrics]:
    return Call(Request("GET", "/v1/metrics", {"of": of}), LiveMetrics)


def any_request(
    method: str,
    path: str,
    params: Mapping[str, str | int | None],
    body: Object | None,
    idempotency_key: str | None,
) -> Call[dict[str, Any]]:
    """A POST is repeatable by its key, made up if not given. Raises ValueError for a bad path."""
    if not path.startswith("/"):
        raise ValueError("path must begin with a slash, as in /v1/tools")
    headers = {}
    if method.upper() == "POST":
        headers["Idempotency-Key"] = idempotency_key or new_key()
    return Call(Request(method.upper(), path, query(**params), body, headers), dict)


def usage_report(
    group_by: GroupBy,
    *,
    since: Moment,
    until: Moment,
    agent_id: str | None,
    key_id: str | None,
    subject: str | None,
    session_id: str | None,
    limit: int | None,
    cursor: str | None,
) -> Call[UsageReport]:
    """Raises ValueError for a datetime without a time zone."""
    params = query(
        group_by=group_by,
        to=place_of(until, "until"),
        agent_id=agent_id,
        key_id=key_id,
        subject=subject,
        session_id=session_id,
        limit=limit,
        cursor=cursor,
    )
    begins = place_of(since, "since")
    if begins is not None:
        params["from"] = begins
    return Call(Request("GET", "/v1/usage", params), UsageReport)


def _cancelled(raw: Object) -> list[int]:
    turns = raw.get("cancelled")
    if not isinstance(turns, list):
        raise InternalError("the server did not say which turns it cancelled", retryable=False)
    return [turn for turn in turns if isinstance(turn, int)]


def _nothing(raw: Object) -> None:
    return None

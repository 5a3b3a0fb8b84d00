"""`resonantgenesis webhooks …`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console

from .. import values
from ..client import END, TAIL_PATIENCE, Patience, cursor_behind, items
from ..errors import UsageProblem
from ..options import AsJson, Data, Limit, Url, connect, to_stderr
from ..render import show_fields, show_json, show_line, show_rows
from .events import Filters, Patterns
from .keys import show_secret

app = typer.Typer(no_args_is_help=True, help="Send events to addresses, and see what became of it.")

_COLUMNS = ("id", "url", "events", "enabled", "disabled_reason", "failing_since", "next_try_at")
_DELIVERY = ("created_at", "event_type", "event_id", "attempt", "status", "error", "next_try_at")
_MADE = ("id", "url", "events", "secret")

WebhookId = Annotated[
    str, typer.Argument(metavar="WEBHOOK", parser=values.identifier, help="The webhook's id.")
]


@app.command("list")
def list_webhooks(
    limit: Limit = 200, as_json: AsJson = False, url: Url = None, data: Data = None
) -> None:
    """The webhooks of the organization, newest first."""
    with connect(url, data) as client:
        show_rows(Console(), items(client.webhooks.list, limit), _COLUMNS, as_json=as_json)


@app.command()
def create(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where events are sent.")],
    pattern: Patterns = None,
    filter_: Filters = None,
    cloudevents: Annotated[bool, typer.Option(help="Send events as CloudEvents.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Make a webhook, which is sent what happens from now on. Its secret is shown only this once,
    and alone to a pipe."""
    types, filters = values.patterns(pattern or []), values.fields(filter_ or [], "--filter")
    with connect(url, data) as client:
        made = client.webhooks.create(
            address,
            events=types or None,
            filters=filters,
            format="cloudevents" if cloudevents else None,
        )
    show_secret(made.raw, "secret", _MADE, as_json=as_json)


@app.command()
def delete(webhook: WebhookId, url: Url = None, data: Data = None) -> None:
    """Delete a webhook and what is known of its deliveries."""
    with connect(url, data) as client:
        client.webhooks.delete(webhook)


@app.command()
def test(webhook: WebhookId, as_json: AsJson = False, url: Url = None, data: Data = None) -> None:
    """Send an event of type webhook.test now. The command fails if the receiver does not take
    it."""
    with connect(url, data) as client:
        tried = client.webhooks.test(webhook)
    console = Console()
    if as_json:
        show_json(console, tried.raw)
    else:
        show_fields(console, tried.raw)
    if tried.error is not None:
        raise typer.Exit(1)


@app.command()
def deliveries(
    webhook: WebhookId,
    failed: Annotated[bool, typer.Option(help="Only those that failed.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """What was sent to a webhook, newest first: each attempt, and what became of it."""
    with connect(url, data) as client:
        attempts = partial(client.webhooks.deliveries, webhook, failed=failed or None)
        show_rows(Console(), items(attempts, limit), _DELIVERY, as_json=as_json)


@app.command()
def resend(
    webhook: WebhookId,
    event: Annotated[
        str | None, typer.Argument(metavar="EVENT", help="The event's id, to send one.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="All from here on: a cursor, a time, or 15m, 2h, 3d ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to here; default: now.")] = None,
    url: Url = None,
    data: Data = None,
) -> None:
    """Send events again: one, or all since a time. They come before any other."""
    if (event is None) == (since is None):
        raise UsageProblem("name an event, or --since when")
    with connect(url, data) as client:
        client.webhooks.resend(
            webhook,
            event_id=event,
            since=None if since is None else values.place(since, "--since"),
            until=None if until is None else values.place(until, "--until"),
        )


@app.command()
def rotate(webhook: WebhookId, as_json: AsJson = False, url: Url = None, data: Data = None) -> None:
    """Give a webhook another secret, which is shown only this once. For a day both sign."""
    with connect(url, data) as client:
        show_secret(client.webhooks.rotate(webhook).raw, "secret", _MADE, as_json=as_json)


@app.command()
def listen(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Your receiver: a port or http://127.0.0.1:…")
    ],
    pattern: Patterns = None,
    filter_: Filters = None,
    secret: Annotated[
        str | None, typer.Option(help="What signs the requests; default: a new one, shown first.")
    ] = None,
    url: Url = None,
    data: Data = None,
) -> None:
    """Send events to a receiver on this machine while you develop it, until Ctrl-C.

    They come as from a webhook, signed in the same way. Nothing is tried again.
    """
    from ..receiver import open_receiver

    target = f"http://127.0.0.1:{address}" if address.isdecimal() else address
    types, filters = values.patterns(pattern or []), values.fields(filter_ or [], "--filter")
    selection: dict[str, Any] = {"events": types or None, "filters": filters}
    console = Console()
    try:
        with connect(url, data) as client:
            start = cursor_behind(client, END, **selection)
        with (
            connect(url, data, patient=True) as client,
            open_receiver(target, secret) as receiver,
        ):
            to_stderr(f"events go to {target}, signed with {receiver.secret}; Ctrl-C ends")
            patience = Patience(TAIL_PATIENCE, to_stderr)
            for event in client.events.subscribe(**selection, since=start, on_reconnect=patience):
                if not str(event.type).startswith("webhook."):
                    became = receiver.send(event.raw)
                    show_line(console, f"{became}  {event.type}  {event.id}")
                    console.file.flush()  # a pipe also gets each when it happens
    except KeyboardInterrupt:
        return

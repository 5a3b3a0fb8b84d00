"""`resonantgenesis webhooks`: what the commands ask, and what they forward."""

from __future__ import annotations

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from cli_fake import FakeServer, Reply, as_json, failure, page
from cli_process import Cli, Process, RealServer
from resonantgenesis import SyncResonantGenesis, new_webhook_secret, verify_webhook

HOOK: dict[str, Any] = {
    "id": "wh_1",
    "url": "https://hooks.example/",
    "events": ["app.*"],
    "enabled": True,
}
TRIED: dict[str, Any] = {"id": "dlv_1", "event_type": "webhook.test", "status": 200, "error": None}


def test_a_webhook_is_made_and_its_secret_is_alone_in_a_pipe(fake: FakeServer, cli: Cli) -> None:
    fake.always = lambda seen: as_json({**HOOK, "secret": "whsec_new"}, 201)
    got = cli("webhooks", "create", "https://hooks.example/", "app.*", "--filter", "a=1")
    assert got.out == "whsec_new\n"
    assert fake.seen[0].body == {
        "url": "https://hooks.example/",
        "events": ["app.*"],
        "filters": {"a": 1},
    }
    assert cli("webhooks", "rotate", "wh_1").out == "whsec_new\n"
    assert fake.seen[1].path == "/v1/webhooks/wh_1/rotate"
    assert fake.seen[1].body["secret"].startswith("whsec_")


def test_webhooks_are_listed_tried_sent_again_and_deleted(fake: FakeServer, cli: Cli) -> None:
    fake.script = [
        page([HOOK]),
        as_json(TRIED),
        as_json({**TRIED, "status": 500, "error": "the receiver answered 500"}),
        page([TRIED]),
        as_json(HOOK, 202),
        as_json(HOOK, 202),
        Reply(204),
        failure(404, "NOT_FOUND"),
    ]
    assert cli("webhooks", "list").out.startswith("wh_1\thttps://hooks.example/")
    assert cli("webhooks", "test", "wh_1").code == 0
    assert cli("webhooks", "test", "wh_1", "--json").code == 1
    assert "webhook.test" in cli("webhooks", "deliveries", "wh_1", "--failed").out
    assert cli("webhooks", "resend", "wh_1", "evt_1").code == 0
    assert cli("webhooks", "resend", "wh_1", "--since", "2026-01-01").code == 0
    assert cli("webhooks", "delete", "wh_1").code == 0
    assert cli("webhooks", "delete", "wh_1").code != 0
    assert [one.body for one in fake.seen[4:6]] == [
        {"event_id": "evt_1"},
        {"since": "2026-01-01T00:00:00.000000Z"},
    ]
    assert cli("webhooks", "resend", "wh_1").code == 2


def test_listen_forwards_signed_events(real: RealServer) -> None:
    secret = new_webhook_secret()
    told: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append(verify_webhook(body, dict(self.headers), secret))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        arguments = [str(receiver.server_port), "app.local", "--secret", secret]
        try:
            # Into a pipe, as it is without what this machine may set.
            environment = {**real.environment, "PYTHONUNBUFFERED": ""}
            with Process("webhooks", "listen", *arguments, **environment) as listening:
                listening.wait_for("Ctrl-C ends")
                with SyncResonantGenesis(api_key=real.key, base_url=real.url) as client:
                    made = client.events.publish("app.local", {"number": 1})
                listening.wait_for(f"204  app.local  {made.id}")
                listening.signal(signal.SIGINT)
                assert listening.wait() == 0
        finally:
            receiver.shutdown()
    assert told[0]["id"] == made.id and told[0]["timestamp"] == told[0]["created_at"]
    assert json.dumps(told[0]["data"]) == '{"number": 1}'

"""A server that speaks TLS itself, and reads its certificate again on SIGHUP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from support.fleet import SECRET
from support.server import COMMAND, KEY, PATIENCE, Serve, ServerProcess
from support.wire import dense, execute, read_all, streaming
from websockets.asyncio.client import connect

pytestmark = pytest.mark.anyio


class Authority:
    """Issues certificates into the two files that a server reads."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.context = ssl.create_default_context()
        self._authority.configure_trust(self.context)

    def issue(self) -> str:
        """Write a new certificate; returns its digest."""
        issued = self._authority.issue_cert("127.0.0.1", "localhost")
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.key))
        return digest(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode()))

    def trust(self, path: Path) -> None:
        self._authority.cert_pem.write_to_path(str(path))

    def served(self, server: ServerProcess) -> str:
        """The digest of the certificate that a new connection gets."""
        with (
            socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain,
            self.context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
        ):
            return digest(encrypted.getpeercert(binary_form=True) or b"")

    @property
    def settings(self) -> dict[str, str]:
        return {"tls_cert": str(self.chain), "tls_key": str(self.key)}


def digest(certificate: bytes) -> str:
    return hashlib.sha256(certificate).hexdigest()


async def test_the_doctor_believes_the_certificates_of_the_environment(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    authority.issue()
    server = serve(**authority.settings)
    trusted = tmp_path / "trusted.pem"
    authority.trust(trusted)
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "doctor", "--url", server.url, "--json",
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"SSL_CERT_FILE": str(trusted), "RESONANTGENESIS_API_KEY": KEY},
        cwd=tmp_path,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    found = {row["check"]: row for row in map(json.loads, out.splitlines())}
    for check in ("server", "stream", "socket"):
        assert found[check]["level"] == "OK", found[check]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def until_served(authority: Authority, server: ServerProcess, wanted: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(authority.served, server) != wanted:
            await asyncio.sleep(0.05)


async def test_streams_and_sockets_over_a_reload(serve: Serve, authority: Authority) -> None:
    first = authority.issue()
    server = serve(**authority.settings, may_complain=True)
    assert authority.served(server) == first
    async with server.client(verify=authority.context) as client:
        body = {
            "agent_id": "guide",
            "goal": "count to 60",
            "stream": True,
            "context": {"words_per_second": 60},
        }
        request = ("POST", "/v1/sessions/execute")
        async with streaming(client, *request, json=body) as (response, frames):
            found = [await anext(frames)]
            # A key that is not the certificate's changes nothing.
            good = authority.key.read_bytes()
            authority.key.write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes())
            server.process.send_signal(signal.SIGHUP)
            server.logged("the certificate stays as it was")
            assert authority.served(server) == first
            authority.key.write_bytes(good)
            second = authority.issue()
            server.process.send_signal(signal.SIGHUP)
            await until_served(authority, server, second)
            found += [frame async for frame in frames]
            acts: list[bool] = []
            async with asyncio.timeout(PATIENCE):  # they are written behind the signal
                while len(acts) < 2:
                    page = await client.get("/v1/events?events=system.audit.certificate.*")
                    acts = [event["data"]["usable"] for event in page.json()["events"]]
            assert acts == [False, True]
        dense(found)
        log = await read_all(client, response.headers["x-session-id"], resume_from=0)
        assert log == found
        # 4 MiB both ways: more than any buffer.
        content = bytes(range(256)) * 16_384
        made = (await client.post("/v1/files?name=x", content=content)).json()
        path = f"/v1/files/{made['id']}/content"
        assert (await client.get(path)).content == content
    url = f"wss://127.0.0.1:{server.port}/v1/ws"
    headers = {"Authorization": f"Bearer {KEY}"}
    async with connect(url, ssl=authority.context, additional_headers=headers) as ws:
        await ws.send(json.dumps({"type": "ping"}))
        assert json.loads(await ws.recv())["type"] in {"connected", "pong"}


async def test_a_health_check_of_a_server_with_another_name(
    serve: Serve, authority: Authority
) -> None:
    authority.issue()
    server = serve(**authority.settings)
    environment = server._environment() | {"RESONANTGENESIS_PORT": str(server.port)}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "doctor", "--healthcheck", env=environment
    )
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


async def test_workers_have_the_new_certificate_after_a_roll(
    serve: Serve, postgres: str, authority: Authority
) -> None:
    authority.issue()
    server = serve(
        store=postgres, workers=2, secret=SECRET, may_complain=True, **authority.settings
    )
    second = authority.issue()
    server.process.send_signal(signal.SIGHUP)
    async with server.client(verify=authority.context) as client:
        session_id = (await execute(client, goal="count to 5"))["session_id"]
        assert (await read_all(client, session_id))[-1].body["status"] == "success"
    await until_served(authority, server, second)

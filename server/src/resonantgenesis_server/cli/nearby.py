"""The server a command talks to: one that runs already, or a child of the command's own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from ..config.load import load_settings
from .backoff import Notice
from .child import Child, answers, free_port, start_server
from .client import Client
from .errors import AuthError, CliError, NetworkError
from .options import to_stderr
from .target import (
    BOOTSTRAP_VARIABLE,
    DEFAULT_URL,
    KEY_FILE,
    KEY_VARIABLE,
    URL_VARIABLE,
    Key,
    Target,
    check_url,
    find_key,
    is_loopback,
    key_in,
    ready_urls,
)

#: An agent that every server has, to see whether it takes a key.
_AGENT = "guide"
#: Where a server is started unless something listens there.
PORT = 8080


@dataclass(frozen=True, slots=True)
class Nearby:
    """What to ask, and the child it runs in if it is ours."""

    url: str
    key: Key
    child: Child | None = None


@contextlib.contextmanager
def find_or_start(
    url: str | None, port: int | None, data: Path | None, say: Notice, *, stands_in: bool
) -> Iterator[Nearby]:
    """A server that takes our key, for the length of the block.

    One that runs at the address if there is one; else, where the address is this machine's, one
    started for it: with its data in `data`, or in a directory that goes with it. `stands_in`: also
    instead of one that was named, runs, and does not take our key. Raises CliError.
    """
    named = url or (None if port else os.environ.get(URL_VARIABLE))
    address = check_url(named or (f"http://127.0.0.1:{port}" if port else DEFAULT_URL))
    running = _running(address, data, stands_in or named is None)
    if running is not None:
        say(f"Asking the server that runs at {address}.")
        yield running
        return
    with contextlib.ExitStack() as stack:
        folder = data
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="resonantgenesis-")
            folder = Path(stack.enter_context(made))
        wanted = port or httpx.URL(address).port or PORT
        child = stack.enter_context(start_server(_port(wanted, port is not None), folder))
        where = "a new directory" if data is None else str(folder)
        say(f"Starting a server at {child.url} with its data in {where}.")
        child.wait_until_ready()
        yield Nearby(child.url, _key_of(folder), child)


def _running(address: str, data: Path | None, stands_in: bool) -> Nearby | None:
    """The server at the address if it takes our key.

    None where one of our own can be started instead: never for an address of another machine, and
    for a server that runs only if `stands_in`; then raises.
    """
    is_local = is_loopback(address)
    with httpx.Client(base_url=address, timeout=2.0, trust_env=not is_local) as http:
        if not any(answers(http, ready) for ready in ready_urls(address)):
            if is_local:
                return None
            raise NetworkError(f"no server answers at {address}; check --url")
    key = find_key(address, data)
    if key is not None:
        with Client(Target(address, key.value)) as client:
            try:
                client.call("GET", f"/v1/agents/{_AGENT}")
            except AuthError:
                pass  # said below, for this and for no key at all
            else:
                return Nearby(address, key)
    if is_local and stands_in:
        to_stderr(f"a server runs at {address}, but not with a key that is known here")
        return None
    if key is not None:
        raise AuthError(f"the server at {address} does not take the key here; set {KEY_VARIABLE}")
    raise AuthError(
        f"no key for the server at {address}: set {KEY_VARIABLE}"
        f"{', or name its data directory with --data' if is_local else ''}"
    )


def _port(wanted: int, is_fixed: bool) -> int:
    found = free_port(wanted)
    if is_fixed and found != wanted:
        raise CliError(f"port {wanted} is taken; choose another with --port, or none")
    return found


def _key_of(folder: Path) -> Key:
    """The child's key: the one it was configured with, else the one it wrote."""
    configured = load_settings().settings.bootstrap_key
    if configured is not None:
        return Key(configured.get_secret_value(), f'"${BOOTSTRAP_VARIABLE}"')
    key = key_in(folder)
    if key is None:
        raise AuthError(
            f"{folder} holds a server without {KEY_FILE}; set {BOOTSTRAP_VARIABLE} to a new key"
        )
    return key

"""The server that a command speaks to, and the key for it."""

from __future__ import annotations

import ipaddress
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..config import ENV_PREFIX
from .errors import AuthError, UsageProblem

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_DATA = Path("data")
KEY_FILE = "api-key"
URL_VARIABLE = f"{ENV_PREFIX}BASE_URL"
KEY_VARIABLE = f"{ENV_PREFIX}API_KEY"
BOOTSTRAP_VARIABLE = f"{ENV_PREFIX}BOOTSTRAP_KEY"
DATA_VARIABLE = f"{ENV_PREFIX}DATA"


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address and a credential for it."""

    url: str
    key: str


def find_target(url: str | None, data: Path | None) -> Target:
    """The target that the options name, else the variables, else the defaults.

    Raises UsageProblem for a bad address, AuthError if no key is known.
    """
    address = check_url(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
    key = find_key(address, data)
    if key is None:
        where = data or _default_data()
        raise AuthError(
            f"no API key: set {KEY_VARIABLE}, or name the data directory of a server on this"
            f" machine with --data (looked for {where / KEY_FILE})"
        )
    return Target(address, key.value)


@dataclass(frozen=True, slots=True)
class Key:
    """A credential; `shell` is an expression of a shell on this machine that gives it."""

    value: str
    shell: str


def find_key(url: str, data: Path | None) -> Key | None:
    """The key for the server at `url`; None if no key is known.

    A key from this machine's files belongs to the server on this machine. It is sent to another
    server only if the command names its directory.
    """
    for variable in (KEY_VARIABLE, BOOTSTRAP_VARIABLE):
        key = os.environ.get(variable, "").strip()
        if key and (variable == KEY_VARIABLE or is_loopback(url)):
            return Key(key, f'"${variable}"')
    if data is None and not is_loopback(url):
        return None
    return key_in(data or _default_data())


def check_url(url: str) -> str:
    """The address without a trailing slash and without `/v1`, with which every path begins.

    Raises UsageProblem.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise UsageProblem(f"{url!r} is not an address; write it like {DEFAULT_URL}")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def ready_urls(url: str) -> tuple[str, ...]:
    """The addresses at which a server may answer `/readyz`, the likeliest first.

    `…/api` may be the alias of a server, whose `/readyz` stands beside it. Or a proxy has mounted
    a server there.
    """
    beside = (f"{url.removesuffix('/api')}/readyz",) if url.endswith("/api") else ()
    return (f"{url}/readyz", *beside)


def is_loopback(url: str) -> bool:
    """True if the address names this machine, whatever the network is."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _default_data() -> Path:
    return Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA).expanduser()


def key_in(data: Path) -> Key | None:
    """The key that a server wrote into its data directory. Raises AuthError if unreadable."""
    path = data / KEY_FILE
    try:
        key = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not a key file"
        raise AuthError(f"{path}: {reason}; set {KEY_VARIABLE} instead") from error
    return Key(key, f"$(cat {shlex.quote(str(path.absolute()))})") if key else None

"""The settings of a client, checked once when it is made; the credential is never shown."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import InvalidSettings
from .proxy import Proxy, address_of, proxy_for
from .retry import Backoff
from .sse import DEFAULT_MAX_BYTES

API_KEY_VARIABLE = "RESONANTGENESIS_API_KEY"
BASE_URL_VARIABLE = "RESONANTGENESIS_BASE_URL"
DEFAULT_BASE_URL = "https://api.resonantgenesis.xyz"
DEFAULT_MAX_RETRIES = 8


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    `connect`: for the connection. `answer`: for the answer of a call that does not stream; the
    server holds `execute` for 50 s. `silence`: a stream without a byte for so long counts as
    dead; it holds until the server has announced its heartbeat, then twice that does.
    """

    connect: float = 10.0
    answer: float = 65.0
    silence: float = 8.0

    def __post_init__(self) -> None:
        for name in ("connect", "answer", "silence"):
            if not getattr(self, name) > 0:
                raise ValueError(f"timeout: {name} must be more than 0 seconds")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the machines and transports; made by `resolve`."""

    base_url: str
    api_key: str = field(repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_retries: int = DEFAULT_MAX_RETRIES
    backoff: Backoff = field(default_factory=Backoff)
    max_event: int = DEFAULT_MAX_BYTES
    proxy: Proxy | None = None
    #: Whether variables and settings of the system may name proxies and certificates.
    trust_env: bool = True
    #: True if neither the caller nor a variable named an address.
    is_default: bool = False

    @property
    def place(self) -> str:
        """Host, port and proxy as an error message names them."""
        place = address_of(self.base_url)
        if self.is_default:
            place += f" (the default, as neither base_url nor {BASE_URL_VARIABLE} is set)"
        if self.proxy is not None:
            place += f" through the proxy {self.proxy.address} of {self.proxy.source}"
        return place


def resolve(
    api_key: str | None,
    base_url: str | None,
    timeout: float | Timeouts | None,
    max_retries: int,
    trust_env: bool = True,
) -> Settings:
    """Settings from arguments, then variables, then defaults. Raises InvalidSettings."""
    if max_retries < 0:
        raise InvalidSettings("max_retries must be 0 or more")
    named = base_url or os.environ.get(BASE_URL_VARIABLE)
    address = _base_url(named or DEFAULT_BASE_URL)
    return Settings(
        base_url=address,
        api_key=_api_key(api_key or os.environ.get(API_KEY_VARIABLE) or ""),
        timeouts=_timeouts(timeout),
        max_retries=max_retries,
        proxy=proxy_for(address) if trust_env else None,
        trust_env=trust_env,
        is_default=not named,
    )


def _timeouts(timeout: float | Timeouts | None) -> Timeouts:
    if timeout is None:
        return Timeouts()
    return timeout if isinstance(timeout, Timeouts) else Timeouts(answer=timeout)


def _api_key(key: str) -> str:
    key = key.strip()
    if not key:
        raise InvalidSettings(f"no API key: pass api_key= or set {API_KEY_VARIABLE}")
    if not key.isascii() or not key.isprintable() or " " in key:
        # The message does not repeat the key, because messages end up in logs.
        raise InvalidSettings("api_key has characters that cannot stand in a header")
    return key


def _base_url(url: str) -> str:
    parts = urlsplit("")
    with suppress(ValueError):
        # Raised for brackets that do not match; by `.port` for what is no port; by the encoding
        # for a host that no DNS has.
        split = urlsplit(url.strip())
        (split.hostname or "").encode("idna")
        parts = split if split.port != 0 else parts
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings("base_url must look like https://host[:port][/prefix]")
    if parts.username or parts.password:
        raise InvalidSettings("base_url must not carry credentials; use api_key=")
    if parts.query or parts.fragment:
        raise InvalidSettings("base_url must not have a query or a fragment")
    # Every path of ours starts with /v1; somebody who already wrote it means the same place.
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"

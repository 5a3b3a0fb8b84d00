"""The settings of the server's tools."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from ...model.limits import KIB, MIB

#: Seconds that a tool may take, and bytes of JSON of its largest result, unless a setting or a
#: caller says otherwise.
DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_RESULT = 64 * KIB
#: Bytes of an answer that `fetch_url` reads.
DEFAULT_MAX_BYTES = MIB

ProviderName = Literal["searxng", "brave", "tavily"]

#: Names of functions as tools, and of MCP servers: no `__`, which parts a server from its tool.
_NAME = re.compile(r"(?!.*__)[A-Za-z0-9_-]{1,40}")
_Seconds = Annotated[float, Field(gt=0, le=3600)]


def listed(value: object) -> object:
    """A variable's text as a list: JSON, or parts separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _words(value: object) -> object:
    """A variable's text as a command: JSON, or words as a shell would part them."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else shlex.split(value)


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host that `fetch_url` may reach at any address, on `port` or on any port for None."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """`HOST`, `HOST:PORT`, `IPV6` or `[IPV6]:PORT`. Raises ValueError."""
        host, port = text.strip().lower(), ""
        if host.startswith("["):
            host, _, rest = host[1:].partition("]")
            if rest and not rest.startswith(":"):
                raise ValueError(f"{text!r} is not HOST or HOST:PORT")
            port = rest[1:]
        elif host.count(":") == 1:
            host, _, port = host.partition(":")
        host = host.rstrip(".")
        if not host or any(sign in host for sign in "/@*? ") or (port and not _is_port(port)):
            raise ValueError(f"{text!r} is not HOST or HOST:PORT")
        return cls(host, int(port) if port else None)

    def covers(self, host: str, port: int) -> bool:
        return self.host == host.lower().rstrip(".") and self.port in {None, port}


def _checked_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for host in hosts:
        AllowedHost.parse(host)
    return hosts


#: HOST or HOST:PORT each.
AllowedHosts = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(listed), AfterValidator(_checked_hosts)
]


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65_535


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FetchSettings(_Model):
    """The tool `fetch_url`."""

    allow_hosts: AllowedHosts = Field(
        default=(),
        description="HOST or HOST:PORT that `fetch_url` may reach though they are not on the public"
        " internet.",
    )
    max_bytes: int = Field(
        default=DEFAULT_MAX_BYTES, ge=KIB, le=64 * MIB, description="Of an answer that are read."
    )


class SearchSettings(_Model):
    """The tool `web_search`."""

    provider: ProviderName | None = Field(
        default=None, description="`searxng`, `brave` or `tavily`."
    )
    url: str | None = Field(
        default=None, description="Address of the SearXNG, or of another way to the provider."
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="Key of the provider; else from the variable BRAVE_API_KEY or TAVILY_API_KEY.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        return None if url is None else _web_address(url)


class McpSettings(_Model):
    """One MCP server: a `command` with its arguments, or a `url`."""

    command: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = ()
    env: dict[str, SecretStr] = Field(default_factory=dict)
    cwd: Path | None = None
    url: str | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    start_timeout: _Seconds = 30.0

    @model_validator(mode="after")
    def _check(self) -> McpSettings:
        if bool(self.command) == (self.url is not None):
            raise ValueError("needs either `command`, a list, or `url`")
        if self.url is not None:
            _web_address(self.url)
        return self


class ToolSettings(_Model):
    """All tools."""

    timeout: _Seconds = Field(
        default=DEFAULT_TIMEOUT, description="Seconds that a tool's call may take."
    )
    timeouts: dict[str, _Seconds] = Field(
        default_factory=dict, description="The same for single tools, by name."
    )
    max_result: int = Field(
        default=DEFAULT_MAX_RESULT,
        ge=KIB,
        le=MIB,
        description="Bytes of a result; a longer text is cut. At most three quarters of"
        " `limits.chunk` in any case.",
    )
    approvals: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(),
        description="Tools whose calls a person has to approve, by name; `SERVER__*` is a whole MCP"
        " server.",
    )
    functions: dict[str, str] = Field(
        default_factory=dict, description="Tools in Python, NAME → MODULE:FUNCTION."
    )
    fetch: FetchSettings = Field(default_factory=FetchSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    mcp: dict[str, McpSettings] = Field(
        default_factory=dict,
        description="MCP servers by name: `command` (a list), `env`, `cwd`, or `url`, `headers`;"
        " `start_timeout` (30 s).",
    )

    @field_validator("functions")
    @classmethod
    def _check_functions(cls, functions: dict[str, str]) -> dict[str, str]:
        for name, reference in functions.items():
            _check_name(name)
            module, _, attribute = reference.partition(":")
            if not module or not attribute:
                raise ValueError(f"{name}: {reference!r} is not MODULE:FUNCTION")
        return functions

    @field_validator("mcp")
    @classmethod
    def _check_servers(cls, servers: dict[str, Any]) -> dict[str, Any]:
        for name in servers:
            _check_name(name)
        return servers


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name (1 to 40 of A-Z a-z 0-9 _ -, no double _)")


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is not an address like https://search.example")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address must not have a name or password in it")
    return text

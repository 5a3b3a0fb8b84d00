"""The server's settings, what each may be, and the error of a start that cannot succeed.

`Settings(...)` itself reads nothing but its arguments; `load.load_settings` gathers them
from the command line, the variables and the file.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ..agents.engines.http.settings import HttpAgentSettings
from ..agents.engines.llm.settings import LlmSettings
from ..agents.tools.settings import ToolSettings
from ..model.ids import is_agent_id
from ..model.limits import Limits
from ..records.credentials import parse_secrets
from . import ENV_PREFIX
from .webhooks import WebhookSettings

#: A bootstrap key travels in a header, so: printable ASCII without spaces.
_KEY = re.compile(r"[\x21-\x7e]{16,512}")
#: Of the setting `workers`: as many as there are processors to use.
AUTO = "auto"
_POSTGRES = re.compile(r"postgres(ql)?://")
#: Between two addresses: one address may name several hosts, with a comma.
_NEXT_ADDRESS = re.compile(r"[\s,]+(?=postgres(?:ql)?://)")


def parse_agents(value: object) -> object:
    """A mapping of agents from `NAME=MODULE:ATTRIBUTE,…` or JSON; anything but text unchanged."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return _json(value)
    parts = [part.strip() for part in value.split(",") if part.strip()]
    pairs = [part.partition("=") for part in parts]
    wrong = [part for part, pair in zip(parts, pairs, strict=True) if not pair[1]]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not NAME=MODULE:ATTRIBUTE")
    return {name.strip(): reference.strip() for name, _, reference in pairs}


def _parse_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _json(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def split_addresses(text: str) -> list[str]:
    """Addresses of databases, which white space or a comma separates."""
    return _NEXT_ADDRESS.split(text.strip()) if text.strip() else []


def _parse_addresses(value: object) -> object:
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        raise ValueError("must be an address like postgresql://USER:PASSWORD@HOST/NAME, or a list")
    urls = [url for text in texts for url in split_addresses(text)]
    if not all(map(_POSTGRES.match, urls)):
        raise ValueError("must be like postgresql://USER:PASSWORD@HOST/NAME")
    if len(set(urls)) < len(urls):
        raise ValueError("names a database twice")
    return tuple(urls)


#: Protocols of other people's clients; `clients/mounts.py` has their routes.
ClientName = Literal["ai-sdk", "openai", "ag-ui", "mcp", "durable-streams", "langgraph", "a2a"]
Addresses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_addresses)]


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from error


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class AgentLimits(BaseModel):
    """Limits of one agent's turns; None leaves them as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_seconds: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    concurrency: int | None = Field(default=None, ge=1)


class Settings(BaseSettings):
    """Everything that a user of the server may set. Names are those of file and variables:
    `port`, `RESONANTGENESIS_PORT`; `limits.goal`, `RESONANTGENESIS_LIMITS__GOAL`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=False,
    )

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(
        default=8080, ge=0, le=65_535, description="Port to listen on; 0: any free one."
    )
    workers: int | str = Field(
        default=1,
        description="Processes that serve the port, each a node of the database in `store`; `auto`:"
        " one fewer than there are processors. Without `store` there is one.",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="Chain of certificates in PEM, with which the server speaks TLS itself; SIGHUP"
        " reads it again.",
    )
    tls_key: Path | None = Field(
        default=None, description="Key of `tls_cert` in PEM, without a password."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_list)] = Field(
        default=(),
        description="Addresses and networks of proxies whose `X-Forwarded-For` and"
        " `X-Forwarded-Proto` are believed, like `10.0.0.0/8`; empty: nobody's.",
    )
    data: Path = Field(default=Path("data"), description="Directory of everything that is kept.")
    files: str = Field(
        default="",
        max_length=1024,
        description="Where the content of files lies: a directory that nodes may share, or"
        " `s3://BUCKET/PREFIX`; empty: `files` in the data directory.",
    )
    files_endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^@\s]+)?$",
        description="Address of S3-compatible storage that is not Amazon's; empty: that of"
        " `AWS_ENDPOINT_URL`, if it is set.",
    )
    files_presigned: int = Field(
        default=0,
        ge=0,
        le=86_400,
        description="Seconds for which a download is sent to an address of the storage itself; 0:"
        " the server sends all content.",
    )
    store: Addresses = Field(
        default=(),
        repr=False,
        description="Address of a PostgreSQL database, postgresql://USER:PASSWORD@HOST/NAME, for"
        " log and records; without it both are files in the data directory. Several: sessions are"
        " spread over them, and all else is in the first.",
    )
    store_direct: Addresses = Field(
        default=(),
        repr=False,
        description="Address of the same database without a pooler in between, where `store` is"
        " that of a pooler in transaction mode: the log and upgrades use it. As many as `store`.",
    )
    store_pool: int = Field(
        default=5,
        ge=2,
        le=100,
        description="Connections of the records to PostgreSQL; the log has seven of its own.",
    )
    store_upgrade: bool = Field(
        default=True,
        description="Whether the server makes and upgrades its store on PostgreSQL itself; else"
        " `resonantgenesis store upgrade` must have been run.",
    )
    node_beat: float = Field(
        default=1.0,
        ge=0.1,
        le=10,
        description="Seconds between two signs of life of a node to the others of its store.",
    )
    node_ttl: float = Field(
        default=8.0,
        ge=1,
        le=300,
        description="Seconds without a sign of life after which a node is dead, its sessions go to"
        " others, and it ends; at least five times `node_beat`. The same for all nodes of a store.",
    )
    secret: SecretStr | None = Field(
        default=None,
        description="64 hexadecimal digits, under which API keys are hashed, the same for all nodes"
        " of a store; without it one is made in `secret` in the data directory. For a rotation the"
        " new one and the one in use, with a blank between them.",
    )
    bootstrap_key: SecretStr | None = Field(
        default=None,
        description="The first API key, 16 characters or more; without it one is generated and"
        " written to `api-key` in the data directory.",
    )
    agents: Annotated[dict[str, str], NoDecode, BeforeValidator(parse_agents)] = Field(
        default_factory=dict,
        description="Agents in Python, NAME → MODULE:ATTRIBUTE; those of the command line, the"
        " variable and the file are put together.",
    )
    agent_limits: dict[str, AgentLimits] = Field(
        default_factory=dict,
        description="For agents in Python and for `guide`, by name: `timeout_seconds` and"
        " `max_steps` of turns whose request names none, and `concurrency` at each node. They come"
        " before those of the decorator `agent`.",
    )
    isolate_blocking_agents: bool = Field(
        default=True,
        description="Whether an async agent that has blocked the event loop twice runs in threads"
        " with loops of their own from then on.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_list)] = Field(
        default=(),
        description="Origins whose pages may call with credentials and use the cookie; empty: any"
        " origin may call, without credentials.",
    )
    public_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Where clients reach this server behind a proxy: A2A's cards name it.",
    )
    clients: Annotated[tuple[ClientName, ...], NoDecode, BeforeValidator(_parse_list)] = Field(
        default=get_args(ClientName),
        description="Protocols of other people's clients that are served; `[]`: none.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field(default="info", description="`debug`, `info`, `warning` or `error`.")
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = Field(
        default="text", description="`text` or `json` (one object a line)."
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        description="What `GET /metrics` asks for as a bearer, 16 characters or more; without it"
        " only programs on the server's own machine are answered.",
    )
    otel: Annotated[Literal["off", "on", "content"], BeforeValidator(_lower)] = Field(
        default="off",
        description="`on`: traces and metrics by OTLP, to where the variables `OTEL_*` say;"
        " `content`: with what people and models say. Needs the extra `otel`.",
    )
    drain_seconds: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="What running turns get to end when the server stops.",
    )
    words_per_second: float = Field(
        default=30.0,
        ge=0,
        le=1000,
        description="Pace of the agent `guide`; 0: as fast as possible.",
    )
    engine_workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that ask models for the server; 0: it asks them itself.",
    )
    limits_storage: str = Field(
        default="memory://",
        pattern=r"^[a-z0-9+]+://",
        description="Where requests per key are counted: `memory://`, the memory of each process,"
        " which tells the other nodes of `store`, or another storage of the library `limits`, such"
        " as `redis://HOST:6379`.",
    )
    tools: ToolSettings = Field(default_factory=ToolSettings)
    llm: LlmSettings = Field(default_factory=LlmSettings)
    http_agents: HttpAgentSettings = Field(default_factory=HttpAgentSettings)
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)
    limits: Limits = Field(default_factory=Limits)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: `load_settings` merges the sources itself, since it must tell which
        one each value came from."""
        return (init_settings,)

    @property
    def scheme(self) -> str:
        """Of the address that the server listens on."""
        return "https" if self.tls_cert else "http"

    @field_validator("workers", mode="before")
    @classmethod
    def _check_workers(cls, number: Any) -> int | str:
        text = str(number).strip().lower()
        if text != AUTO and not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 256):
            raise ValueError(f"{number!r}: must be a number from 1 to 256, or {AUTO}")
        return text if text == AUTO else int(text)

    @field_validator("data", "tls_cert", "tls_key")
    @classmethod
    def _home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: set both, or neither")
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"{proxy!r} is no address and no network: {error}") from error
        return proxies

    @field_validator("files")
    @classmethod
    def _check_files(cls, where: str) -> str:
        if "://" in where and not where.startswith("s3://"):
            raise ValueError("is neither a directory nor like s3://bucket/prefix")
        if where.startswith("s3://") and set(where) & {"@", "?", "#"}:
            raise ValueError("is like s3://bucket/prefix; credentials belong into AWS_… variables")
        return str(Path(where).expanduser()) if where.startswith("~") else where

    @field_validator("store_direct")
    @classmethod
    def _check_direct(cls, direct: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        store = info.data.get("store")
        if direct and store and len(direct) != len(store):
            raise ValueError(f"names {len(direct)} databases, and `store` {len(store)}")
        return direct

    @field_validator("node_ttl")
    @classmethod
    def _check_ttl(cls, ttl: float, info: ValidationInfo) -> float:
        beat = info.data.get("node_beat")
        if beat is not None and ttl < 5 * beat:
            raise ValueError(f"must be at least five times node_beat, which is {beat:g}")
        return ttl

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            try:
                parse_secrets(secret.get_secret_value())
            except ValueError:
                raise ValueError(
                    "must be 64 hexadecimal digits, e.g. the output of `openssl rand -hex 32`"
                ) from None
        return secret

    @field_validator("bootstrap_key", "metrics_token", "secret", mode="before")
    @classmethod
    def _no_empty_key(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("bootstrap_key", "metrics_token")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and _KEY.fullmatch(key.get_secret_value()) is None:
            raise ValueError(
                "must be 16 to 512 printable characters without spaces, e.g. the output of"
                " `openssl rand -hex 24`"
            )
        return key

    @field_validator("agents")
    @classmethod
    def _check_agents(cls, agents: dict[str, str]) -> dict[str, str]:
        for name, reference in agents.items():
            if not is_agent_id(name):
                raise ValueError(f"{name!r} is no agent id (1 to 64 of A-Z a-z 0-9 _ -)")
            module, _, attribute = reference.partition(":")
            if not module or not attribute:
                raise ValueError(f"{name}: {reference!r} is not MODULE:ATTRIBUTE")
        return agents

    @field_validator("agent_limits")
    @classmethod
    def _check_limited(
        cls, limits: dict[str, AgentLimits], info: ValidationInfo
    ) -> dict[str, AgentLimits]:
        for name in limits:
            if name not in {"guide", *info.data.get("agents", {})}:
                raise ValueError(f"there is no agent {name!r} in `agents`")
        return limits

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _is_origin(origin):
                hint = " (leave it empty for any origin)" if origin == "*" else ""
                raise ValueError(f"{origin!r} is not an origin like https://app.example{hint}")
        return origins


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    return parts.scheme in {"http", "https"} and has_host and bare and "@" not in parts.netloc

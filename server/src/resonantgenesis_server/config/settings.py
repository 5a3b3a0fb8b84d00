"""The server's settings, what each may be, and the error of a start that cannot succeed.

`Settings(...)` itself reads nothing but its arguments; `config_load.load_settings` gathers them
from the command line, the variables and the file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ..agents.engines.llm.settings import LlmSettings
from ..agents.tools.settings import ToolSettings
from ..logging.masking import mask_told
from ..model.ids import is_agent_id
from ..model.limits import GIB, KIB, LARGEST_PART, MIB, Limits

ENV_PREFIX = "RESONANTGENESIS_"
#: A bootstrap key travels in a header, so: printable ASCII without spaces.
_KEY = re.compile(r"[\x21-\x7e]{16,512}")
_DEFAULTS = Limits()
_DAY = 86_400.0


class StartupError(Exception):
    """The server cannot start; the message is one line that says what to change.

    The program that sees it prints the message and exits with `exit_code`.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(mask_told(message))  # those of others' errors


class LimitSettings(BaseModel):
    """Limits on what a stranger can send or keep open: sizes in bytes, times in seconds.

    The defaults are those of `model.limits.Limits`; a maximum here is the largest value that the
    server was built for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: int = Field(
        default=_DEFAULTS.body, ge=KIB, le=1024 * MIB, description="Body of a request."
    )
    file: int = Field(
        default=_DEFAULTS.file,
        ge=KIB,
        le=1024 * GIB,
        description="One file, and all that one turn stores.",
    )
    disk_reserve: int = Field(
        default=_DEFAULTS.disk_reserve,
        ge=0,
        le=1024 * GIB,
        description="Free space that files leave to the logs.",
    )
    json_depth: int = Field(
        default=_DEFAULTS.json_depth, ge=4, le=128, description="Nesting of JSON."
    )
    json_values: int = Field(
        default=_DEFAULTS.json_values,
        ge=1_000,
        le=1_000_000,
        description="Values and names in a JSON text; 20,000 take the event loop some 10 ms.",
    )
    goal: int = Field(default=_DEFAULTS.goal, ge=1, le=MIB, description="A turn's goal.")
    context: int = Field(
        default=_DEFAULTS.context, ge=2, le=LARGEST_PART, description="A session's context."
    )
    chunk: int = Field(
        default=_DEFAULTS.chunk, ge=KIB, le=LARGEST_PART, description="One chunk of an answer."
    )
    chunks_per_session: int = Field(
        default=_DEFAULTS.chunks_per_session,
        ge=100,
        le=100_000_000,
        description="Chunks kept of a session; beyond, its oldest ended turns are trimmed.",
    )
    output: int = Field(
        default=_DEFAULTS.output,
        ge=KIB,
        le=2 * MIB,
        description="`output` of a turn as JSON, cut beyond it; at most 983040 in any case.",
    )
    unsent: int = Field(
        default=_DEFAULTS.unsent,
        ge=KIB,
        le=16 * MIB,
        description="Unsent bytes of a connection before it is read from the log instead.",
    )
    stall: float = Field(
        default=_DEFAULTS.stall, ge=1, le=3600, description="Without progress, then it is closed."
    )
    queued_turns: int = Field(
        default=_DEFAULTS.queued_turns, ge=1, le=20, description="Turns that wait in one session."
    )
    heartbeat: float = Field(
        default=_DEFAULTS.heartbeat,
        ge=0.1,
        le=30,
        description="Silence before a heartbeat; from 5 on, clients with httpx's default time-out"
        " lose quiet streams.",
    )
    answer_wait: float = Field(
        default=_DEFAULTS.answer_wait, gt=0, le=3600, description="Before an execute answers 202."
    )
    poll_wait: float = Field(
        default=_DEFAULTS.poll_wait, gt=0, le=3600, description="The longest `wait` of a poll."
    )
    poll_limit: int = Field(
        default=_DEFAULTS.poll_limit,
        ge=1,
        le=100_000,
        description="Chunks in one answer of a poll.",
    )
    disconnect_grace: float = Field(
        default=_DEFAULTS.disconnect_grace,
        gt=0,
        le=3600,
        description="Without a viewer, then `on_disconnect: cancel` cancels.",
    )
    cancel_grace: float = Field(
        default=_DEFAULTS.cancel_grace,
        gt=0,
        le=0.9,
        description="For a cancelled agent to stop; the turn ends within 1 s in any case.",
    )
    max_timeout: float = Field(
        default=_DEFAULTS.max_timeout,
        ge=1,
        le=_DAY,
        description="The longest `timeout_seconds`.",
    )
    max_steps: int = Field(
        default=_DEFAULTS.max_steps, ge=1, le=1_000, description="The highest `max_steps`."
    )
    idempotency_window: float = Field(
        default=_DEFAULTS.idempotency_window,
        ge=1,
        le=30 * _DAY,
        description="How long an Idempotency-Key names its turn.",
    )
    session_retention: float = Field(
        default=_DEFAULTS.session_retention,
        ge=1,
        le=36_500 * _DAY,
        description="How long a session is kept after its last turn.",
    )
    event_retention: float = Field(
        default=_DEFAULTS.event_retention,
        ge=1,
        le=36_500 * _DAY,
        description="How long platform events are kept.",
    )
    usage_retention: float = Field(
        default=_DEFAULTS.usage_retention,
        ge=32 * _DAY,
        le=36_500 * _DAY,
        description="How long it is kept what turns took; never less than a month.",
    )
    monthly_tokens: int = Field(
        default=_DEFAULTS.monthly_tokens,
        ge=0,
        le=10**15,
        description="Tokens, in and out, that an organization's turns may take in a month (UTC);"
        " then no turn starts until the next. 0: no budget.",
    )
    requests_per_minute: int = Field(
        default=_DEFAULTS.requests_per_minute,
        ge=0,
        le=10_000_000,
        description="Requests of a key in a minute, joins of streams not counted; 0: any number.",
    )
    running_turns: int = Field(
        default=_DEFAULTS.running_turns,
        ge=0,
        le=1_000_000,
        description="Turns of a key that run or wait at once; 0: any number.",
    )
    open_streams: int = Field(
        default=_DEFAULTS.open_streams,
        ge=0,
        le=1_000_000,
        description="Streams, sockets, uploads and downloads that a key may have open; 0: any"
        " number.",
    )
    organization_requests_per_minute: int = Field(
        default=_DEFAULTS.organization_requests_per_minute,
        ge=0,
        le=100_000_000,
        description="Requests of all keys of an organization in a minute; 0: any number.",
    )
    organization_running_turns: int = Field(
        default=_DEFAULTS.organization_running_turns,
        ge=0,
        le=10_000_000,
        description="Turns of an organization that run or wait at once; 0: any number.",
    )
    organization_open_streams: int = Field(
        default=_DEFAULTS.organization_open_streams,
        ge=0,
        le=10_000_000,
        description="Streams, sockets, uploads and downloads that an organization may have open;"
        " 0: any number.",
    )
    organization_keys: int = Field(
        default=_DEFAULTS.organization_keys,
        ge=0,
        le=10_000_000,
        description="Keys of an organization that are neither revoked nor expired; 0: any number.",
    )
    organization_files: int = Field(
        default=_DEFAULTS.organization_files,
        ge=0,
        le=2**60,
        description="All files of an organization together; 0: as the disk allows.",
    )
    transfer_rate: int = Field(
        default=_DEFAULTS.transfer_rate,
        ge=0,
        le=100 * MIB,
        description="The least bytes a second of an upload or a download, over the time of"
        " `limits.stall`; 0: as slow as one likes.",
    )
    connections: int = Field(
        default=_DEFAULTS.connections,
        ge=0,
        le=10_000_000,
        description="Connections of the process; beyond, new ones get 503. 0: as many as the"
        " open-file limit allows, less a reserve for files, models and health checks.",
    )
    keep_alive: float = Field(
        default=_DEFAULTS.keep_alive,
        ge=1,
        le=3600,
        description="A connection without a request, then it is closed; longer than a proxy in"
        " front keeps one.",
    )
    socket_message: int = Field(
        default=_DEFAULTS.socket_message, ge=KIB, le=16 * MIB, description="A WebSocket message."
    )
    socket_messages_per_second: float = Field(
        default=_DEFAULTS.socket_messages_per_second,
        ge=1,
        le=100_000,
        description="Messages of one socket, sustained; twice as many may come at once.",
    )
    socket_subscriptions: int = Field(
        default=_DEFAULTS.socket_subscriptions,
        ge=1,
        le=10_000,
        description="Subscriptions of one socket.",
    )


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


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from error


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


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
    data: Path = Field(default=Path("data"), description="Directory of everything that is kept.")
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
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_list)] = Field(
        default=(),
        description="Origins whose pages may call with credentials and use the cookie; empty: any"
        " origin may call, without credentials.",
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
        description="Where requests per key are counted: `memory://`, each process for itself, or"
        " another storage of the library `limits`, such as `redis://HOST:6379`.",
    )
    tools: ToolSettings = Field(default_factory=ToolSettings)
    llm: LlmSettings = Field(default_factory=LlmSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)

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

    @field_validator("data")
    @classmethod
    def _home(cls, path: Path) -> Path:
        return path.expanduser()

    @field_validator("bootstrap_key", "metrics_token", mode="before")
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

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _is_origin(origin):
                hint = " (leave it empty for any origin)" if origin == "*" else ""
                raise ValueError(f"{origin!r} is not an origin like https://app.example{hint}")
        return origins

    def to_limits(self) -> Limits:
        """The limits as the rest of the server takes them."""
        return Limits(**self.limits.model_dump())


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    return parts.scheme in {"http", "https"} and has_host and bare and "@" not in parts.netloc

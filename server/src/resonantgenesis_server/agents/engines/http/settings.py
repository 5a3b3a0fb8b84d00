"""The settings of agents that are HTTP endpoints."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_settings import NoDecode

from ...tools.settings import AllowedHost, listed


class HttpAgentSettings(BaseModel):
    """The engine `http`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(),
        description="HOST or HOST:PORT at which agents of the engine `http` may be though they are"
        " not on the public internet; these may also be without TLS.",
    )
    silence: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="Seconds without a byte after which an agent's endpoint is taken for dead.",
    )

    @field_validator("allow_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            AllowedHost.parse(host)
        return hosts

"""The settings of agents that are HTTP endpoints."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ...tools.settings import AllowedHosts


class HttpAgentSettings(BaseModel):
    """The engine `http`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_hosts: AllowedHosts = Field(
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

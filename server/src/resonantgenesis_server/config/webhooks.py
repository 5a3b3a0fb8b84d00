"""The settings of webhooks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ..agents.tools.settings import AllowedHosts


class WebhookSettings(BaseModel):
    """How events are sent to webhooks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_hosts: AllowedHosts = Field(
        default=(),
        description="HOST or HOST:PORT to which webhooks may lead though they are not on the public"
        " internet, such as `127.0.0.1` while developing; these may also be without TLS.",
    )
    timeout: float = Field(
        default=15.0, gt=0, le=300, description="Seconds that a receiver has for its whole answer."
    )
    first_retry: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Seconds after which a failed delivery is tried again; doubled each time, up to"
        " an hour.",
    )
    retry_for: float = Field(
        default=86_400.0,
        gt=0,
        le=30 * 86_400,
        description="Seconds for which one event is tried; then the webhook is disabled.",
    )
    concurrency: int = Field(
        default=200,
        ge=1,
        le=1_000,
        description="Deliveries at once, at each node; a quarter as many to receivers that fail.",
    )
    organization_concurrency: int = Field(
        default=50, ge=1, le=1_000, description="Deliveries at once for one organization."
    )

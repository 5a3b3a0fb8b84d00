"""`resonantgenesis doctor --healthcheck`, which containers run every few seconds."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from ...config.load import load_settings
from ...config.settings import Settings
from ..options import to_stderr
from ..target import check_url

#: Addresses of a listener on all addresses; a client of the same machine connects to loopback.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def answers(url: str | None, config: Path | None, patience: float) -> bool:
    """Whether `/livez` says 200 within `patience` seconds, at `url` or where the settings listen.

    Raises StartupError for bad settings, UsageProblem for a bad address.
    """
    address = check_url(url or _own_address(load_settings(config=config).settings))
    parts = urlsplit(address)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # This machine asks itself, and the certificate is for another name.
        trusting = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=patience, context=trusting
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=patience)
    try:
        connection.request("GET", f"{parts.path}/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        to_stderr(f"{address} does not answer: {error}")
        return False
    finally:
        connection.close()
    if status != 200:
        to_stderr(f"{address}/livez answers {status}")
    return status == 200


def _own_address(settings: Settings) -> str:
    host = _ANY.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host else host
    return f"{settings.scheme}://{shown}:{settings.port}"

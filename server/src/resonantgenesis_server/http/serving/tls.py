"""The certificate of a server that speaks TLS itself."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from ...logging.startup import StartupError

log_ = structlog.get_logger("resonantgenesis.serving")


class Certificate:
    """A chain of certificates and its key. `context` has what was read last."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Raises StartupError, with one line, if the files are unusable."""
        self._chain, self._key = chain, key
        #: Called after each `reload`, with whether the files were usable.
        self.was_read: Callable[[bool], object] = bool
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.set_alpn_protocols(["http/1.1"])
        self._read_into(self.context)

    def reload(self) -> None:
        """Read the files again. Connections that are open keep the old certificate, and all do if
        the new one is unusable."""
        try:
            # First into another context: a key of another certificate would spoil this one.
            self._read_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._read_into(self.context)
        except StartupError as error:
            log_.error("the certificate stays as it was", reason=str(error))
            self.was_read(False)
        else:
            log_.info("the certificate was read again", tls_cert=str(self._chain))
            self.was_read(True)

    def _read_into(self, context: ssl.SSLContext) -> None:
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._chain, self._key, password="")
        except (OSError, ValueError) as error:
            files = f"tls_cert {self._chain}, tls_key {self._key}"
            raise StartupError(f"{files}: {error}") from error

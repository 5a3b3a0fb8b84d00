"""What asyncpg and the network raise, and one line for the operator on each."""

from __future__ import annotations

import ssl

import asyncpg

#: What asyncpg and the network raise. A ValueError among them is a mistake of ours.
ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_STANDBY = "the database is a standby or read-only"
_BROKE = "the connection to the database broke"
#: The first that fits counts.
_REASONS: list[tuple[type[BaseException], str]] = [
    (asyncpg.InvalidAuthorizationSpecificationError, "the database refuses the user or password"),
    (asyncpg.InvalidCatalogNameError, "the database does not exist"),
    (asyncpg.TooManyConnectionsError, "the database has no connection left"),
    (asyncpg.DiskFullError, "the database's disk is full; free some space and try again"),
    (asyncpg.InsufficientPrivilegeError, "the database's user lacks rights"),
    (asyncpg.LockNotAvailableError, "the rows are locked by another node"),
    (asyncpg.ReadOnlySQLTransactionError, _STANDBY),
    (asyncpg.TargetServerAttributeNotMatched, _STANDBY),
    (asyncpg.ClientConfigurationError, "the database's address cannot be understood"),
    (TimeoutError, "the database does not answer"),
    (ssl.SSLError, "the database's certificate is not trusted, or TLS failed"),
    (OSError, "the database cannot be reached"),
    (asyncpg.PostgresConnectionError, _BROKE),
    (asyncpg.QueryCanceledError, "the database was told to cancel the statement"),
    (asyncpg.OperatorInterventionError, "the database is being shut down or started"),
    (asyncpg.InterfaceError, _BROKE),
    (asyncpg.InternalClientError, _BROKE),
]
#: Errors whose own words name the thing that is wrong, and have no part of the address.
_TELLING = (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidCatalogNameError)


def reason_of(error: BaseException) -> str:
    """One line for the operator. Of the address it has at most the name of a host or a file."""
    for kind, reason in _REASONS:
        if not isinstance(error, kind):
            continue
        detail = _detail(error)
        return f"{reason}: {detail}" if detail else reason
    if isinstance(error, ValueError):
        return "the database's address cannot be understood"
    return f"the database refused ({type(error).__name__}): {_words(error)}"


def _detail(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, FileNotFoundError):  # a socket, or the file of a certificate or password
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return _words(error) if isinstance(error, _TELLING) else None


def _words(error: BaseException) -> str:
    """The server's own words; without the detail, which may show what was to be stored."""
    return " ".join(str(error.args[0]).split()) if error.args else ""

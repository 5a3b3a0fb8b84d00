"""What every test process needs, whatever it was started from, and what all suites share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent / "tests"))

from support.certificates import share_certificates
from support.postgres import PostgresMissing, PostgresServer
from support.s3 import Storage, running_storage

# Collecting tests makes little garbage; looking for it took a third of the collection's time.
gc.disable()
# A tool for bills of materials brings it, and jsonschema would import it: a second of work that no
# server of a user does.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
share_certificates()


# How long an example takes tells of the machine's load.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


def pytest_configure() -> None:
    """Let SIGINT through.

    A shell without job control starts what runs in the background, as does `nohup`, with SIGINT
    ignored. Every program that a test starts would inherit that, and no Ctrl-C would reach it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what lasts as long as the process: thousands of tests,
    and the modules that they import, were a tenth of the processor's work."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of this process that leave it running."""
    try:
        server = PostgresServer()
    except PostgresMissing as missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    url = postgres_server.database()
    yield url
    postgres_server.recycle(url)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """One S3-compatible storage for all tests of this process that leave it running."""
    with running_storage(tmp_path_factory.mktemp("storage") / "log") as running:
        yield running

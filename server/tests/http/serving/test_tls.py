"""The files of a certificate; over a real server see tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from resonantgenesis_server.http.serving.tls import Certificate
from resonantgenesis_server.logging.startup import StartupError


@pytest.mark.parametrize(
    ("chain", "key"),
    [
        ("none.pem", "key.pem"),
        ("chain.pem", "none.pem"),
        ("key.pem", "key.pem"),
        ("chain.pem", "another.pem"),
        ("chain.pem", "secret.pem"),
    ],
)
def test_files_that_are_none_are_named(tmp_path: Path, chain: str, key: str) -> None:
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "chain.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    trustme.CA().issue_cert("x").private_key_pem.write_to_path(str(tmp_path / "another.pem"))
    private = load_pem_private_key(issued.private_key_pem.bytes(), None)
    encrypted = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "secret.pem").write_bytes(encrypted)
    Certificate(tmp_path / "chain.pem", tmp_path / "key.pem")
    with pytest.raises(StartupError, match=f"^tls_cert {tmp_path}/{chain}, tls_key "):
        Certificate(tmp_path / chain, tmp_path / key)

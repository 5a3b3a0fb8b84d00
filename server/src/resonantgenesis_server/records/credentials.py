"""API keys: made, and hashed under the server's secret."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from ..datadir.private_file import read_private, write_private
from .base import StoreUnusable

SECRET_BYTES = 32
#: Characters of a generated key after its prefix: 32 of base64url, 192 random bits.
_KEY_BYTES = 24
KEY_PREFIX = "rg_live_"


def new_api_key() -> str:
    """A fresh credential with 192 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


class CredentialHasher:
    """HMAC-SHA256 under the server's secret.

    A key that a person chose may be guessable; without the secret, a stolen copy of the records
    does not let anyone try guesses.

    A look-up by hash reveals nothing by its time. The index compares hashes. Without the secret
    nobody can choose a guess whose hash is close to a real one.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        #: Has taken in the secret already, which is half of the work.
        self._of_api_keys = hmac.new(secret, b"api-key\0", "sha256")

    def hash(self, credential: str) -> str:
        """The hash that the records keep of `credential`, in hexadecimal."""
        hashed = self._of_api_keys.copy()
        hashed.update(credential.encode("utf-8", "surrogatepass"))
        return hashed.hexdigest()

    def derive(self, purpose: str, material: bytes) -> bytes:
        """A key for another purpose, from the secret and `material`; neither alone gives it."""
        return hmac.digest(self._secret, purpose.encode() + b"\0" + material, "sha256")


def load_secret(path: Path) -> bytes:
    """The secret in this file, made at random (mode 0600) when the file does not exist.

    The secret lies beside the records and not in them: a copy of the database alone then has no
    use for the hashes. Raises `StoreUnusable` with one line.
    """
    try:
        secret = _read(path) or _create(path)
    except OSError as error:
        raise StoreUnusable(f"{path}: {error.strerror or error}") from error
    if len(secret) != SECRET_BYTES:
        raise StoreUnusable(f"{path}: is not a secret of {SECRET_BYTES} bytes in hexadecimal")
    return secret


def _read(path: Path) -> bytes | None:
    text = read_private(path)
    if text is None:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b"?"


def _create(path: Path) -> bytes:
    """Never replaces a secret, so that two starts at once agree on one."""
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        write_private(path, secret.hex() + "\n", replaces=False)
    except FileExistsError:
        return _read(path) or b""
    return secret

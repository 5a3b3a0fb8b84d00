"""API keys: made, and hashed under the server's secret."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ..datadir.private_file import read_private, write_private
from .base import StoreUnusable

SECRET_BYTES = 32
#: Characters of a secret's id.
SECRET_ID = 16
#: Characters of a generated key after its prefix: 32 of base64url, 192 random bits.
_KEY_BYTES = 24
KEY_PREFIX = "rg_live_"


def new_api_key() -> str:
    """A fresh credential with 192 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


class HashedKey(TypedDict):
    """The hash of an API key, and the id of the server's secret that it was made with."""

    hash: str
    hashed_with: str


class ServerSecret:
    """One secret of the server: HMAC-SHA256 under it.

    A key that a person chose may be guessable; without the secret, a stolen copy of the records
    does not let anyone try guesses.

    A look-up by hash reveals nothing by its time. The index compares hashes. Without the secret
    nobody can choose a guess whose hash is close to a real one.
    """

    def __init__(self, value: bytes) -> None:
        self.value = value
        #: Has taken in the secret already, which is half of the work.
        self._of_api_keys = hmac.new(value, b"api-key\0", "sha256")
        #: The value in the records by which they know this secret. It does not reveal the secret.
        self.check = self.derive("secret-check", b"")
        #: For people and for rows; it does not reveal the secret either.
        self.id = self.derive("secret-id", b"").hex()[:SECRET_ID]

    def hash(self, credential: str) -> str:
        """The hash that the records keep of `credential`, in hexadecimal."""
        hashed = self._of_api_keys.copy()
        hashed.update(credential.encode("utf-8", "surrogatepass"))
        return hashed.hexdigest()

    def hashed(self, credential: str) -> HashedKey:
        """What the records keep of a new key."""
        return {"hash": self.hash(credential), "hashed_with": self.id}

    def derive(self, purpose: str, material: bytes) -> bytes:
        """A key for another purpose, from the secret and `material`; neither alone gives it."""
        return hmac.digest(self.value, purpose.encode() + b"\0" + material, "sha256")


class CredentialHasher:
    """The secrets of the server that this process knows, and which of them is in use.

    `current` makes all that is new. What a `former` one has made is still read, until the former
    one is retired. `coming` waits for the rotation that makes it the current one; another node may
    know already that it is.
    """

    def __init__(self, *known: bytes) -> None:
        """`known`: the newest first."""
        self._known = tuple(ServerSecret(value) for value in known)
        #: Until the records say otherwise; see `choose`. An older store was made with the oldest.
        self.current = self._known[-1]
        self.former: tuple[ServerSecret, ...] = ()
        self.coming: ServerSecret | None = None
        #: A former secret is in use that this process does not know.
        self.lacks_former = False

    @property
    def readable(self) -> tuple[ServerSecret, ...]:
        """All that may have made what is kept, the current one first."""
        return (self.current, *self.former, *([self.coming] if self.coming else []))

    def derives(self) -> list[Callable[[str, bytes], bytes]]:
        """`ServerSecret.derive` of each that is readable, the current one first."""
        return [secret.derive for secret in self.readable]

    def learn(self, known: Sequence[bytes]) -> None:
        """Know these from now on, the newest first."""
        before = {secret.value: secret for secret in self._known}
        self._known = tuple(before.get(value) or ServerSecret(value) for value in known)

    def knows(self, secret_id: str) -> bool:
        return any(secret.id == secret_id for secret in self._known)

    def choose(self, checks: Sequence[bytes], retired: Collection[bytes] = ()) -> bool:
        """Use the secret that the records name: `checks` of the current one and of the former ones,
        the newest first. Returns whether this process knows the current one."""
        by_check = {secret.check: secret for secret in self._known}
        if checks and checks[0] not in by_check:
            return False
        if checks:
            self.current = by_check[checks[0]]
        self.former = tuple(by_check[check] for check in checks[1:] if check in by_check)
        self.lacks_former = len(self.former) < len(checks[1:])
        newest = self._known[0]
        is_new = newest is not self.current and newest.check not in {*checks, *retired}
        self.coming = newest if is_new else None
        return True

    def hash(self, credential: str) -> str:
        """See `ServerSecret.hash`: under the current secret."""
        return self.current.hash(credential)


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """One secret, or several between blanks or commas. Raises ValueError."""
    found = tuple(bytes.fromhex(word) for word in text.replace(",", " ").split())
    if not found or any(len(secret) != SECRET_BYTES for secret in found):
        raise ValueError
    return found


def load_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets in this file, the newest first; one is made at random (mode 0600) when the file
    does not exist.

    The secret lies beside the records and not in them: a copy of the database alone then has no
    use for the hashes. Raises `StoreUnusable` with one line.
    """
    try:
        text = read_private(path) or _create(path)
        return parse_secrets(text)
    except OSError as error:
        raise StoreUnusable(f"{path}: {error.strerror or error}") from error
    except ValueError:
        raise StoreUnusable(
            f"{path}: is not a secret of {SECRET_BYTES} bytes in hexadecimal"
        ) from None


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Where a process reads the secrets again. `is_own`: the server writes the file itself."""

    path: Path
    is_own: bool

    def read(self) -> tuple[bytes, ...]:
        """The secrets, the newest first. A file of the operator's stays as it is. Raises
        `StoreUnusable`."""
        if self.is_own:
            return load_secrets(self.path)
        try:
            return parse_secrets(self.path.read_text("ascii"))
        except (OSError, ValueError):
            raise StoreUnusable(f"{self.path}: has no secret that can be read") from None


def keep_secrets(path: Path, values: Sequence[bytes]) -> None:
    """Replace the secrets in the file durably. Raises `StoreUnusable`."""
    try:
        write_private(path, "".join(f"{value.hex()}\n" for value in values))
    except OSError as error:
        raise StoreUnusable(f"{path}: {error.strerror or error}") from error


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def _create(path: Path) -> str:
    """Never replaces a secret, so that two starts at once agree on one."""
    made = new_secret().hex()
    try:
        write_private(path, made + "\n", replaces=False)
    except FileExistsError:
        return read_private(path) or ""
    return made

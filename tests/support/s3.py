"""A server of S3-compatible storage (moto's) in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from .server import PATIENCE, free_port

#: What the storage takes for credentials: it checks none.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "storage-key",
    "AWS_SECRET_ACCESS_KEY": "storage-secret-0123456789",
    "AWS_REGION": "us-east-1",
}
#: It asks who it is, but believes everything.
_AUTHORIZED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=storage-key/20200101/us-east-1/s3/aws4_request,"
    " SignedHeaders=host, Signature=none"
}


class Storage:
    """Buckets at `url`; may be stopped for a while or killed, which loses everything."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Storage:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "S3_UPLOAD_PART_MIN_SIZE": "1024"},  # for tests of small parts
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self._process.poll() is None, self._log.read_text()
            with contextlib.suppress(httpx.TransportError):
                httpx.get(self.url, timeout=5)
                return self
            assert time.monotonic() < deadline, "the storage did not start"
            time.sleep(0.02)

    def bucket(self) -> Bucket:
        """A new one."""
        name = f"bucket-{secrets.token_hex(6)}"
        httpx.put(f"{self.url}/{name}").raise_for_status()
        return Bucket(self.url, name)

    def pause(self) -> None:
        """It takes connections and answers none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)


class Bucket:
    """What lies in a bucket, as the storage itself tells."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.endpoint = endpoint
        self.name = name

    @property
    def address(self) -> str:
        return f"s3://{self.name}/some/prefix"

    def kept(self) -> list[str]:
        """The SHA-256 of all content, and the keys of uploads in parts that have not ended."""
        return [hashlib.sha256(self._get(key)).hexdigest() for key in self.objects()] + (
            self.uploads()
        )

    def objects(self) -> list[str]:
        """The keys of all content."""
        found = re.findall(r"<Key>([^<]*)</Key>", self._ask("list-type=2"))
        return sorted(key for key in found if "/up/" in key)

    def uploads(self) -> list[str]:
        """The keys of uploads in parts that have not ended."""
        return sorted(re.findall(r"<Key>([^<]*)</Key>", self._ask("uploads")))

    def parts(self, key: str) -> int:
        """How many parts of this upload have come."""
        pair = re.compile(r"<UploadId>([^<]*)</UploadId><Key>([^<]*)</Key>")
        ids = [upload for upload, of in pair.findall(self._ask("uploads")) if of == key]
        answers = [self._request("GET", f"/{quote(key)}?uploadId={upload}") for upload in ids]
        return sum(answer.text.count("<Part>") for answer in answers)

    def write(self, key: str, content: bytes) -> None:
        self._request("PUT", f"/{quote(key)}", content=content)

    def remove(self, key: str) -> None:
        self._request("DELETE", f"/{quote(key)}")

    def _ask(self, query: str) -> str:
        return self._request("GET", f"?{query}").text

    def _get(self, key: str) -> bytes:
        return self._request("GET", f"/{quote(key)}").content

    def _request(self, method: str, rest: str, content: bytes | None = None) -> httpx.Response:
        url = f"{self.endpoint}/{self.name}{rest}"
        answer = httpx.request(method, url, content=content, headers=_AUTHORIZED, timeout=PATIENCE)
        return answer.raise_for_status()


@contextlib.contextmanager
def running_storage(log: Path) -> Iterator[Storage]:
    """With its credentials in this process' variables."""
    before = dict(os.environ)
    os.environ.update(CREDENTIALS)
    storage = Storage(log)
    try:
        yield storage.start()
    finally:
        storage.kill()
        os.environ.clear()
        os.environ.update(before)

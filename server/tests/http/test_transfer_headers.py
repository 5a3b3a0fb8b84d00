"""Headers about files: what a stranger can write into them, and what is made of it."""

from __future__ import annotations

import base64
import re
from email.message import Message
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.files.names import check_name, content_type_of
from resonantgenesis_server.http.transfer import (
    announced_digest,
    announced_size,
    check_digest,
    digest_header,
    disposition,
    type_header,
    upload_type,
)
from resonantgenesis_server.model.errors import InvalidRequest, UnsupportedMediaType

DIGEST = bytes(range(32))


def asking(**headers: str) -> dict[str, Any]:
    pairs = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    return {"type": "http", "headers": pairs}


def is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except ValueError:
        return False


NAMES = st.text(min_size=1, max_size=60).filter(is_name)


@given(name=NAMES)
def test_a_name_survives_its_header_and_breaks_out_of_nothing(name: str) -> None:
    value = disposition(name).decode("ascii")
    assert re.fullmatch(r'attachment; filename="[ -~]*"; filename\*=UTF-8\'\'[ -~]+', value)
    assert unquote(value.rsplit("UTF-8''", 1)[1]) == name
    fallback = value.split('"')[1]
    assert not set(fallback) & set('"\\%') and len(fallback) == len(name)
    # As a parser sees it that knows the old form alone.
    message = Message()
    message["Content-Disposition"] = value
    assert message.get_content_disposition() == "attachment"
    assert message.get_filename() == fallback.strip()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 256,
        ".",
        "..",
        " ",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "a\x00",
        "a\nb",
        "a\x7f",
        "a\x85",
        "\ud800",
        "gpj\u202eexe",
    ],
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize(
    "name", ["a", "x" * 255, "…", "ü.txt", "a b", ".bashrc", '"', "%41", "👩‍💻"]
)
def test_what_is_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    ("given_type", "name", "kept"),
    [
        (None, "a.pdf", "application/pdf"),
        (None, "a.PNG", "image/png"),
        (None, "a.tar.gz", "application/gzip"),
        (None, "a.none-such", "application/octet-stream"),
        (None, "a", "application/octet-stream"),
        ("", "a.txt", "text/plain"),
        ("application/x-www-form-urlencoded", "a.csv", "text/csv"),
        ("text/html; charset=utf-8", "a.pdf", "text/html; charset=utf-8"),
        ('a/b;c="d e"', "a", 'a/b;c="d e"'),
    ],
)
def test_the_type_of_a_file(given_type: str | None, name: str, kept: str) -> None:
    assert content_type_of(given_type, name) == kept


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        "text/",
        "/plain",
        "a b/c",
        "text/plain;",
        "té/x",
        'a/b;c="d',
        "a/" + "b" * 300,
        'text/plain; x="é"',
        'a/b;c="\x7f"',
        'a/b;c="\x00"',
        'a/b;c="d\re"',
        'a/b;c="\xff"',
    ],
)
def test_what_is_no_type(bad: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        upload_type(asking(content_type=bad), "a")
    assert "Content-Type" in caught.value.details["fields"]


def test_a_type_that_an_older_server_stored() -> None:
    assert type_header('a/b;c="d e"') == b'a/b;c="d e"'
    for stored in ('text/plain; x="é"', "a\r\nSet-Cookie: b", "ü"):
        assert type_header(stored) == b"application/octet-stream"


def test_a_body_must_be_the_file_itself() -> None:
    for headers in (
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_encoding": "gzip"},
        {"content_encoding": "br, identity"},
    ):
        with pytest.raises(UnsupportedMediaType):
            upload_type(asking(**headers), "a")
    assert upload_type(asking(content_encoding="identity"), "a.txt") == "text/plain"


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def test_digests_there_and_back() -> None:
    header = digest_header(DIGEST.hex()).decode()
    assert header == f"sha-256=:{encoded(DIGEST)}:"
    for written in (header, f"sha-512=:abcd:, {header}", f"{header},unixsum=:MDAwMA==:"):
        assert announced_digest(asking(content_digest=written)) == DIGEST.hex()
    for other in ("sha-512=:abcd:", "unixsum=:MDAwMA==:"):
        assert announced_digest(asking(content_digest=other)) is None
    assert announced_digest(asking()) is None
    check_digest(None, "ab")
    check_digest("ab", "ab")
    with pytest.raises(InvalidRequest, match="Content-Digest"):
        check_digest("ab", "cd")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "sha-256",
        "sha-256=abcd",
        "sha-256=:abcd:",
        "sha-256=:%%%:",
        "sha-256=:abcde:",
        f"SHA-256=:{encoded(DIGEST)}:",
        f"sha-256=:{encoded(DIGEST + b'x')}:",
        f"sha-256={DIGEST.hex()}",
    ],
)
def test_what_is_no_digest(bad: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        announced_digest(asking(content_digest=bad))
    assert "Content-Digest" in caught.value.details["fields"]


def test_announced_sizes() -> None:
    assert announced_size(asking(content_length="12")) == 12
    assert announced_size(asking(content_length="9" * 5_000)) > 1 << 50
    for bad in ("", "-1", "1e3", "²", "abc"):
        assert announced_size(asking(content_length=bad)) == 0
    assert announced_size(asking()) == 0

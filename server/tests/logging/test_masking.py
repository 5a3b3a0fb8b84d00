"""Secrets by the places where people put them."""

from __future__ import annotations

import time

import pytest
from resonantgenesis_server.logging.masking import (
    MASK,
    Hidden,
    mask_addresses,
    mask_arguments,
    mask_quoted,
    secrets_in,
    secrets_in_arguments,
)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis://:pass-word@host:6379/0", f"redis://{MASK}@host:6379/0"),
        ("redis://user:pass-word@host", f"redis://{MASK}@host"),
        ("https://only-a-token@host/path", f"https://{MASK}@host/path"),
        ("redis://u:p@ss@host/0", f"redis://{MASK}@host/0"),
        ("redis://u:p/a?s#s@host/0", f"redis://{MASK}@host/0"),
        ("redis+sentinel://:a@h1:1,h2:2/x", f"redis+sentinel://{MASK}@h1:1,h2:2/x"),
        ("https://h/mcp?token=abc&x=1", f"https://h/mcp?token={MASK}&x=1"),
        ("https://h/mcp?x=1&api_key=abc", f"https://h/mcp?x=1&api_key={MASK}"),
        ("https://h/?apikey=abc#access_token=d", f"https://h/?apikey={MASK}#access_token={MASK}"),
        ("https://h/?X-Amz-Signature=abc", f"https://h/?X-Amz-Signature={MASK}"),
        ("https://h/?KEY=abc;sig=def", f"https://h/?KEY={MASK};sig={MASK}"),
        ("could not reach 'https://u:p@h/x': no", f"could not reach 'https://{MASK}@h/x': no"),
        ("https://h/v1?monkey=1&page=2", "https://h/v1?monkey=1&page=2"),
        ("https://h/@scope/pkg", f"https://{MASK}@scope/pkg"),  # rather too much
        ("memory://", "memory://"),
        ("me@example.com", "me@example.com"),
    ],
)
def test_addresses(given: str, shown: str) -> None:
    assert mask_addresses(given) == shown
    assert mask_addresses(shown).replace(MASK, "") == shown.replace(MASK, "")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["npx", "s", "--token", "abc"], ["npx", "s", "--token", MASK]),
        (["s", "--api-key=abc", "x"], ["s", f"--api-key={MASK}", "x"]),
        (
            ["s", "--header", "Authorization: Bearer abc"],
            ["s", "--header", f"Authorization: {MASK}"],
        ),
        (["env", "GITHUB_TOKEN=abc", "s"], ["env", f"GITHUB_TOKEN={MASK}", "s"]),
        (["docker", "-e", "API_KEY=abc"], ["docker", "-e", f"API_KEY={MASK}"]),
        (["s", "postgres://u:p@h/db"], ["s", f"postgres://{MASK}@h/db"]),
        (["s", "--password", "-begins-so"], ["s", "--password", MASK]),
        (["s", "--keep", "3", "-p", "80"], ["s", "--keep", "3", "-p", "80"]),
        (["s", "--secret"], ["s", "--secret"]),
    ],
)
def test_arguments(given: list[str], shown: list[str]) -> None:
    assert mask_arguments(given) == shown


def test_what_is_hidden_is_known() -> None:
    assert set(secrets_in("redis://user:p%40ss-word@h/?key=other")) == {
        "p%40ss-word",
        "p@ss-word",
        "other",
    }
    given = ["s", "--token", "abc", "--key=def", "A_SECRET=ghi", "https://h/?token=jkl"]
    assert set(secrets_in_arguments(given)) >= {"abc", "def", "ghi", "jkl"}


def test_what_is_no_address_for_want_of_a_sign() -> None:
    assert mask_quoted("'redis:/u:pass@h' is none") == f"'{MASK}@h' is none"
    assert mask_quoted("port: '99999': too large") == "port: '99999': too large"


def test_hidden_values_and_places_together() -> None:
    hidden = Hidden()
    hidden.add(["hidden-value"])
    assert hidden.mask("a hidden-value at redis://u:p@h") == f"a {MASK} at redis://{MASK}@h"


@pytest.mark.parametrize("unit", ["/", "//", "?a_", "//:", "?key=", "a@", "&token", "'a:"])
def test_no_text_takes_long(unit: str) -> None:
    began = time.process_time()
    Hidden().mask(unit * 30_000 + "@=")
    mask_quoted(unit * 30_000)
    assert time.process_time() - began < 5

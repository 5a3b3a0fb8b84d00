"""Which server, and above all: which key goes to which server."""

from __future__ import annotations

from pathlib import Path

import pytest
from resonantgenesis_server.cli.errors import AuthError, UsageProblem
from resonantgenesis_server.cli.target import check_url, find_target

LOCAL, REMOTE = "http://127.0.0.1:8080", "https://api.example"


def write_key(folder: Path, key: str = "rg_live_file") -> None:
    folder.mkdir()
    (folder / "api-key").write_text(key + "\n")


def test_the_defaults(tmp_path: Path) -> None:
    write_key(tmp_path / "data")
    found = find_target(None, None)
    assert (found.url, found.key) == (LOCAL, "rg_live_file")


def test_the_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_key(tmp_path / "data")
    write_key(tmp_path / "other", "rg_live_other")
    monkeypatch.setenv("RESONANTGENESIS_DATA", "other")
    assert find_target(None, None).key == "rg_live_other"
    assert find_target(None, Path("data")).key == "rg_live_file"
    monkeypatch.setenv("RESONANTGENESIS_BASE_URL", REMOTE + "/")
    monkeypatch.setenv("RESONANTGENESIS_API_KEY", "rg_live_variable")
    assert find_target(None, None).url == REMOTE
    assert find_target(LOCAL, Path("data")).key == "rg_live_variable"


@pytest.mark.parametrize("url", [LOCAL, "http://localhost:1", "http://[::1]:8080"])
def test_a_bootstrap_key_opens_the_server_here(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RESONANTGENESIS_BOOTSTRAP_KEY", "rg_live_bootstrap")
    assert find_target(url, None).key == "rg_live_bootstrap"


@pytest.mark.parametrize("url", [REMOTE, "http://10.0.0.1", "http://localhost.example"])
def test_keys_of_this_machine_are_not_sent_to_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    write_key(tmp_path / "data")
    monkeypatch.setenv("RESONANTGENESIS_BOOTSTRAP_KEY", "rg_live_bootstrap")
    with pytest.raises(AuthError, match="set RESONANTGENESIS_API_KEY"):
        find_target(url, None)
    assert find_target(url, Path("data")).key == "rg_live_file"


def test_no_key_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AuthError, match=r"looked for there/api-key"):
        find_target(None, Path("there"))
    (tmp_path / "there" / "api-key").mkdir(parents=True)
    with pytest.raises(AuthError, match="there/api-key: "):
        find_target(None, Path("there"))


@pytest.mark.parametrize("url", ["", "x", "ftp://a", "http://", "http://a:0", "http://[", "//a"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageProblem, match="is not an address"):
        check_url(url)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (f"{LOCAL}/v1", LOCAL),
        (f"{LOCAL}/v1/", LOCAL),
        (f"{LOCAL}/api/v1", f"{LOCAL}/api"),
        (f"{REMOTE}/behind/a/proxy/v1/", f"{REMOTE}/behind/a/proxy"),
        ("http://v1", "http://v1"),
        (f"{LOCAL}/api", f"{LOCAL}/api"),
    ],
)
def test_an_address_may_end_in_what_every_path_begins_with(written: str, meant: str) -> None:
    assert check_url(written) == meant

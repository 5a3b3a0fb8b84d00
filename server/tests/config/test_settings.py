"""Settings: where they come from, what they may be, and that each is documented."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import get_type_hints

import pytest
from pydantic import ValidationError
from resonantgenesis_server.config.load import (
    MASK,
    effective,
    load_settings,
    secrets_of,
    setting_names,
    unknown_variables,
    variable_of,
    worker_count,
)
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.logging.startup import StartupError
from resonantgenesis_server.model.limits import Limits

SECRET = "s3cret-and-long-enough"
PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("RESONANTGENESIS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def source_of(setting: str, **arguments: object) -> tuple[str, str]:
    rows = {name: (value, source) for name, value, source in load_settings(arguments).effective()}
    return rows[setting]


def test_command_line_over_variable_over_file_over_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert source_of("port") == ("8080", "default")
    (tmp_path / "resonantgenesis.toml").write_text("port = 1000\n")
    assert source_of("port") == ("1000", "file resonantgenesis.toml")
    monkeypatch.setenv("RESONANTGENESIS_PORT", "2000")
    assert source_of("port") == ("2000", "variable RESONANTGENESIS_PORT")
    assert source_of("port", port=3000) == ("3000", "command line")
    assert source_of("port", port=None) == ("2000", "variable RESONANTGENESIS_PORT")


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_PORT", "")
    monkeypatch.setenv("RESONANTGENESIS_CONFIG", "")
    assert source_of("port") == ("8080", "default")


def test_the_file_named_counts_over_the_one_that_lies_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "resonantgenesis.toml").write_text("port = 1\n")
    other, third = tmp_path / "o{}ther.toml", tmp_path / "third.toml"
    other.write_text("port = 2\n")
    third.write_text("port = 3\n")
    monkeypatch.setenv("RESONANTGENESIS_CONFIG", str(other))
    assert source_of("port") == ("2", f"file {other}")
    assert load_settings(config=third).settings.port == 3


def test_limits_come_from_every_source_one_by_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "resonantgenesis.toml").write_text("[limits]\ngoal = 10\nbody = 2048\n")
    monkeypatch.setenv("RESONANTGENESIS_LIMITS__GOAL", "20")
    loaded = load_settings()
    limits = loaded.settings.limits
    assert (limits.goal, limits.body, limits.chunk) == (20, 2048, Limits().chunk)
    assert loaded.sources["limits.goal"] == "variable RESONANTGENESIS_LIMITS__GOAL"
    assert loaded.sources["limits.body"] == "file resonantgenesis.toml"


def test_agents_of_all_sources_stand_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "resonantgenesis.toml").write_text('[agents]\none = "a:b"\nTwo = "a:c"\n')
    monkeypatch.setenv("RESONANTGENESIS_AGENTS", "Two=x:y, three=m.n:o")
    agents = load_settings({"agents": {"four": "p:q"}}).settings.agents
    assert agents == {"one": "a:b", "Two": "x:y", "three": "m.n:o", "four": "p:q"}
    monkeypatch.setenv("RESONANTGENESIS_AGENTS", '{"five": "a:b"}')
    assert load_settings().settings.agents["five"] == "a:b"


def test_origins_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_CORS_ORIGINS", "https://a.example, http://b.example:81")
    assert load_settings().settings.cors_origins == ("https://a.example", "http://b.example:81")
    monkeypatch.setenv("RESONANTGENESIS_CORS_ORIGINS", '["https://c.example"]')
    assert load_settings().settings.cors_origins == ("https://c.example",)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("PORT", "x", "port: 'x': input should be a valid integer"),
        ("PORT", "65536", "port: '65536': input should be less than or equal to 65535"),
        ("LIMITS__GOAL", "0", "limits.goal: '0'"),
        ("LIMITS__STALL", "nan", "limits.stall: 'nan'"),
        ("LIMITS__STALL", "inf", "limits.stall: 'inf'"),
        ("LIMITS__GAOL", "5", "limits.gaol: there is no such setting; did you mean limits.goal?"),
        ("LIMITS", "{", "LIMITS: must be a JSON object"),
        ("DRAIN_SECONDS", "-1", "drain_seconds"),
        ("NODE_BEAT", "0", "node_beat: '0'"),
        ("NODE_TTL", "4", "must be at least five times node_beat, which is 1"),
        ("LOG_LEVEL", "loud", "log_level: 'loud'"),
        ("AGENTS", "x", "'x' is not NAME=MODULE:ATTRIBUTE"),
        ("AGENTS", "x=y", "agents: x: 'y' is not MODULE:ATTRIBUTE"),
        ("AGENTS", "a b=m:f", "agents: 'a b' is no agent id"),
        ("AGENTS", "{", "is not valid JSON"),
        ("LLM__BASE_URLS__LOCAL", "x", "llm.base_urls: local: 'x' is not an address"),
        ("LLM__BASE_URLS__LOCAL", "http://u:p@h", "is not an address"),
        ("LLM__BASE_URLS", '{"a b": "http://h"}', "'a b' is no provider's name"),
        ("LLM__API_KEYS__LOCAL", "two words", "llm.api_keys: local: a key is printable"),
        ("LLM__HISTORY_CHARS", "-1", "llm.history_chars: '-1'"),
        ("CORS_ORIGINS", "*", "leave it empty for any origin"),
        ("CORS_ORIGINS", "https://a/path", "is not an origin"),
        ("CORS_ORIGINS", "https://u@a", "is not an origin"),
        ("CORS_ORIGINS", "https://[", "is not an origin"),
        ("TOOLS__TIMEOUT", "0", "tools.timeout: '0'"),
        ("TOOLS__TIMEOUTS", "{", "RESONANTGENESIS_TOOLS__…: must be a JSON object"),
        ("TOOLS__FUNCTIONS", '{"a__b": "m:f"}', "'a__b' is no name"),
        ("TOOLS__FUNCTIONS__W", "m", "tools.functions: w: 'm' is not MODULE:FUNCTION"),
        ("TOOLS__FETCH__ALLOW_HOSTS", "http://a", "'http://a' is not HOST or HOST:PORT"),
        ("TOOLS__SEARCH__PROVIDER", "x", "tools.search.provider: 'x'"),
        ("TOOLS__SEARCH__URL", "//x", "tools.search.url: '//x' is not an address"),
        ("TOOLS__SEARCH__URL", "http://u:p@x", "must not have a name or password in it"),
        ("TOOLS__MCP__F__CWD", "/", "tools.mcp.f: needs either `command`, a list, or `url`"),
        ("TOOLS__MCP__F__COMAND", "x", "tools.mcp.f.comand: there is no such setting"),
    ],
)
def test_what_a_setting_cannot_be_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"RESONANTGENESIS_{variable}", value)
    with pytest.raises(StartupError) as raised:
        load_settings()
    message = str(raised.value)
    assert says in message
    assert f"RESONANTGENESIS_{variable.partition('__')[0]}" in message
    assert "\n" not in message
    assert raised.value.exit_code == 2


def test_limits_are_of_agents_that_there_are(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[agents]\na = 'm:a'\n[agent_limits.a]\nmax_steps = 3\n")
    assert load_settings(config=file).settings.agent_limits["a"].max_steps == 3
    file.write_text("[agent_limits.b]\nmax_steps = 3\n")
    with pytest.raises(StartupError, match="there is no agent 'b' in `agents`"):
        load_settings(config=file)


def test_every_bad_setting_is_named_at_once() -> None:
    with pytest.raises(StartupError, match=r"port: .*\(command line\); drain_seconds: "):
        load_settings({"port": -1, "drain_seconds": "x"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "prot: there is no such setting; did you mean port? (file f.toml)"),
        ("[limits]\nwhatever = 1", "limits.whatever: there is no such setting (file f.toml)"),
        ("port = ", "configuration file f.toml: is not valid TOML"),
        ("port = '\udc80'", "configuration file f.toml: is not valid TOML"),
        ("limits = 3", "limits: "),
        ("agents = 3", "agents: "),
    ],
)
def test_a_wrong_file_is_said_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "f.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StartupError, match=re.escape(says)) as raised:
        load_settings(config=Path("f.toml"))
    assert "\n" not in str(raised.value)


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"none\.toml: No such file"):
        load_settings(config=tmp_path / "none.toml")


@pytest.mark.parametrize(
    "key", ["short", "x" * 15, "x" * 513, "with space in the middle", "ü" * 20]
)
def test_a_bad_bootstrap_key_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("RESONANTGENESIS_BOOTSTRAP_KEY", key)
    with pytest.raises(StartupError, match="16 to 512 printable characters") as raised:
        load_settings()
    assert key not in str(raised.value)


def test_a_bootstrap_key_of_a_wrong_type_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "resonantgenesis.toml").write_text("bootstrap_key = 1234567890123456789\n")
    with pytest.raises(StartupError, match="bootstrap_key") as raised:
        load_settings()
    assert "1234567890" not in str(raised.value)


def test_secrets_are_masked_wherever_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_BOOTSTRAP_KEY", SECRET)
    loaded = load_settings()
    assert source_of("bootstrap_key") == (MASK, "variable RESONANTGENESIS_BOOTSTRAP_KEY")
    assert SECRET not in repr(loaded) + str(loaded.effective()) + str(loaded.settings)


def test_secrets_of_tools_are_masked_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_TOOLS__SEARCH__API_KEY", SECRET)
    monkeypatch.setenv("RESONANTGENESIS_TOOLS__MCP__F__COMMAND", "npx -y 'a b'")
    server = {"url": "http://g", "headers": {"A": SECRET}}
    monkeypatch.setenv("RESONANTGENESIS_TOOLS__MCP__F__ENV", json.dumps({"TOKEN": SECRET}))
    monkeypatch.setenv("RESONANTGENESIS_TOOLS__MCP__G", json.dumps(server))
    loaded = load_settings()
    assert source_of("tools.search.api_key")[0] == MASK
    assert source_of("tools.mcp.f.env.TOKEN")[0] == MASK
    assert source_of("tools.mcp.g.headers.A")[0] == MASK
    assert loaded.settings.tools.mcp["f"].command == ("npx", "-y", "a b")
    assert SECRET not in repr(loaded) + str(loaded.effective()) + str(loaded.settings)
    assert unknown_variables() == []


PASSWORD = "correct-horse"


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("limits_storage", f"redis://u:{PASSWORD}@h:6379/0", f"redis://{MASK}@h:6379/0"),
        ("store", f"postgresql://u:{PASSWORD}@h/d", f"postgresql://{MASK}@h/d"),
        ("store", f"postgresql://h/d?password={PASSWORD}", f"postgresql://h/d?password={MASK}"),
        ("tools.mcp.m.url", f"https://h/mcp?token={PASSWORD}", f"https://h/mcp?token={MASK}"),
        ("tools.search.url", f"https://h/?api_key={PASSWORD}", f"https://h/?api_key={MASK}"),
        ("llm.base_urls.local", f"http://h/v1?key={PASSWORD}", f"http://h/v1?key={MASK}"),
        ("tools.mcp.m.command", f"npx s --token {PASSWORD}", f"npx, s, --token, {MASK}"),
        ("tools.mcp.m.command", f"s --key={PASSWORD} x", f"s, --key={MASK}, x"),
        ("tools.mcp.m.command", f"s https://u:{PASSWORD}@h", f"s, https://{MASK}@h"),
    ],
)
def test_what_addresses_and_arguments_carry_is_masked(
    tmp_path: Path, setting: str, value: str, shown: str
) -> None:
    (tmp_path / "resonantgenesis.toml").write_text(f"{setting} = {json.dumps(value)}\n")
    loaded = load_settings()
    assert source_of(setting)[0] == shown
    assert PASSWORD not in str(loaded.effective())
    assert PASSWORD in secrets_of(loaded.settings)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("store", f"mysql://u:{PASSWORD}@h/d"),
        ("store", f"postgresql:/u:{PASSWORD}@h/d"),
        ("secret", PASSWORD),
        ("limits_storage", f"redis:/u:{PASSWORD}@h"),
        ("limits_storage", f"REDIS://u:{PASSWORD}@h"),
        ("tools.mcp.m.url", f"ftp://u:{PASSWORD}@h"),
        ("tools.mcp.m.url", f"http://u:{PASSWORD}@h"),
        ("tools.search.url", f"u:{PASSWORD}@h"),
        ("llm.base_urls.local", f"http://u:{PASSWORD}@h/v1"),
        ("llm.base_urls.local", f"http:/h/v1?token={PASSWORD}"),
        ("cors_origins", f"https://u:{PASSWORD}@h"),
        ("port", f"http://u:{PASSWORD}@h"),
    ],
)
def test_nor_does_an_error_tell_it(tmp_path: Path, setting: str, value: str) -> None:
    (tmp_path / "resonantgenesis.toml").write_text(f"{setting} = {json.dumps(value)}\n")
    with pytest.raises(StartupError) as raised:
        load_settings()
    assert PASSWORD not in str(raised.value)
    assert setting.rpartition(".")[0] in str(raised.value)


def test_the_user_of_a_store_is_no_secret() -> None:
    for url in ("postgresql://postgres@h/d", f"postgresql://postgres:{PASSWORD}@h/d"):
        settings = load_settings({"store": url}).settings
        assert "postgres" not in secrets_of(settings)
        assert PASSWORD not in repr(settings)


def test_keys_of_providers_may_lie_in_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-of-the-file\n")
    monkeypatch.setenv("RESONANTGENESIS_LLM__API_KEYS__OPENAI_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("RESONANTGENESIS_LLM__API_KEYS__LOCAL", "sk-of-the-variable")
    monkeypatch.setenv("RESONANTGENESIS_TOOLS__SEARCH__API_KEY_FILE", str(tmp_path / "key"))
    loaded = load_settings()
    keys = loaded.settings.llm.api_keys
    assert {name: key.get_secret_value() for name, key in keys.items()} == {
        "openai": "sk-of-the-file",
        "local": "sk-of-the-variable",
    }
    search = loaded.settings.tools.search.api_key
    assert search is not None and search.get_secret_value() == "sk-of-the-file"
    assert "sk-of-the-file" in secrets_of(loaded.settings)
    assert unknown_variables() == []


def test_tls_needs_both_files_and_a_proxy_an_address() -> None:
    with pytest.raises(StartupError, match=r"^tls_cert and tls_key: set both, or neither$"):
        load_settings({"tls_cert": "a.pem"})
    assert load_settings({"tls_cert": "a", "tls_key": "b"}).settings.scheme == "https"
    proxies = "10.0.0.0/8, 127.0.0.1,fd00::/8"
    found = load_settings({"trusted_proxies": proxies}).settings.trusted_proxies
    assert found == ("10.0.0.0/8", "127.0.0.1", "fd00::/8")
    for wrong in ("*", "proxy.example", "10.0.0.1/8"):
        with pytest.raises(StartupError, match=r"trusted_proxies: .*is no address and no network"):
            load_settings({"trusted_proxies": wrong})


@pytest.mark.parametrize(
    "setting", ["store", "store_direct", "secret", "bootstrap_key", "metrics_token"]
)
def test_a_secret_may_lie_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
) -> None:
    value = "postgresql://u:p@h/d" if "store" in setting else "ab" * 32
    variable = f"RESONANTGENESIS_{setting.upper()}"
    (tmp_path / "secret-file").write_text(f"{value}\n")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret-file"))
    loaded = load_settings()
    found = getattr(loaded.settings, setting)
    assert (found[0] if "store" in setting else found.get_secret_value()) == value
    assert loaded.sources[setting] == f"file of {variable}_FILE"
    assert unknown_variables() == []
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError, match=f"{variable} and {variable}_FILE"):
        load_settings()
    monkeypatch.delenv(variable)
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "none"))
    with pytest.raises(StartupError, match="No such file"):
        load_settings()


def test_keys_of_models_are_masked_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_LLM__API_KEYS__LOCAL", SECRET)
    monkeypatch.setenv("RESONANTGENESIS_LLM__BASE_URLS__LOCAL", "http://127.0.0.1:8000/v1")
    loaded = load_settings()
    assert source_of("llm.api_keys.local")[0] == MASK
    assert loaded.settings.llm.chat_url("local") == "http://127.0.0.1:8000/v1"
    assert SECRET not in repr(loaded) + str(loaded.effective()) + str(loaded.settings)
    assert unknown_variables() == []
    monkeypatch.setenv("RESONANTGENESIS_LLM__API_KEYS__LOCAL", f"{SECRET} {SECRET}")
    with pytest.raises(StartupError) as raised:
        load_settings()
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("setting", ["search.api_key", "mcp.f.env.TOKEN", "mcp.f.headers.A"])
def test_a_secret_of_a_wrong_type_is_not_shown(tmp_path: Path, setting: str) -> None:
    (tmp_path / "resonantgenesis.toml").write_text(f"tools.{setting} = 1234567890123\n")
    with pytest.raises(StartupError, match=re.escape(f"tools.{setting}")) as raised:
        load_settings()
    assert "1234567890" not in str(raised.value)


def test_settings_alone_read_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_PORT", "1")
    assert Settings().port == 8080
    with pytest.raises(ValidationError):
        Settings().port = 5  # type: ignore[misc]


def test_the_limits_are_those_of_the_model() -> None:
    assert Settings().limits == Limits()
    names = {name for name in setting_names() if name.startswith("limits.")}
    assert names == {f"limits.{field.name}" for field in dataclasses.fields(Limits)}


def test_no_limit_is_without_a_bound() -> None:
    for name, hint in get_type_hints(Limits, include_extras=True).items():
        bounds = {type(bound).__name__ for bound in hint.__metadata__[0].metadata}
        assert "Le" in bounds and bounds & {"Ge", "Gt"}, name
        with pytest.raises(StartupError, match=rf"limits\.{name}"):
            load_settings({"limits": {name: -1}})


def test_variables_that_mean_nothing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_PROT", "1")
    monkeypatch.setenv("RESONANTGENESIS_SOMETHING_ELSE", "1")
    monkeypatch.setenv("RESONANTGENESIS_API_KEY", "of the clients")
    monkeypatch.setenv("RESONANTGENESIS_LIMITS__GOAL", "5")
    assert unknown_variables() == [
        ("RESONANTGENESIS_PROT", "RESONANTGENESIS_PORT"),
        ("RESONANTGENESIS_SOMETHING_ELSE", None),
    ]


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (`RESON.*) \|$", text, re.MULTILINE))
    for name, value, _ in effective(Settings()):
        shown = f"`{value}`" if value else "none"
        assert rows.pop(name, "").startswith(f"`{variable_of(name)}` | {shown} | "), name
    assert not rows, "settings that there are not"
    assert len(setting_names()) == len(set(setting_names()))


@pytest.mark.parametrize("number", ["0", "many", "257", "-1", "1.5"])
def test_a_number_of_workers_that_cannot_be(number: str) -> None:
    with pytest.raises(StartupError, match=r"workers: .*a number from 1 to 256, or auto"):
        load_settings({"workers": number})


def test_only_a_database_has_several_workers() -> None:
    def count(**given: object) -> int:
        return worker_count(load_settings(given).settings)

    database = "postgresql:///here"
    assert (count(), count(workers="auto"), count(workers="1")) == (1, 1, 1)
    assert count(workers="3", store=database) == 3
    assert count(workers="AUTO", store=database) >= 1
    with pytest.raises(StartupError, match="workers: 2 are not possible"):
        count(workers=2)

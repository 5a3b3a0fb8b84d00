"""Settings from the command line, the variables, the file and the defaults, in that order.

The file is TOML: the one given, else that of `RESONANTGENESIS_CONFIG`, else
`resonantgenesis.toml` in the current directory if there is one.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from ..logging.masking import MASK, mask_addresses, mask_arguments, secrets_in, secrets_in_arguments
from ..logging.startup import StartupError
from ..model.limits import Limits
from . import CONFIG_VARIABLE, DEFAULT_FILE, ENV_PREFIX
from .settings import AUTO, Settings, parse_agents

log_ = structlog.get_logger("resonantgenesis.config")

#: Why an embedded store has one process.
ONE_PROCESS = "the store in the data directory is for one process; several need `store`, a database"
DEFAULT_SOURCE = "default"
#: pydantic's types of the error for an unknown name: of a model, and of a dataclass.
_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_SECRET = re.compile(
    r"store|store_direct|secret|bootstrap_key|metrics_token|.*\bapi_key|.*\b(api_keys|env|headers)(\..+)?"
)
_COMMAND = re.compile(r"tools\.mcp\..+\.command")

#: Settings whose value may lie in a file. The variable `NAME_FILE` names the file.
_FROM_FILES = re.compile(
    r"store|store_direct|secret|bootstrap_key|metrics_token"
    r"|tools\.search\.api_key|llm\.api_keys\.\w+"
)
_FILE = "_FILE"

#: Variables with our prefix that belong to clients and are no setting of the server.
CLIENT_VARIABLES = frozenset({CONFIG_VARIABLE, f"{ENV_PREFIX}BASE_URL", f"{ENV_PREFIX}API_KEY"})


@dataclass(frozen=True, slots=True)
class _Layer:
    """Settings of one source, nested as in the file."""

    values: Mapping[str, Any]
    name: str
    file: Path | None = None

    def source(self, setting: str) -> str:
        """The name of the source, for a person who looks for this setting."""
        return self.name.format(variable=variable_of(setting))


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and the source of each that does not have its default."""

    settings: Settings
    sources: Mapping[str, str]
    #: The configuration file, if there is one.
    file: Path | None = None

    def effective(self) -> list[tuple[str, str, str]]:
        """Every setting as (name, value, source), in the order of the documentation."""
        return effective(self.settings, self.sources)


def load_settings(
    arguments: Mapping[str, Any] | None = None, config: Path | None = None
) -> LoadedSettings:
    """The settings in effect. `arguments` are those of the command line, None values left out.

    Raises StartupError with one line that names every bad setting and where it stands.
    """
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    layers = [
        _file_layer(config),
        _variables_layer(),
        _secret_files_layer(),
        _Layer(given, "command line"),
    ]
    sources: dict[str, str] = {}
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer.values)
        for name in _leaves(layer.values):
            sources[name] = layer.source(name)
    try:
        return LoadedSettings(Settings(**merged), sources, layers[0].file)
    except ValidationError as error:
        problems = "; ".join(_problem(detail, sources) for detail in error.errors())
        raise StartupError(problems) from None  # the cause may show a secret


def effective(
    settings: Settings, sources: Mapping[str, str] | None = None
) -> list[tuple[str, str, str]]:
    """Every setting as (name, value, source) with secrets masked."""
    found = sources or {}
    rows: list[tuple[str, str, str]] = []
    for name, value in _flat(settings):
        rows.append((name, _shown(name, value), found.get(name, DEFAULT_SOURCE)))
    return rows


def secrets_of(settings: Settings) -> list[str]:
    """The values of all secret settings, and the secrets in addresses and arguments."""
    found: list[str] = []
    for name, value in _flat(settings):
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            # The server's secret may be several, between blanks or commas.
            found += text.replace(",", " ").split() if name == "secret" else [text]
        elif name in ("store", "store_direct"):
            # Their users are no secret, and a word like "postgres" would be hidden everywhere.
            found += [secret for address in value for secret in secrets_in(_without_user(address))]
        elif isinstance(value, str):
            found += secrets_in(value)
        elif isinstance(value, tuple) and _COMMAND.fullmatch(name):
            found += secrets_in_arguments(value)
    return found


def _without_user(address: str) -> str:
    user, colon, _ = address.partition("://")[2].partition("@")[0].partition(":")
    return address if colon else address.replace(f"//{user}@", "//", 1)


def setting_names() -> list[str]:
    """Every setting: `host`, …, `limits.body`, …"""
    return [name for name, _ in _flat(Settings())]


def variable_of(setting: str) -> str:
    """The variable of a setting. A single agent has the variable of all agents."""
    name = "agents" if setting.startswith("agents.") else setting
    return ENV_PREFIX + name.replace(".", "__").upper()


def unknown_variables() -> list[tuple[str, str | None]]:
    """Variables with our prefix that mean nothing, each with the name that was probably meant."""
    known = {variable_of(name) for name in setting_names()} | CLIENT_VARIABLES
    # A group of settings may be set as a whole, as JSON, and a mapping also entry by entry.
    known |= {variable_of(name.rpartition(".")[0]) for name in setting_names() if "." in name}
    known |= {variable.upper() for variable in _secret_files().values()}
    open_ended = tuple(f"{variable_of(name)}__" for name, value in _flat(Settings()) if value == {})
    return [
        (name, _closest_variable(name, known))
        for name in sorted(os.environ)
        if name.upper().startswith(ENV_PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(open_ended)
    ]


def warn_of_settings(settings: Settings) -> None:
    """Log what is set and has no effect."""
    for each in unknown_variables():
        log_.warning(without_effect(*each))
    if settings.workers == AUTO and not settings.store:
        log_.info(f"one process serves, although workers is {AUTO}: {ONE_PROCESS}")


def check_settings(settings: Settings) -> None:
    """Raises StartupError, with one line, for settings with which no server starts, and for
    variables that mean nothing."""
    worker_count(settings)
    if problems := [without_effect(*each) for each in unknown_variables()]:
        raise StartupError("; ".join(problems))


def without_effect(name: str, meant: str | None) -> str:
    """The words about a variable of `unknown_variables`."""
    hint = f"; did you mean {meant}?" if meant else ""
    return f"{name} is no setting and does nothing{hint}"


def worker_count(settings: Settings) -> int:
    """The processes of a server. Raises StartupError if the store is for fewer."""
    if settings.workers == AUTO and not settings.store:
        return 1
    known = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    processors = len(known) or os.cpu_count() or 1
    number = max(processors - 1, 1) if settings.workers == AUTO else int(settings.workers)
    if number > 1 and not settings.store:
        raise StartupError(f"workers: {number} are not possible: {ONE_PROCESS}")
    return number


def _file_layer(config: Path | None) -> _Layer:
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if _config_variable() else None)
    path = named or DEFAULT_FILE
    if named is None and not path.is_file():
        return _Layer({}, "")
    try:
        with path.expanduser().open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise StartupError(f"configuration file {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"configuration file {path}: is not valid TOML: {error}") from error
    return _Layer(values, f"file {path}".replace("{", "{{").replace("}", "}}"), path)


def _config_variable() -> bool:
    return bool(os.environ.get(CONFIG_VARIABLE))


def _variables_layer() -> _Layer:
    try:
        source = EnvSettingsSource(Settings)
        files = {variable.lower() for variable in _secret_files().values()}
        source.env_vars = {k: v for k, v in source.env_vars.items() if k.lower() not in files}
        values = source()
        if "agents" in values:
            # A mapping, so that agents of the file and of the command line are added to these.
            values["agents"] = parse_agents(values["agents"])
    except SettingsError as error:
        raise StartupError(_not_json(error)) from error
    except ValueError as error:
        raise StartupError(f"{variable_of('agents')}: {error}") from error
    return _Layer(values, "variable {variable}")


def _secret_files() -> dict[str, str]:
    """The settings whose value lies in a file, and the variables that name the files."""
    found = {
        variable.upper()
        .removeprefix(ENV_PREFIX)
        .removesuffix(_FILE)
        .lower()
        .replace("__", "."): variable
        for variable in os.environ
        if variable.upper().startswith(ENV_PREFIX) and variable.upper().endswith(_FILE)
    }
    return {name: variable for name, variable in found.items() if _FROM_FILES.fullmatch(name)}


def file_of(setting: str) -> Path | None:
    """The file that a variable names for the value of this setting."""
    path = os.environ.get(_secret_files().get(setting, ""))
    return Path(path).expanduser() if path else None


def _secret_files_layer() -> _Layer:
    """The secrets in the files that variables name, e.g. RESONANTGENESIS_SECRET_FILE."""
    values: dict[str, Any] = {}
    for name, file_variable in _secret_files().items():
        path = os.environ[file_variable]
        if not path:
            continue
        variable = variable_of(name)
        if os.environ.get(variable):
            raise StartupError(f"{variable} and {variable}_FILE are both set; leave one of them")
        try:
            text = Path(path).expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not text"
            raise StartupError(f"{variable}_FILE: {path}: {reason}") from error
        *groups, last = name.split(".")
        nested: dict[str, Any] = {last: text}
        for group in reversed(groups):
            nested = {group: nested}
        _merge(values, nested)
    return _Layer(values, "file of {variable}_FILE")


def _not_json(error: SettingsError) -> str:
    """pydantic-settings names only the outermost setting of a variable that should be JSON."""
    found = re.search(r'field "([a-z_]+)"', str(error))
    name = found.group(1) if found else "limits"
    inner = "" if name == "limits" else "__…"
    return f"{variable_of(name)}{inner}: must be a JSON object"


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        before = into.get(name)
        if isinstance(value, Mapping) and isinstance(before, dict):
            _merge(before, value)
        elif isinstance(value, Mapping):
            into[name] = {}
            _merge(into[name], value)
        else:
            into[name] = value


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            names += _leaves(value, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def _flat(group: BaseModel | Limits, prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in _values(group):
        if isinstance(value, BaseModel | Limits):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and value:
            for key, entry in value.items():
                inner = f"{prefix}{name}.{key}"
                rows += _flat(entry, f"{inner}.") if isinstance(entry, BaseModel) else []
                rows += [] if isinstance(entry, BaseModel) else [(inner, entry)]
        else:
            rows.append((prefix + name, value))
    return rows


def _values(group: BaseModel | Limits) -> Iterator[tuple[str, Any]]:
    if isinstance(group, BaseModel):
        return iter(group)
    return ((field.name, getattr(group, field.name)) for field in fields(group))


def _shown(name: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        entries = [str(entry) for entry in value]
        shown = mask_arguments(entries) if _COMMAND.fullmatch(name) else entries
        return mask_addresses(", ".join(shown))
    if value is None or value == {}:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return mask_addresses(str(value))


def _problem(detail: ErrorDetails, sources: Mapping[str, str]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    source = sources.get(name) or next(
        (where for key, where in sources.items() if key.startswith(f"{name}.")), None
    )
    where = f" ({source})" if source else ""
    if detail["type"] in _UNKNOWN:
        meant = _closest(name, setting_names())
        hint = f"; did you mean {meant}?" if meant else ""
        return f"{name}: there is no such setting{hint}{where}"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = detail["input"]
    is_shown = isinstance(given, str | int | float) and _SECRET.fullmatch(name) is None
    if is_shown and detail["type"] != "value_error":  # our own say themselves what was given
        message = f"{given!r}: {message}"
    return f"{name}: {message}{where}" if name else message


def _closest(name: str, known: set[str] | frozenset[str] | list[str]) -> str | None:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return close[0] if close else None


def _closest_variable(name: str, known: set[str]) -> str | None:
    """Compare without the prefix, which would make all names alike."""
    close = _closest(name[len(ENV_PREFIX) :].upper(), {each[len(ENV_PREFIX) :] for each in known})
    return close and ENV_PREFIX + close

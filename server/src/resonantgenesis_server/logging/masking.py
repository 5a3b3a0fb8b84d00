"""Masks secrets in lines: by their value, and by the places where people put them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

MASK = "********"
#: Shorter values are ordinary words, and masking them would give them away.
_MIN_SECRET = 8
#: Names of secrets in variables, options and parameters.
_NAMED = r"(?:key|token|secret|password|passwd|credentials?|signature|authorization)"
_SECRET_VARIABLE = re.compile(rf".*{_NAMED}", re.IGNORECASE)
#: Names of parameters of an address: `api_key`, `access-token`, `sig`, but not `monkey`.
_PARAMETER = rf"(?:[\w.-]{{0,64}}[_.-])?(?:{_NAMED}|apikey|auth|pass|pwd|sig|pat)"
#: Texts with the form of a credential: our API keys, signed tokens, keys of providers, and the text
#: after the name of an authorization scheme.
_CREDENTIALS = (
    r"\brg_(?:live|test)_[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+"
    r"|\bsk-[\w-]{16,}"
    r"|(?<=bearer )[^\s\"'\\,;]{12,}|(?<=basic )[^\s\"'\\,;]{12,}"
)
#: `//user:password@host`; the user may be the secret as well. It ends at the last `@` of the
#: authority, or at the first one after a password with a sign that should have been escaped.
_USER = r"(?<=//)(?:[^\s/?#\"'<>]{1,200}|[^\s\"'<>@]{1,200})(?=@)"
#: `?key=…`, `&token=…`, `#access_token=…`: the value of such a parameter.
_QUERY = rf"(?P<name>[?&;#]{_PARAMETER}=)(?P<value>[^\s&;#\"'<>\\]+)"
_PLACES = re.compile(f"{_USER}|{_QUERY}", re.IGNORECASE)
_QUOTED = re.compile(r"(?<=['\"])[^\s'\"@]{0,200}:[^\s'\"@]{1,200}(?=@)")
_OPTION = re.compile(rf"(?P<name>-{{1,2}}{_PARAMETER})(?P<value>=.*)?", re.IGNORECASE | re.DOTALL)
_ASSIGNED = re.compile(rf"(?P<name>[\w-]*{_NAMED}[\w-]*\s*[=:]\s*).+", re.I | re.DOTALL)


class Hidden:
    """The values that no line may show."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern = re.compile(_CREDENTIALS, re.IGNORECASE)

    def add(self, values: Iterable[str]) -> None:
        new = {value for value in values if len(value) >= _MIN_SECRET}
        # Also in the form that JSON and the representation of a string give them.
        self._values |= new | {json.dumps(value)[1:-1] for value in new}
        known = sorted(self._values, key=len, reverse=True)
        exact = "|".join(map(re.escape, known))
        pattern = f"{exact}|{_CREDENTIALS}" if exact else _CREDENTIALS
        self._pattern = re.compile(pattern, re.IGNORECASE)

    def mask(self, text: str) -> str:
        text = self._pattern.sub(MASK, text)
        # Few lines have an address with more than a path.
        return mask_addresses(text) if "@" in text or "=" in text else text


def mask_addresses(text: str) -> str:
    """Mask the secrets of addresses in a text: `user:password@`, `?token=…`, `&api_key=…`."""
    return _PLACES.sub(lambda found: (found["name"] or "") + MASK, text)


def mask_quoted(text: str) -> str:
    """Like `mask_addresses`, for a text that quotes an address.

    The quoted text may lack a sign of an address. So quoted `user:password@` is masked as well.
    """
    return mask_addresses(_QUOTED.sub(MASK, text))


def mask_arguments(arguments: Iterable[str]) -> list[str]:
    """Mask the secrets in a command's arguments: `--token X`, `--api-key=X`, `API_KEY=X`,
    `Authorization: X`, and those in addresses."""
    shown: list[str] = []
    is_value = False
    for argument in arguments:
        option = _OPTION.fullmatch(argument)
        if option is not None:
            shown.append(argument if option["value"] is None else f"{option['name']}={MASK}")
            is_value = option["value"] is None
            continue
        assigned = None if argument.startswith("-") else _ASSIGNED.fullmatch(argument)
        if is_value:
            shown.append(MASK)
        elif assigned is not None and "://" not in argument:
            shown.append(assigned["name"] + MASK)
        else:
            shown.append(mask_addresses(argument))
        is_value = False
    return shown


def secrets_in(text: str) -> list[str]:
    """The texts that `mask_addresses` hides, also in their form without percent signs."""
    found: list[str] = []
    for place in _PLACES.finditer(text):
        value = place["value"] or place[0].partition(":")[2] or place[0]
        found += {value, unquote(value)}
    return found


def secrets_in_arguments(arguments: Iterable[str]) -> list[str]:
    """The texts that `mask_arguments` hides."""
    given = list(arguments)
    found: list[str] = []
    for argument, shown in zip(given, mask_arguments(given), strict=True):
        if shown.endswith(MASK) and argument.startswith(shown.removesuffix(MASK)):
            found.append(argument.removeprefix(shown.removesuffix(MASK)))
        found += secrets_in(argument)
    return found


def secret_variables() -> list[str]:
    """The values of the process's variables whose names are names of secrets."""
    return [value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)]

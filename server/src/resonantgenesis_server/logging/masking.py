"""What no line shows: secrets by their value, and by the place where people put them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

MASK = "********"
#: Shorter values are words that happen to be set, and masking them would tell what they are.
_MIN_SECRET = 8
#: Names that say that what they name is a secret: of variables, options and parameters.
_NAMED = r"(?:key|token|secret|password|passwd|credentials?|signature|authorization)"
_SECRET_VARIABLE = re.compile(rf".*{_NAMED}", re.IGNORECASE)
#: Names of parameters of an address: `api_key`, `access-token`, `sig`, but not `monkey`.
_PARAMETER = rf"(?:[\w.-]{{0,64}}[_.-])?(?:{_NAMED}|apikey|auth|pass|pwd|sig|pat)"
#: What looks like a credential, whoever's it is: ours, a signed token, a provider's key, and
#: what follows the name of an authorization scheme.
_CREDENTIALS = (
    r"\brg_(?:live|test)_[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+"
    r"|\bsk-[\w-]{16,}"
    r"|(?<=bearer )[^\s\"'\\,;]{12,}|(?<=basic )[^\s\"'\\,;]{12,}"
)
#: `//user:password@host`: the user may be the secret as well. Up to the last `@` of the authority,
#: or to the first one behind a password with a sign in it that should have been escaped.
_USER = r"(?<=//)(?:[^\s/?#\"'<>]{1,200}|[^\s\"'<>@]{1,200})(?=@)"
#: `?key=…`, `&token=…`, `#access_token=…`: the value of such a parameter.
_QUERY = rf"(?P<name>[?&;#]{_PARAMETER}=)(?P<value>[^\s&;#\"'<>\\]+)"
_PLACES = re.compile(f"{_USER}|{_QUERY}", re.IGNORECASE)
_QUOTED = re.compile(r"(?<=['\"])[^\s'\"@]{0,200}:[^\s'\"@]{1,200}(?=@)")
_OPTION = re.compile(rf"(?P<name>-{{1,2}}{_PARAMETER})(?P<value>=.*)?", re.IGNORECASE | re.DOTALL)
_ASSIGNED = re.compile(rf"(?P<name>[\w-]*{_NAMED}[\w-]*\s*[=:]\s*).+", re.I | re.DOTALL)


class Hidden:
    """Values that no line may show, whatever line it is."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern = re.compile(_CREDENTIALS, re.IGNORECASE)

    def add(self, values: Iterable[str]) -> None:
        new = {value for value in values if len(value) >= _MIN_SECRET}
        # As a line of JSON or the representation of a string shows them.
        self._values |= new | {json.dumps(value)[1:-1] for value in new}
        known = sorted(self._values, key=len, reverse=True)
        exact = "|".join(map(re.escape, known))
        pattern = f"{exact}|{_CREDENTIALS}" if exact else _CREDENTIALS
        self._pattern = re.compile(pattern, re.IGNORECASE)

    def mask(self, text: str) -> str:
        text = self._pattern.sub(MASK, text)
        # Nearly no line has an address with more than a path.
        return mask_addresses(text) if "@" in text or "=" in text else text


def mask_addresses(text: str) -> str:
    """The text with what addresses in it carry: `user:password@`, `?token=…`, `&api_key=…`."""
    return _PLACES.sub(lambda found: (found["name"] or "") + MASK, text)


def mask_told(text: str) -> str:
    """`mask_addresses` for words on what somebody wrote, which may be no address at all for want
    of a sign: what is quoted and looks like `user:password@` is masked as well."""
    return mask_addresses(_QUOTED.sub(MASK, text))


def mask_arguments(arguments: Iterable[str]) -> list[str]:
    """A command's arguments without secrets: `--token X`, `--api-key=X`, `API_KEY=X`,
    `Authorization: X`, and addresses."""
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
    """What `mask_addresses` hides of the text, also as it is without percent signs."""
    found: list[str] = []
    for place in _PLACES.finditer(text):
        value = place["value"] or place[0].partition(":")[2] or place[0]
        found += {value, unquote(value)}
    return found


def secrets_in_arguments(arguments: Iterable[str]) -> list[str]:
    """What `mask_arguments` hides of them."""
    given = list(arguments)
    found: list[str] = []
    for argument, shown in zip(given, mask_arguments(given), strict=True):
        if shown.endswith(MASK) and argument.startswith(shown.removesuffix(MASK)):
            found.append(argument.removeprefix(shown.removesuffix(MASK)))
        found += secrets_in(argument)
    return found


def secret_variables() -> list[str]:
    """The values of variables of this process whose names say that they are secret."""
    return [value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)]

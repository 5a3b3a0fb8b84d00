"""The proxy that the environment names for a server, if any.

Read here for requests and sockets alike, since the libraries below disagree about it and raise
errors of their own. What is asked is Python's `getproxies` (lower case wins over upper, and where
the environment names none, the settings of macOS and Windows count).
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from ..errors import InvalidSettings

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "socks5": 1080, "socks5h": 1080}
_SCHEMES = ("http", "https", "socks5", "socks5h")
_BRACKETED = re.compile(r"\[(?P<address>[^\]]*)\](?P<mask>/\d+)?(?::(?P<port>\d+))?")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Proxy:
    """`url` may carry credentials; `address` is its host and port, `source` who named it."""

    url: str = field(repr=False)
    address: str
    source: str

    @property
    def is_socks(self) -> bool:
        """Whether it needs an extra library."""
        return self.url.startswith("socks")

    def needs(self, package: str) -> InvalidSettings:
        """The error if that library is not installed."""
        return InvalidSettings(
            f"{self.source} names a SOCKS proxy: install {package}, or name the server in NO_PROXY"
        )


def address_of(url: str | SplitResult) -> str:
    """Host and port of a valid URL, the port always there."""
    parts = urlsplit(url) if isinstance(url, str) else url
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port or _PORTS.get(parts.scheme, 80)}"


def proxy_for(url: str) -> Proxy | None:
    """The proxy on the way to a valid `http`, `https`, `ws` or `wss` URL.

    Raises InvalidSettings, which names the variable, for a value that names no proxy.
    """
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    proxies = getproxies()
    named = next((kind for kind in (scheme, "all") if proxies.get(kind, "").strip()), None)
    if named is None or _is_excluded(parts, proxies.get("no", "")):
        return None
    return _proxy(proxies[named].strip(), _source(named))


def _source(kind: str) -> str:
    # Lower case comes first, as it does in `getproxies`.
    names = sorted((name for name in os.environ if name.lower() == f"{kind}_proxy"), reverse=True)
    found = next((name for name in names if os.environ[name].strip()), None)
    return f"the variable {found}" if found else "the proxy setting of the system"


def _proxy(value: str, source: str) -> Proxy:
    # Many desktops write `socks://` for SOCKS 5.
    text = re.sub(r"^socks://", "socks5://", value if "://" in value else f"http://{value}")
    try:
        parts = urlsplit(text)
        if parts.scheme in _SCHEMES and parts.hostname and parts.port != 0:
            parts.hostname.encode("idna")
            address = address_of(parts)
            user, at, _ = parts.netloc.rpartition("@")
            # A name without a password is one with an empty password.
            user = user if not at or ":" in user else f"{user}:"
            if re.fullmatch(r"[!-~]*", parts.netloc):
                return Proxy(f"{parts.scheme}://{user}{at}{address}", address, source)
    except ValueError:
        # A port that is no number, brackets that do not match, a host that no DNS has.
        pass
    # The value may hold a password, so it is not repeated.
    raise InvalidSettings(
        f"{source} names no proxy: it must look like http://host:port or socks5://host:port"
    )


def _is_excluded(parts: SplitResult, no_proxy: str) -> bool:
    host = (parts.hostname or "").rstrip(".")
    if not getproxies_environment() and proxy_bypass(host):
        return True
    port = parts.port or _PORTS[parts.scheme]
    return any(_excludes(entry, host, port) for entry in re.split(r"[\s,;]+", no_proxy) if entry)


def _excludes(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means this host: its name or a name below, an address, a
    network, any of them with a port. An entry that is none of these means nothing."""
    name, only = _entry(entry.lower().rpartition("://")[2])
    if only is not None and only != str(port):
        return False
    if name == "*":
        return True
    address = _address(host)
    if address is not None:
        network = _network(name)
        return fnmatch.fnmatchcase(host, name) if network is None else address in network
    name = name.lstrip("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _entry(entry: str) -> tuple[str, str | None]:
    """Without brackets; and its port, if it has one."""
    bracketed = _BRACKETED.fullmatch(entry)
    if bracketed:
        return bracketed["address"] + (bracketed["mask"] or ""), bracketed["port"]
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, None


def _address(host: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(name: str) -> IPNetwork | None:
    alone = _address(name)
    try:
        return ipaddress.ip_network(alone or name, strict=False)
    except ValueError:
        return None

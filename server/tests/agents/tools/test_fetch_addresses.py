from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.agents.tools.fetch.network import is_public

INSIDE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1
    127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1
    192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808
    64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1
    fd00:ec2::254 fd20:ce::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 93.184.216.34 100.63.255.255 100.128.0.1 126.255.255.255
    128.0.0.1 168.63.129.15 172.15.255.255 172.32.0.1 192.167.255.255 192.169.0.1 223.255.255.255
    2606:4700:4700::1111 2a00:1450:4001:81b::200e 2001:4860:4860::8888
"""


@pytest.mark.parametrize("address", INSIDE.split())
def test_what_points_inside(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_what_is_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_nothing_public_is_anything_else_to_python(address: IPv4Address | IPv6Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not (address.is_multicast or address.is_private or address.is_reserved)


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_inside_an_ipv6_one_is_public(address: IPv4Address) -> None:
    number = int(address)
    for network in ("::", "::ffff:0:0", "64:ff9b::"):
        assert not is_public(str(IPv6Address(int(ip_address(network)) + number)))
    assert not is_public(str(IPv6Address((0x2002 << 112) + (number << 80))))  # 6to4


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "0x7f000001", "127.1", "1.1.1.1:80"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        is_public(text)

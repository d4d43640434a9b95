"""Socket addresses in the kernel's layout, and who may ask."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from dnsguard.net.addresses import Access, Network, family_of, name_octets, read_name


def networks(*texts: str) -> list[Network]:
    return [ipaddress.ip_network(text) for text in texts]


def test_a_family_has_names_of_one_length() -> None:
    assert family_of("127.0.0.1") is socket.AF_INET
    assert family_of("fe80::1%lo") is socket.AF_INET6
    assert name_octets(socket.AF_INET) == 16
    assert name_octets(socket.AF_INET6) == 28


def test_names_are_read_as_the_kernel_writes_them() -> None:
    four = b"\2\0" + b"\x14\xe9" + b"\xc0\0\2\1" + bytes(8)
    assert read_name(four) == ("192.0.2.1", 5353)
    six = b"\n\0" + b"\xff\xff" + bytes(4) + ipaddress.ip_address("2001:db8::5").packed + bytes(4)
    assert read_name(six) == ("2001:db8::5", 65535)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.1", False),
        ("fd00::1", True),
        ("fe00::1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
    ],
)
def test_who_is_in_one_of_the_networks_may_ask(host: str, allowed: bool) -> None:
    access = Access(networks("10.0.0.0/8", "fd00::/8"))
    for _ in range(2):  # looked up, and remembered
        assert access.allows(ipaddress.ip_address(host).packed) is allowed
    assert access.covers(ipaddress.ip_address(host)) is allowed


@pytest.mark.parametrize(
    ("inner", "covered"),
    [
        ("10.0.0.0/8", True),
        ("10.1.0.0/16", True),
        ("8.0.0.0/5", False),
        ("11.0.0.0/8", False),
        ("fd00::/8", True),
        ("fc00::/7", False),
    ],
)
def test_a_network_is_covered_as_a_whole_or_not(inner: str, covered: bool) -> None:
    access = Access(networks("10.0.0.0/8", "fd00::/8"))
    assert access.covers_all(ipaddress.ip_network(inner)) is covered


def test_nobody_is_allowed_by_no_network() -> None:
    assert not Access([]).allows(b"\x7f\0\0\1")
    assert not Access([]).covers_all(ipaddress.ip_network("127.0.0.0/8"))

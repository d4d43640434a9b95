"""Texts of settings and their values: durations, sizes, addresses, upstreams, names, networks.

Tables of what is read and what is refused with which advice, and round trips by hypothesis.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from dnsguard.config import addresses, units
from dnsguard.config.addresses import Address
from dnsguard.core.policy import Upstream

IPS = st.ip_addresses().filter(
    lambda ip: (
        not ip.is_unspecified
        and not ip.is_multicast
        and str(ip) != "255.255.255.255"
        and getattr(ip, "ipv4_mapped", None) is None
    )
)
LABELS = st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
HOSTS = NAMES.filter(lambda name: not name.rpartition(".")[2].isdigit())


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (units.read_duration, "300ms", 0.3),
        (units.read_duration, "0.1s", 0.1),
        (units.read_duration, "1.5s", 1.5),
        (units.read_duration, "2m", 120.0),
        (units.read_duration, "1h30m", 5400.0),
        (units.read_duration, "3d", 259200.0),
        (units.read_duration, "1w", 604800.0),
        (units.read_duration, "0", 0.0),
        (units.read_duration, "-1s", -1.0),
        (units.read_seconds, "5m", 300),
        (units.read_seconds, "1000ms", 1),
        (units.read_size, "64MiB", 67108864),
        (units.read_size, "2TiB", 2 << 40),
        (units.read_size, "1GiB", 1 << 30),
        (units.read_size, "3KiB", 3072),
        (units.read_size, "7B", 7),
        (units.read_size, "67108864", 67108864),
        (units.read_integer, "4096", 4096),
        (units.read_integer, "-1", -1),
        (units.read_number, "0.1", 0.1),
        (units.read_number, "1e-07", 1e-07),
        (units.read_switch, "on", True),
        (units.read_switch, "Yes", True),
        (units.read_switch, "off", False),
        (units.read_switch, "false", False),
    ],
)
def test_a_text_is_read(read: Callable[[str], object], text: str, value: object) -> None:
    found = read(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("read", "text", "advice"),
    [
        (units.read_duration, "", "a number and a unit"),
        (units.read_duration, "30", "a number and a unit"),
        (units.read_duration, "3 d", "a number and a unit"),
        (units.read_duration, "3x", "300ms, 30s or 3d"),
        (units.read_duration, "s", "a number and a unit"),
        (units.read_duration, "٣d", "a number and a unit"),  # digits of another script
        (units.read_duration, "9999999999999s", "a number and a unit"),
        (units.read_duration, "0.5ms", "steps of 1ms"),
        (units.read_duration, "0.0001s", "steps of 1ms"),
        (units.read_seconds, "1.5s", "whole seconds"),
        (units.read_seconds, "300ms", "whole seconds"),
        (units.read_size, "64MB", "MiB"),
        (units.read_size, "1.5GiB", "such as 64MiB"),
        (units.read_size, "-1B", "such as 64MiB"),
        (units.read_size, "", "such as 64MiB"),
        (units.read_integer, "1.0", "a whole number"),
        (units.read_integer, "1_000", "a whole number"),
        (units.read_number, "a tenth", "such as 0.1"),
        (units.read_number, "nan", "such as 0.1"),
        (units.read_number, "inf", "such as 0.1"),
        (units.read_switch, "maybe", "on or off"),
        (addresses.read_address, "127.0.0.1", "the port is missing"),
        (addresses.read_address, "::1", "the port is missing"),
        (addresses.read_address, "localhost:53", "ADDR:PORT"),
        (addresses.read_address, ":53", "ADDR:PORT"),
        (addresses.read_address, "::1:53", "the port is missing"),
        (addresses.read_address, "[::1", "ADDR:PORT"),
        (addresses.read_address, "[::1]53", "ADDR:PORT"),
        (addresses.read_address, "[127.0.0.1]:53", "ADDR:PORT"),
        (addresses.read_address, "127.0.0.1:65536", "a port from 0 to 65535"),
        (addresses.read_address, "127.0.0.1:", "a port from 0 to 65535"),
        (addresses.read_address, "127.0.0.1:-1", "a port from 0 to 65535"),
        (addresses.read_address, "127.0.0.1:dns", "a port from 0 to 65535"),
        (addresses.read_address_or_off, "on", "; or off"),
        (addresses.read_name, "", "a domain name"),
        (addresses.read_name, "..", "a domain name"),
        (addresses.read_name, "a..b", "a domain name"),
        (addresses.read_name, ".a", "a domain name"),
        (addresses.read_name, "a b", "a domain name"),
        (addresses.read_name, "*.a", "a domain name"),
        (addresses.read_name, "bücher.example", "xn--"),
        (addresses.read_name, "\u212a.example", "xn--"),  # the Kelvin sign, whose lower case is k
        (addresses.read_name, "a" * 64, "1 to 63"),
        (addresses.read_name, ".".join(["a" * 49] * 6), "253"),
        (addresses.read_upstream, "", "an upstream"),
        (addresses.read_upstream, ".", "an upstream"),
        (addresses.read_upstream, "10.96.0.300", "an upstream"),
        (addresses.read_upstream, "10.96.0", "an upstream"),
        (addresses.read_upstream, "10.96.0.10/53", "an upstream"),
        (addresses.read_upstream, "user@host", "an upstream"),
        (addresses.read_upstream, "[10.96.0.10]:53", "an upstream"),
        (addresses.read_upstream, "10.96.0.10:0", "a port from 1 to 65535"),
        (addresses.read_upstream, "10.96.0.10:99999", "a port from 1 to 65535"),
        (addresses.read_upstream, "0.0.0.0", "nothing answers at 0.0.0.0"),
        (addresses.read_upstream, "[::]:53", "nothing answers at ::"),
        (addresses.read_upstream, "224.0.0.251", "nothing answers at 224.0.0.251"),
        (addresses.read_upstream, "255.255.255.255", "nothing answers at"),
        (addresses.read_upstream, "https://dns.example/dns-query", "udp://, tcp:// or tls://"),
        (addresses.read_upstream, "10.96.0.10#name", "only a tls:// upstream"),
        (addresses.read_upstream, "tls://10.96.0.10#", "an upstream"),
        (addresses.read_network, "everyone", "loopback, link-local, private"),
        (addresses.read_network, "10.0.0.0/33", "loopback, link-local, private"),
        (addresses.read_network, "10.0.0.1/8", "10.0.0.0/8 may be meant"),
        (addresses.read_network, "fd00::1/8", "fd00::/8 may be meant"),
    ],
)
def test_a_wrong_text_says_what_would_be_right(
    read: Callable[[str], Any], text: str, advice: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(advice)):
        read(text)


@settings(deadline=None)
@given(st.integers(0, 10**12))
def test_durations_survive_a_round_trip(milliseconds: int) -> None:
    assert units.read_duration(units.show_duration(milliseconds / 1000)) == milliseconds / 1000


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_whole_seconds_survive_a_round_trip(seconds: int) -> None:
    assert units.read_seconds(units.show_duration(seconds)) == seconds


@settings(deadline=None)
@given(st.integers(0, 10**15 - 1))
def test_sizes_survive_a_round_trip(size: int) -> None:
    assert units.read_size(units.show_size(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.3, "300ms"), (1.5, "1500ms"), (5400, "90m"), (259200, "3d"), (604800, "7d")],
)
def test_durations_are_shown_in_their_largest_unit(seconds: float, text: str) -> None:
    assert units.show_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1000, "1000B"), (3072, "3KiB"), (67108864, "64MiB")]
)
def test_sizes_are_shown_in_their_largest_unit(size: int, text: str) -> None:
    assert units.show_size(size) == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5353", Address("127.0.0.1", 5353)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:53", Address("::1", 53)),
        ("[0:0::0:1]:053", Address("::1", 53)),
        ("[fe80::1%eth0]:53", Address("fe80::1%eth0", 53)),
        ("[::ffff:127.0.0.1]:53", Address("127.0.0.1", 53)),
    ],
)
def test_addresses_have_one_spelling(text: str, address: Address) -> None:
    assert addresses.read_address(text) == address
    assert addresses.read_address(str(address)) == address


def test_an_address_may_be_off() -> None:
    assert addresses.read_address_or_off("OFF") is None
    assert addresses.show_address_or_off(None) == "off"
    shown = addresses.show_address_or_off(addresses.read_address_or_off("[::1]:9153"))
    assert shown == "[::1]:9153"


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("10.96.0.10", Upstream("10.96.0.10", 53)),
        ("10.96.0.10:5300", Upstream("10.96.0.10", 5300)),
        ("fd00::a", Upstream("fd00::a", 53)),
        ("[fd00::a]", Upstream("fd00::a", 53)),
        ("[FD00:0::A]:5300", Upstream("fd00::a", 5300)),
        ("udp://10.96.0.10", Upstream("10.96.0.10", 53)),
        ("TCP://10.96.0.10", Upstream("10.96.0.10", 53, "tcp")),
        ("Kube-DNS.kube-system.", Upstream("kube-dns.kube-system", 53)),
        ("kube-dns:53", Upstream("kube-dns", 53)),
        ("tls://192.0.2.53", Upstream("192.0.2.53", 853, "tls")),
        ("tls://[fd00::a]:8853", Upstream("fd00::a", 8853, "tls")),
        ("tls://192.0.2.53:853#dns.example", Upstream("192.0.2.53", 853, "tls", "dns.example")),
        ("tls://dns.example", Upstream("dns.example", 853, "tls", "dns.example")),
        ("tls://a.example#b.example", Upstream("a.example", 853, "tls", "b.example")),
    ],
)
def test_upstreams_have_these_forms(text: str, upstream: Upstream) -> None:
    assert addresses.read_upstream(text) == upstream


@settings(deadline=None)
@given(
    host=IPS.map(str) | HOSTS,
    port=st.integers(1, 65535),
    transport=st.sampled_from(["udp", "tcp", "tls"]),
    server_name=st.none() | HOSTS,
)
def test_upstreams_survive_a_round_trip(
    host: str, port: int, transport: str, server_name: str | None
) -> None:
    where = f"[{host}]" if ":" in host else host
    name = f"#{server_name}" if server_name and transport == "tls" else ""
    upstream = addresses.read_upstream(f"{transport}://{where}:{port}{name}")
    assert (upstream.port, upstream.transport) == (port, transport)
    assert upstream.host == (str(ipaddress.ip_address(host)) if ":" in host else host)
    assert addresses.read_upstream(str(upstream)) == upstream


@settings(deadline=None)
@given(NAMES)
def test_names_are_lower_case_without_the_final_dot(name: str) -> None:
    assert addresses.read_name(f"{name.upper()}.") == name
    assert addresses.read_name(name) == name


def test_the_root_is_a_dot() -> None:
    assert addresses.read_name(".") == "."


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("Loopback", "loopback"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("FD00:0::/8", "fd00::/8"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("64:FF9B::/96", "64:ff9b::/96"),
    ],
)
def test_networks_have_one_spelling(text: str, network: str) -> None:
    assert addresses.read_network(text) == network


def admitted(words: tuple[str, ...], address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in addresses.networks(words))


@pytest.mark.parametrize(
    ("word", "inside", "outside"),
    [
        ("loopback", ["127.0.0.1", "127.1.2.3", "::1"], ["128.0.0.1", "::2", "10.0.0.1"]),
        ("link-local", ["169.254.20.10", "fe80::1"], ["169.253.0.1", "fec0::1"]),
        (
            "private",
            ["10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd12::1"],
            ["100.64.0.1", "172.32.0.1", "192.0.2.1", "2001:db8::1", "127.0.0.1"],
        ),
        ("192.0.2.0/24", ["192.0.2.7"], ["192.0.3.7"]),
    ],
)
def test_words_stand_for_networks(word: str, inside: list[str], outside: list[str]) -> None:
    assert all(admitted((word,), address) for address in inside)
    assert not any(admitted((word,), address) for address in outside)


@pytest.mark.parametrize(
    ("host", "port", "listen", "ours"),
    [
        ("127.0.0.1", 53, "127.0.0.1:53", True),
        ("::1", 53, "[0:0::1]:53", True),
        ("::ffff:127.0.0.1", 53, "127.0.0.1:53", True),
        ("127.0.0.1", 5353, "127.0.0.1:53", False),
        ("127.0.0.53", 53, "127.0.0.1:53", False),
        ("127.0.0.53", 53, "0.0.0.0:53", True),
        ("127.0.0.53", 53, "[::]:53", True),
        ("::1", 53, "[::]:53", True),
        ("127.0.0.53", 53, "0.0.0.0:5353", False),
        ("10.96.0.10", 53, "0.0.0.0:53", False),
        ("localhost", 53, "127.0.0.1:53", False),
    ],
)
def test_our_own_listener_is_recognised(host: str, port: int, listen: str, ours: bool) -> None:
    elsewhere = Address("192.0.2.1", 53)
    assert addresses.is_ours(host, port, [elsewhere, addresses.read_address(listen)]) is ours


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1:53", "127.0.0.1:53", True),
        ("127.0.0.1:53", "127.0.0.1:54", False),
        ("127.0.0.1:53", "127.0.0.2:53", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("0.0.0.0:53", "10.0.0.1:53", True),
        ("10.0.0.1:53", "0.0.0.0:53", True),
        ("[::]:53", "10.0.0.1:53", False),
        ("[::]:53", "[::1]:53", True),
    ],
)
def test_addresses_clash(one: str, other: str, clash: bool) -> None:
    assert addresses.clash(addresses.read_address(one), addresses.read_address(other)) is clash

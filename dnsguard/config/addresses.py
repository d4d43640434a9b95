"""Addresses, networks, names and upstream URLs, as settings spell them.

Every `read_…` raises `ValueError` whose message says what would be right. Host names are checked
for form only: `net.bootstrap` resolves them. Addresses come out in the one spelling of RFC 5952,
so that equal places compare equal; names come out in lower case without the final dot (RFC 4343),
the root as `.`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from dnsguard.core.policy import Transport, Upstream

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IP = ipaddress.IPv4Address | ipaddress.IPv6Address

AN_ADDRESS = "ADDR:PORT, such as 127.0.0.1:53 or [::1]:53"
AN_UPSTREAM = "an upstream, such as 10.96.0.10, [fd00::a]:53, tcp://10.96.0.10, tls://host:853#name"
A_NAME = (
    "a domain name: labels of 1 to 63 letters, digits, '-', '_' or '/', "
    "at most 253 characters (write other scripts in their xn-- form)"
)
A_NETWORK = "a network such as 10.0.0.0/8 or fd00::/8, or one of loopback, link-local, private"

NAME_MAX = 253  # RFC 1035 section 2.3.4: 255 octets on the wire, two of them lengths
PORT_MAX = 65535

_LABEL = re.compile(r"[a-z0-9_/-]{1,63}")  # '/' for RFC 2317 reverse zones, '_' for RFC 8552
_PORT = re.compile(r"[0-9]{1,5}")
_TRANSPORTS: dict[str, tuple[Transport, int]] = {
    "udp": ("udp", 53),
    "tcp": ("tcp", 53),
    "tls": ("tls", 853),  # RFC 7858 section 3.1
}

# What the words in `access.allow` stand for: RFC 1122 and 4291, RFC 3927 and 4291, RFC 1918 and
# 4193.
_WORDS = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}


class Address(NamedTuple):
    """A place to listen on. Port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _ip(text: str) -> IP:
    """An IPv4-mapped address is the IPv4 address: packets to it go to the same place."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _split(text: str, expected: str) -> tuple[str, str | None]:
    """Part host and port; brackets mark IPv6, a bare IPv6 address has no port (RFC 3986, 3.2.2)."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if ":" not in host or not closed or (rest and not rest.startswith(":")):
            raise ValueError(expected)
        return host, rest[1:] if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _port(text: str, lowest: int) -> int:
    port = int(text) if _PORT.fullmatch(text) else -1
    if not lowest <= port <= PORT_MAX:
        raise ValueError(f"a port from {lowest} to {PORT_MAX}")
    return port


def read_address(text: str) -> Address:
    """Where to listen: an address, never a name, since a name may come to mean another place."""
    host, port = _split(text, AN_ADDRESS)
    if port is None:
        raise ValueError(f"{AN_ADDRESS}; the port is missing")
    try:
        ip = _ip(host)
    except ValueError:
        raise ValueError(AN_ADDRESS) from None
    return Address(str(ip), _port(port, lowest=0))


def read_address_or_off(text: str) -> Address | None:
    """Where to listen, or None for `off`."""
    if text.lower() == "off":
        return None
    try:
        return read_address(text)
    except ValueError as error:
        raise ValueError(f"{error}; or off") from None


def show_address_or_off(address: Address | None) -> str:
    """The text that `read_address_or_off` reads."""
    return "off" if address is None else str(address)


def read_name(text: str) -> str:
    """A domain name in lower case without its final dot; `.` for the root."""
    name = text.lower() if text.isascii() else ""
    if name == ".":
        return name
    name = name.removesuffix(".")
    if len(name) > NAME_MAX or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(A_NAME)
    return name


def read_ip(text: str) -> str:
    """A plain address, in its one spelling."""
    try:
        found = _ip(text)
    except ValueError:
        raise ValueError("an address, such as 10.1.2.3 or fd00::1") from None
    if getattr(found, "scope_id", None):
        raise ValueError("an address without a zone, such as fd00::1: DNS carries no interface")
    return str(found)


def _host(text: str, expected: str = AN_UPSTREAM) -> str:
    """An address that can be sent to, or a host name."""
    try:
        ip = _ip(text)
    except ValueError:
        pass
    else:
        if ip.is_unspecified or ip.is_multicast or ip == ipaddress.IPv4Address(0xFFFFFFFF):
            raise ValueError(f"the address of one server; nothing answers at {ip}")
        return str(ip)
    try:
        name = read_name(text)
    except ValueError:
        name = "."
    # A last label of digits is a slip in an IPv4 address, not a name (RFC 1123 section 2.1).
    if name == "." or "/" in name or name.rpartition(".")[2].isdigit():
        raise ValueError(expected)
    return name


def read_server(text: str, default_port: int, expected: str) -> tuple[str, int]:
    """The host and port of a server to connect to; `expected` says what would be right."""
    host, port = _split(text, expected)
    return _host(host, expected), default_port if port is None else _port(port, lowest=1)


def read_server_name(text: str, expected: str) -> str:
    """The name, or address, that a server's certificate has to be for."""
    return _host(text, expected)


def read_upstream(text: str) -> Upstream:
    """A server to forward to. Without a scheme it is asked over UDP, and TCP on truncation."""
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "udp", text
    if scheme.lower() not in _TRANSPORTS:
        raise ValueError("an upstream over udp://, tcp:// or tls://")
    transport, default_port = _TRANSPORTS[scheme.lower()]
    rest, found, server_name = rest.partition("#")
    if found and transport != "tls":
        raise ValueError("no #name: only a tls:// upstream has a certificate to check")
    plain, port = _split(rest, AN_UPSTREAM)
    host = _host(plain)
    name: str | None = _host(server_name) if found else None
    if transport == "tls" and name is None and not is_ip(host):
        name = host  # bootstrap replaces the host by an address; the certificate still has the name
    return Upstream(host, default_port if port is None else _port(port, lowest=1), transport, name)


def read_network(text: str) -> str:
    """One of the words, or a network in its own spelling; a bare address is a network of one."""
    word = text.lower()
    if word in _WORDS:
        return word
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(A_NETWORK) from None
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(f"a network without host bits; {network} may be meant") from None


def own_networks(listen: Iterable[Address]) -> tuple[Network, ...]:
    """Each address that is listened at, as the network of who asks from there: the host itself.

    A host's own packets to an address of its own come from that address, which may be one of the
    cluster's Services and as such in any network. Loopback and wildcards say nothing of the host.
    """
    own = (_ip(place.host) for place in listen)
    return tuple(
        ipaddress.ip_network(ip) for ip in own if not (ip.is_loopback or ip.is_unspecified)
    )


def networks(words: Iterable[str]) -> tuple[Network, ...]:
    """The networks that words and networks of `access.allow` stand for."""
    return tuple(ipaddress.ip_network(text) for word in words for text in _WORDS.get(word, (word,)))


def is_ip(text: str) -> bool:
    """Whether the text is an address and not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_ours(host: str, port: int, listen: Iterable[Address]) -> bool:
    """Whether what is sent to `host` at `port` comes back to one of our own listeners.

    A wildcard listener answers at every loopback address. Names are not looked up here; a loop
    through one is found by the questions that come back.
    """
    if not is_ip(host):
        return False
    ip = _ip(host)
    for own in listen:
        here = _ip(own.host)
        if own.port == port and (here == ip or (here.is_unspecified and ip.is_loopback)):
            return True
    return False


def clash(one: Address, other: Address) -> bool:
    """Whether the same transport cannot be bound at both; port 0 never clashes."""
    if one.port != other.port or one.port == 0:
        return False
    here, there = _ip(one.host), _ip(other.host)
    wild = here.is_unspecified or there.is_unspecified
    return here == there or (wild and here.version == there.version)

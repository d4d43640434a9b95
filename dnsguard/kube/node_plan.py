"""What a node is to have in node-local mode: addresses, and who stands in for the resolver.

Pure: it reads no interface and runs no command. `link_local` are addresses that nobody else has,
which pods name in resolv.conf; `services` are addresses of cluster DNS itself, whose packets are
kept on the node as long as its resolver answers. `fallback` is where packets to the former go when
it does not; those to the latter need none, because kube-proxy knows the way.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dnsguard.errors import DnsguardError

INTERFACE = "dnsguard0"
LINK_LOCAL = "169.254.20.10"  # the address of NodeLocal DNSCache, which kubelets are set to
PORT = 53
INTERFACE_OCTETS_MAX = 15  # IFNAMSIZ of linux/if.h, less its final zero
# How long the kernel goes on sending packets to a resolver of which nobody has said for so long
# that it answers: three silent checks of a second, and one more for a busy machine.
LEASE_SECONDS = 4
# What the watcher's own questions are marked with, a DSCP for local use (RFC 2474 section 6), which
# anybody may set; so they need no address of their own. From 127.0.0.1 they would get no answer
# where kube-proxy runs in iptables mode, which drops what comes there from elsewhere and belongs to
# no connection that is tracked.
CHECK_DSCP = 0x2B

Family = Literal[4, 6]


class CannotPlan(DnsguardError):
    """Addresses that do not go together, with what would be right."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be on the node."""

    link_local: tuple[str, ...]
    services: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    interface: str = INTERFACE

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that the resolver listens at, those of the node first."""
        return self.link_local + self.services

    @property
    def families(self) -> tuple[Family, ...]:
        """The address families in use."""
        return tuple(sorted({family(address) for address in self.addresses}))

    def of(self, wanted: Family) -> Plan:
        """The same plan with the addresses of one family alone."""

        def those(addresses: Iterable[str]) -> tuple[str, ...]:
            return tuple(address for address in addresses if family(address) == wanted)

        return Plan(
            those(self.link_local), those(self.services), those(self.fallback), self.interface
        )

    @property
    def without_fallback(self) -> tuple[str, ...]:
        """The link-local addresses whose clients have nobody when the resolver is dead."""
        served = {family(address) for address in self.fallback}
        return tuple(address for address in self.link_local if family(address) not in served)


def family(address: str) -> Family:
    """4 or 6."""
    return 4 if ipaddress.ip_address(address).version == 4 else 6


def plan(
    link_local: Sequence[str],
    services: Sequence[str],
    upstreams: Sequence[tuple[str, int]],
    fallback: Sequence[str] = (),
    interface: str = INTERFACE,
) -> Plan:
    """Return the plan, or raise CannotPlan.

    `upstreams` are the servers that dnsguard itself asks, as address and port. Without `fallback`
    the first of them with port 53 in each family takes its place: it is what the resolver would
    have asked.
    """
    here = _read("--address", link_local)
    others = _read("--service-address", services)
    if not here and not others:
        raise CannotPlan("neither --address nor --service-address: there is nothing to listen at")
    twice = sorted(set(here) & set(others))
    if twice:
        raise CannotPlan(f"{', '.join(twice)} is given as --address and as --service-address")
    given = _read("--fallback", fallback)
    for version in (4, 6):
        for flag, addresses in (("--address", here), ("--fallback", given)):
            if sum(family(address) == version for address in addresses) > 1:
                raise CannotPlan(
                    f"more than one IPv{version} {flag}: what comes back from the fallback could "
                    "not be told apart. Give one; --service-address may be given more than once"
                )
    for host, _ in upstreams:
        if _spelled(host) in (*here, *others):
            raise CannotPlan(
                f"--upstream {host} is an address that this node answers for itself, so every "
                "question would come back. Give the resolver a way of its own: a second Service "
                "with the same pods behind it (the Helm chart makes dnsguard-upstream)"
            )
    for address in given:
        if address in (*here, *others):
            raise CannotPlan(f"--fallback {address} is an address that dnsguard itself takes")
    if not given:
        given = _first_of_each_family(
            [text for host, port in upstreams if port == PORT and (text := _spelled(host))]
        )
    return Plan(here, others, given, _interface(interface))


def _first_of_each_family(addresses: Iterable[str]) -> tuple[str, ...]:
    found: dict[Family, str] = {}
    for address in addresses:
        found.setdefault(family(address), address)
    return tuple(found.values())


def _spelled(text: str) -> str:
    """The one spelling of an address; empty for a host name."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _read(flag: str, texts: Sequence[str]) -> tuple[str, ...]:
    found = []
    for text in texts:
        spelled = _spelled(text)
        if not spelled or "%" in spelled:
            raise CannotPlan(f"{flag} {text}: an address, such as {LINK_LOCAL}")
        ip = ipaddress.ip_address(spelled)
        if ip.is_unspecified or ip.is_multicast or ip.is_loopback:
            raise CannotPlan(f"{flag} {text}: an address of one server that pods can ask")
        found.append(spelled)
    return tuple(dict.fromkeys(found))


def _interface(name: str) -> str:
    good = name.isascii() and name.isprintable() and not set(name) & set("/ :")
    if not good or not 0 < len(name) <= INTERFACE_OCTETS_MAX:
        raise CannotPlan(
            f"--interface {name!r}: 1 to {INTERFACE_OCTETS_MAX} letters and digits, or lo"
        )
    return name

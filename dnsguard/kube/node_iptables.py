"""The rules of node-local mode for iptables: those of NodeLocal DNSCache, with an end.

Pure. An address is dnsguard's as long as the list of `xt_recent` has heard of it within a few
seconds: see `--rcheck --seconds` in iptables-extensions(8). That list is written under /proc. What
iptables cannot do is to give packets another Service's address ahead of kube-proxy; so a fallback
of the link-local address is a DNAT, and has to be a server itself and not a Service.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import pairwise, product
from typing import NamedTuple

from dnsguard.kube.node_plan import CHECK_DSCP, LEASE_SECONDS, Family, Plan, family

COMMENT = "dnsguard"
Place = tuple[Family, str, str]  # a family, a table and a chain of it
_FAMILIES: tuple[Family, ...] = (4, 6)
_CHAINS = (
    ("raw", "PREROUTING"), ("raw", "OUTPUT"), ("filter", "INPUT"), ("filter", "OUTPUT"),
    ("nat", "PREROUTING"),
)  # fmt: skip
# Every chain that has rules of ours.
PLACES: tuple[Place, ...] = tuple(
    (version, *chain) for version, chain in product(_FAMILIES, _CHAINS)
)
LOCK_SECONDS = 5  # for the lock that all users of iptables share


class Rule(NamedTuple):
    """One rule: its table and chain, and what follows them."""

    family: Family
    table: str
    chain: str
    words: tuple[str, ...]

    def command(self, do: str) -> list[str]:
        """The command that does this (-I to insert it) with the rule."""
        return [
            _program(self.family),
            "-w",
            str(LOCK_SECONDS),
            "-t",
            self.table,
            do,
            self.chain,
            *self.words,
        ]


def lease_file(version: Family) -> str:
    """Where the addresses that are alive are written."""
    return f"/proc/net/xt_recent/{_list(version)}"


def rules(plan: Plan) -> list[Rule]:
    """Every rule, each to be inserted at the head of its chain."""
    return [rule for address in plan.addresses for rule in _of(address, plan)]


def show(version: Family, table: str, chain: str) -> list[str]:
    """The command that lists a chain's rules."""
    return [_program(version), "-w", str(LOCK_SECONDS), "-t", table, "-S", chain]


def is_ours(line: str) -> bool:
    """Whether a line of such a list is a rule of ours, whatever address it was made for."""
    return ("--comment", COMMENT) in pairwise(shlex.split(line))


def delete(version: Family, table: str, chain: str, number: int) -> list[str]:
    """The command that deletes a rule by its place in the chain, the first being 1."""
    return [_program(version), "-w", str(LOCK_SECONDS), "-t", table, "-D", chain, str(number)]


def _program(version: Family) -> str:
    return "iptables" if version == 4 else "ip6tables"


def _list(version: Family) -> str:
    return f"{COMMENT}{version}"


def _of(address: str, plan: Plan) -> Iterator[Rule]:
    version = family(address)
    here = f"{address}/{32 if version == 4 else 128}"
    note = ("-m", "comment", "--comment", COMMENT)
    alive = ("-m", "recent", "--name", _list(version), "--rdest", "--rcheck", "--seconds",
             str(LEASE_SECONDS))  # fmt: skip
    for protocol in ("udp", "tcp"):
        asked = ("-d", here, "-p", protocol, "--dport", "53")
        told = ("-s", here, "-p", protocol, "--sport", "53")
        watched = (*asked, "-m", "dscp", "--dscp", f"{CHECK_DSCP:#x}")
        yield Rule(version, "raw", "PREROUTING", (*asked, *alive, *note, "-j", "NOTRACK"))
        yield Rule(version, "raw", "OUTPUT", (*asked, *alive, *note, "-j", "NOTRACK"))
        yield Rule(version, "raw", "OUTPUT", (*told, *note, "-j", "NOTRACK"))
        yield Rule(version, "raw", "OUTPUT", (*watched, *note, "-j", "NOTRACK"))
        yield Rule(version, "filter", "INPUT", (*asked, *note, "-j", "ACCEPT"))
        yield Rule(version, "filter", "OUTPUT", (*told, *note, "-j", "ACCEPT"))
        if address in plan.link_local:
            for other in plan.of(version).fallback:
                to = (*asked, *note, "-j", "DNAT", "--to-destination", other)
                yield Rule(version, "nat", "PREROUTING", to)

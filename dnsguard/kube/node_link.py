"""Puts a node's addresses on an interface and takes them off again, by rtnetlink.

The interface is a dummy one, or where the kernel has none a bridge without ports, which holds
addresses as well. It bears an alias by which it is known as ours; one that was there before (`lo`)
gets addresses and is left otherwise. An address that another interface has is somebody else's.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
from typing import Any

from pyroute2 import AsyncIPRoute, NetlinkError

from dnsguard.errors import DnsguardError
from dnsguard.kube.node_plan import Plan, family

ALIAS = "dnsguard node"
KINDS = ("dummy", "bridge")
NO_DAD = (
    0x02  # IFA_F_NODAD: nobody else has the address, and nothing waits for that to be found out
)
UP = 1  # IFF_UP
IPVS = "kube-ipvs0"  # where kube-proxy's IPVS mode has the addresses of all Services


class CannotLink(DnsguardError):
    """The node's interface or addresses cannot be had."""


@dataclass
class _Seen:
    """What is on the node: links by name, and the link's name and width of each address."""

    links: dict[str, Any] = field(default_factory=dict)
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)


async def ensure(plan: Plan) -> list[str]:
    """Have the interface up with all addresses; return in words what was missing.

    Raises CannotLink.
    """
    done: list[str] = []
    try:
        async with AsyncIPRoute() as netlink:
            seen = await _look(netlink)
            _refuse(plan, seen)
            if plan.interface not in seen.links:
                done.append(await _make(netlink, plan.interface))
                seen = await _look(netlink)
            link = seen.links[plan.interface]
            if not link["flags"] & UP:
                await netlink.link("set", index=link["index"], state="up")
                done.append(f"{plan.interface} was down")
            for address in plan.addresses:
                if address not in seen.addresses:
                    await _add(netlink, link["index"], address)
                    done.append(f"address {address}")
    except NetlinkError as error:
        raise CannotLink(_why(error, plan.interface)) from None
    except OSError as error:
        raise CannotLink(f"rtnetlink: {error.strerror or error}") from None
    return done


async def remove(plan: Plan) -> list[str]:
    """Take the addresses off, and the interface if it is ours; return in words what was there."""
    done = []
    try:
        async with AsyncIPRoute() as netlink:
            seen = await _look(netlink)
            link = seen.links.get(plan.interface)
            if link is None:
                return []
            if link.get("ifalias") == ALIAS:
                await netlink.link("del", index=link["index"])
                return [f"interface {plan.interface}"]
            for address in plan.addresses:
                where, width = seen.addresses.get(address, ("", 0))
                if where == plan.interface:
                    await netlink.addr("del", index=link["index"], address=address, prefixlen=width)
                    done.append(f"address {address}")
    except NetlinkError as error:
        raise CannotLink(_why(error, plan.interface)) from None
    except OSError as error:
        raise CannotLink(f"rtnetlink: {error.strerror or error}") from None
    return done


async def _look(netlink: AsyncIPRoute) -> _Seen:
    seen = _Seen()
    names: dict[int, str] = {}
    async for link in await netlink.link("dump"):
        names[link["index"]] = link.get("ifname")
        seen.links[link.get("ifname")] = link
    async for found in await netlink.addr("dump"):
        address = found.get("local") or found.get("address")
        if address is not None:
            seen.addresses[address] = names.get(found["index"], "?"), found["prefixlen"]
    return seen


def _refuse(plan: Plan, seen: _Seen) -> None:
    """Raise CannotLink for what would not work, or would take what another has."""
    if IPVS in seen.links and plan.services:
        raise CannotLink(
            f"kube-proxy runs in IPVS mode here ({IPVS} is there), which takes packets to Services "
            "wherever they are addressed: leave out --service-address, and have kubelets name the "
            "link-local address (--cluster-dns)"
        )
    for address in plan.addresses:
        where, _ = seen.addresses.get(address, (plan.interface, 0))
        if where != plan.interface:
            other = "NodeLocal DNSCache has it" if where == "nodelocaldns" else "another has it"
            raise CannotLink(
                f"{address} is on interface {where} already: {other}. Take it away there, or "
                "choose another address"
            )


async def _make(netlink: AsyncIPRoute, name: str) -> str:
    for kind in KINDS:
        try:
            await netlink.link("add", ifname=name, kind=kind)
        except NetlinkError as error:
            if error.code != errno.EOPNOTSUPP:
                raise
            continue
        (index,) = await netlink.link_lookup(ifname=name)
        await netlink.link("set", index=index, state="up", ifalias=ALIAS)
        return f"interface {name} ({kind})"
    raise CannotLink(
        f"this kernel has neither {' nor '.join(KINDS)} interfaces: use one that is there, "
        "with --interface lo"
    )


async def _add(netlink: AsyncIPRoute, index: int, address: str) -> None:
    six = family(address) == 6
    more = {"flags": NO_DAD} if six else {}
    try:
        await netlink.addr(
            "add", index=index, address=address, prefixlen=128 if six else 32,
            family=socket.AF_INET6 if six else socket.AF_INET, **more,
        )  # fmt: skip
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _why(error: NetlinkError, interface: str) -> str:
    if error.code == errno.EPERM:
        return (
            "the node's addresses need the capability NET_ADMIN, which this process does not have"
        )
    return f"interface {interface}: {error.args[-1] if error.args else error}"

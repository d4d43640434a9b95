"""Upstreams named by host name become addresses, once, at start.

The names are asked of the system's resolvers directly, by aiodns (c-ares), and never through
ourselves: in a pod whose resolv.conf points here, getaddrinfo would be a loop. Addresses that are
literals already pass through untouched, and then nothing is imported or asked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from collections.abc import Callable, Sequence

from dnsguard.core.policy import Policy, Upstream, Zone
from dnsguard.errors import UpstreamError

TRIES = 3
TRY_SECONDS = 3.0
PAUSE_SECONDS = 1.0


def is_literal(host: str) -> bool:
    """Tell whether `host` is an address and not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def resolve_upstreams(
    policy: Policy, resolvers: Sequence[str], waiting: Callable[[str], None]
) -> Policy:
    """Return `policy` with every upstream's host as an address.

    `resolvers` are the addresses to ask; `waiting` is told before each further try. Raises
    `UpstreamError` if a name cannot be resolved.
    """
    names = {u.host for z in policy.zones for u in z.upstreams if not is_literal(u.host)}
    if not names:
        return policy
    if not resolvers:
        raise UpstreamError(
            f"upstream {min(names)} is a name, and resolv.conf lists no other resolver that "
            "could be asked for its address: give the upstream's address"
        )
    found = {name: await _resolve(name, resolvers, waiting) for name in sorted(names)}

    def addressed(upstream: Upstream) -> Upstream:
        host = found.get(upstream.host)
        if host is None:
            return upstream
        name = upstream.server_name or (upstream.host if upstream.transport == "tls" else None)
        return dataclasses.replace(upstream, host=host, server_name=name)

    def rezoned(zone: Zone) -> Zone:
        return dataclasses.replace(zone, upstreams=tuple(addressed(u) for u in zone.upstreams))

    return dataclasses.replace(policy, zones=tuple(rezoned(z) for z in policy.zones))


async def _resolve(name: str, resolvers: Sequence[str], waiting: Callable[[str], None]) -> str:
    """Return the first address of `name`, IPv4 before IPv6."""
    import aiodns

    error = "no address"
    for attempt in range(TRIES):
        resolver = aiodns.DNSResolver(nameservers=list(resolvers), timeout=TRY_SECONDS, tries=1)
        try:
            for qtype in ("A", "AAAA"):
                try:
                    result = await resolver.query_dns(name, qtype)
                except aiodns.error.DNSError as failure:
                    error = str(failure.args[-1])
                    continue
                for record in result.answer:
                    address = getattr(record.data, "addr", None)
                    if address:
                        return str(address)
        finally:
            await resolver.close()
        if attempt + 1 < TRIES:
            waiting(f"upstream {name} cannot be resolved yet ({error}); trying again")
            await asyncio.sleep(PAUSE_SECONDS)
    raise UpstreamError(
        f"upstream {name} cannot be resolved by {', '.join(resolvers)}: {error}. "
        "Give its address, or mend the resolver"
    )

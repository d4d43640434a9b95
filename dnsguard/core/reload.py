"""New settings while the engine runs: what is remembered stays, what is obeyed is new.

Zones are built anew; upstreams that are in the old settings and in the new ones keep their health,
and zones of the same name their state. Every flight and every entry goes to the zone that its name
belongs to now, whose bounds hold for it from here on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsguard.core.answering import PACKETS_SHARE
from dnsguard.core.pins import pins_of
from dnsguard.core.policy import Policy
from dnsguard.core.schema import schema_of
from dnsguard.core.zones import build_zones

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine


def obey(engine: Engine, policy: Policy, now: float) -> None:
    """Have the engine follow another policy from now on."""
    if engine.drill is not None:
        engine.drill.end("the settings have changed", now)
    servers = {s.upstream: s for zone in engine.zones.all for s in zone.servers}
    for server in servers.values():
        server.zones = []
        server.dress.until = now  # it may be another from now on
    before = {zone.name: zone for zone in engine.zones.all}
    engine.policy = policy
    engine.asking.obey(policy)
    engine.prefetches = policy.prefetch.fraction > 0
    engine.zones = build_zones(policy, now, servers)
    for zone in engine.zones.all:
        if zone.name in before:
            zone.inherit(before[zone.name])
            if zone.guard.doubt and zone.guard.policy.mode != "enforce":
                engine.guarding.doubting.release(zone, now)
        zone.review(now)
    engine.schema = schema_of(policy.kubernetes, engine.cache.index)
    engine.autopath.obey(policy.kubernetes)
    engine.pins.obey(pins_of(policy))
    engine.answering.forget()
    for entry in engine.cache.index.values():
        entry.move(engine.zones.find(entry.key))
    engine.sending.move(engine.zones.find, now)
    engine.failures.clear()  # the new settings may be what mends them
    engine.cache.resize(int(policy.cache.max_bytes * (1 - PACKETS_SHARE)), now)
    engine.refreshing.obey(policy, now)

"""The rules of node-local mode as text for `nft -f -`: one table `dnsguard` for each family.

Pure. While an address stands in the set `alive`, packets to it bypass connection tracking and so
kube-proxy's translation, and reach the resolver. What stands there ends by itself after a few
seconds (`timeout`), so a watcher that is killed cannot leave packets to a dead resolver behind.
Without it, packets to the Service go where kube-proxy sends them, and those to the link-local
address get the fallback's address before connection tracking sees them, so that kube-proxy
translates them as any packet to a Service (a DNAT of our own would be the only one that a
connection gets). The set `astray` remembers who asked in that way, whose replies are to come from
the address that was asked. See nft(8) and netfilter's priorities: raw is -300, connection tracking
-200, source translation 100.
"""

from __future__ import annotations

from dnsguard.kube.node_plan import CHECK_DSCP, LEASE_SECONDS, Family, Plan

TABLE = "dnsguard"
# A table of its own, since a watcher asks before the rules are its own to replace.
WATCH_TABLE = "dnsguard_watch"
ALIVE = "alive"
ASTRAY_MAX = 65536  # clients that are remembered at a time: a port each
ASTRAY_SECONDS = 30  # the kernel's own patience with a UDP flow
RAW = -300
BEFORE_SOURCES, AFTER_SOURCES = 90, 110  # around netfilter's source translation at 100
_DNS = "meta l4proto { tcp, udp } th"
_CLIENT = "meta l4proto . th"


def install(plan: Plan, alive: bool) -> str:
    """The whole rule set in place of what is there, in one transaction."""
    return "".join(_table(plan.of(version), version, alive) for version in plan.families)


def prepare(plan: Plan) -> str:
    """What lets a watcher ask: its questions, by their mark, bypass kube-proxy's translation."""
    text = ""
    for version in plan.families:
        ip = _ip(version)
        ours = f"{{ {', '.join(plan.of(version).addresses)} }}"
        where = _where(version, WATCH_TABLE)
        text += f"add table {where}\ndelete table {where}\ntable {where} {{\n" + _chain(
            "questions", "filter", "output", RAW, [
                f"{ip} dscp {CHECK_DSCP:#x} {ip} daddr {ours} {_DNS} dport 53 notrack",
                f"{ip} saddr {ours} {ip} daddr {ours} {_DNS} sport 53 notrack",
            ]
        ) + "}\n"  # fmt: skip
    return text


def hold(plan: Plan) -> str:
    """Say that the resolver answers; it holds for LEASE_SECONDS."""
    return "".join(
        f"flush set {_where(version)} {ALIVE}\n"
        f"add element {_where(version)} {ALIVE} {{ {_leases(plan.of(version))} }}\n"
        for version in plan.families
    )


def lapse(plan: Plan) -> str:
    """Say that it does not."""
    return "".join(f"flush set {_where(version)} {ALIVE}\n" for version in plan.families)


def remove(families: tuple[Family, ...] = (4, 6)) -> str:
    """Take away the tables, whether they are there or not."""
    return "".join(
        f"add table {_where(version, table)}\ndelete table {_where(version, table)}\n"
        for version in families
        for table in (TABLE, WATCH_TABLE)
    )


def listing(version: Family) -> tuple[str, ...]:
    """The arguments that show the table of a family, without what its sets hold."""
    return ("-s", "-t", "list", "table", *_where(version).split())


def _where(version: Family, table: str = TABLE) -> str:
    return f"{_ip(version)} {table}"


def _ip(version: Family) -> str:
    return "ip" if version == 4 else "ip6"


def _leases(plan: Plan) -> str:
    return ", ".join(f"{address} timeout {LEASE_SECONDS}s" for address in plan.addresses)


def _table(plan: Plan, version: Family, alive: bool) -> str:
    ip, kind = _ip(version), "ipv4_addr" if version == 4 else "ipv6_addr"
    ours = f"{{ {', '.join(plan.addresses)} }}"
    elements = f"; elements = {{ {_leases(plan)} }}" if alive else ""
    kept = f"{ip} daddr @{ALIVE} {_DNS} dport 53 notrack accept"
    # What comes from the node itself has been seen on its way out.
    inwards = ["iif lo accept", kept]
    outwards = [
        f"{ip} saddr {ours} {_DNS} sport 53 notrack accept",
        # The watcher's own questions are for the resolver, whatever is believed of it.
        f"{ip} dscp {CHECK_DSCP:#x} {ip} daddr {ours} {_DNS} dport 53 notrack accept",
        kept,
    ]
    chains = ""
    for address, fallback in zip(plan.link_local, plan.fallback, strict=False):
        away = (
            f"{ip} daddr {address} {_DNS} dport 53 update @astray "
            f"{{ {ip} saddr . {_CLIENT} sport }} {ip} daddr set {fallback}"
        )
        back = (
            f"{ip} saddr {fallback} {_DNS} sport 53 {ip} daddr . {_CLIENT} dport @astray "
            f"{ip} saddr set {address}"
        )
        inwards, outwards = [*inwards, away], [*outwards, away]
        chains += _chain("to_pods", "filter", "postrouting", AFTER_SOURCES, [back])
        chains += _chain("to_host", "filter", "input", AFTER_SOURCES, [back])
        # Who asks on the node itself did so from the link-local address, which no other node knows.
        chains += _chain("sources", "nat", "postrouting", BEFORE_SOURCES, [
            f"{ip} saddr {address} {_DNS} dport 53 masquerade"
        ])  # fmt: skip
    return (
        f"add table {_where(version)}\ndelete table {_where(version)}\n"
        f"table {_where(version)} {{\n"
        f"  set {ALIVE} {{ type {kind}; flags timeout{elements}; }}\n"
        f"  set astray {{ type {kind} . inet_proto . inet_service; size {ASTRAY_MAX}; "
        f"flags dynamic,timeout; timeout {ASTRAY_SECONDS}s; }}\n"
        + _chain("from_pods", "filter", "prerouting", RAW, inwards)
        + _chain("from_host", "route", "output", RAW, outwards)
        + chains
        + "}\n"
    )


def _chain(name: str, kind: str, hook: str, priority: int, rules: list[str]) -> str:
    lines = "".join(f"    {rule}\n" for rule in rules)
    head = f"type {kind} hook {hook} priority {priority}; policy accept;"
    return f"  chain {name} {{\n    {head}\n{lines}  }}\n"

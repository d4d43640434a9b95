"""The result of a load as text for people and as JSON for programs.

Text has one fact a line and says what a number is out of; JSON has every number, the latency
histogram and the time line. Knows no terminal and draws nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dnsguard.bench.conduct import Ceiling, Outcome
from dnsguard.bench.load import Load
from dnsguard.bench.meter import POINTS, Measured
from dnsguard.bench.usage import Usage

MIB = 1 << 20
# The generator that works for so much of its time may be what held the load back.
BUSY = 0.9
LATE_US = 1000  # at the 99th percentile: queries that left so late blur the latencies


def title(load: Load) -> str:
    """What is done, in one line."""
    pace = "flat out" if load.qps is None else f"at {load.qps:,g} qps"
    most = f", {load.limit:,} outstanding" if load.outstanding or load.qps is None else ""
    sockets = f"{load.connections} {'connection' if load.tcp else 'socket'}"
    sockets += "s" if load.connections > 1 else ""
    return (
        f"{load.server} over {load.transport}: {load.names}, {pace}{most}, {sockets}, "
        f"{load.duration:g} s after {load.warmup:g} s of warm-up"
    )


def as_text(outcome: Outcome) -> str:
    """The whole result."""
    load, measured = outcome.load, outcome.measured
    rows = [
        ("sent", f"{measured.sent:,} queries in {measured.seconds:.2f} s"),
        ("answered", f"{measured.answered:,}, {measured.qps:,.0f} a second"),
        ("lost", _lost(load, measured)),
        ("rcodes", _rcodes(measured)),
        ("latency", _points(measured.latency_us)),
    ]
    if load.qps is not None:
        rows.append(("sent late", _points(measured.late_us)))
    if outcome.usage:
        rows += _server(outcome.usage, measured)
    rows.append(("generator", _generator(measured)))
    if outcome.ceiling:
        rows.append(("ceiling", _ceiling(outcome.ceiling, measured)))
    lines = [title(load), "", *(f"{name:<10} {text}" for name, text in rows)]
    notes = [*outcome.notes, *observations(load, measured)]
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def observations(load: Load, measured: Measured) -> list[str]:
    """What the reader of the numbers should know besides."""
    found = []
    if measured.interrupted:
        found.append("Interrupted: these are the numbers until then.")
    if measured.unsent:
        found.append(
            f"{measured.unsent:,} queries were due and never left: "
            + ("the limit of outstanding queries was reached, or " if load.outstanding else "")
            + "the generator could not keep up."
        )
    if measured.late_us.get("p99", 0) > LATE_US:
        found.append("Queries left late: part of the latencies is the generator's, or its limit's.")
    if measured.dropped_here:
        found.append(
            f"{measured.dropped_here:,} answers found no room in the generator's sockets and count "
            "as lost: raise net.core.rmem_max, or --connections."
        )
    if measured.strays:
        found.append(f"{measured.strays:,} answers came that nobody waited for: late or doubled.")
    if measured.refused:
        found.append(f"The server's port was closed {measured.refused:,} times (ICMP).")
    if measured.reconnects:
        found.append(f"The server closed connections; {measured.reconnects:,} were opened again.")
    if measured.truncated:
        found.append(f"{measured.truncated:,} answers were truncated (TC).")
    if measured.not_replies:
        found.append(f"{measured.not_replies:,} answers did not have the QR bit: an echo?")
    return found


def as_json(outcome: Outcome) -> bytes:
    """Every number there is."""
    measured, usage = outcome.measured, outcome.usage
    found: dict[str, Any] = msgspec.to_builtins(outcome)
    answers = max(measured.answered, 1)
    if usage:
        found["usage"]["user_us_per_query"] = 1e6 * usage.user / answers
        found["usage"]["system_us_per_query"] = 1e6 * usage.system / answers
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def _lost(load: Load, measured: Measured) -> str:
    share = measured.lost / max(measured.sent, 1)
    return f"{measured.lost:,} ({share:.3%}) without an answer within {load.timeout:g} s"


def _rcodes(measured: Measured) -> str:
    total = max(sum(measured.rcodes.values()), 1)
    return (
        ", ".join(
            f"{name} {count:,} ({count / total:.2%})" for name, count in measured.rcodes.items()
        )
        or "none"
    )


def _points(points: dict[str, float]) -> str:
    if not points:
        return "none"
    return "  ".join(f"{name} {milliseconds(points[name])}" for name in POINTS) + "  ms"


def milliseconds(us: float) -> str:
    """Microseconds as milliseconds, three digits of them or so."""
    return f"{us / 1000:.3f}" if us < 10_000 else f"{us / 1000:.1f}"


def _server(usage: Usage, measured: Measured) -> list[tuple[str, str]]:
    answers = max(measured.answered, 1)
    user, system = 1e6 * usage.user / answers, 1e6 * usage.system / answers
    busy = (usage.user + usage.system) / max(usage.seconds, 1e-6)
    number = f" ({usage.processes} processes)" if usage.processes > 1 else ""
    cpu = f"{user + system:.2f} µs a query (user {user:.2f}, system {system:.2f})"
    return [
        ("server CPU", f"{cpu}, busy {busy:.0%} of one processor{number}"),
        ("memory", f"{usage.resident / MIB:.1f} MiB resident{number}"),
    ]


def _generator(measured: Measured) -> str:
    answers = max(measured.answered, 1)
    user, system = 1e6 * measured.cpu_user / answers, 1e6 * measured.cpu_system / answers
    busy = (measured.cpu_user + measured.cpu_system) / max(measured.seconds, 1e-6)
    text = f"{user + system:.2f} µs a query (user {user:.2f}, system {system:.2f}), busy {busy:.0%}"
    return text + (": near its own limit" if busy > BUSY else "")


def _ceiling(ceiling: Ceiling, measured: Measured) -> str:
    return (
        f"{ceiling.qps:,.0f} qps from a bare {ceiling.language} echo; this load came to "
        f"{measured.qps / ceiling.qps:.0%} of it"
    )

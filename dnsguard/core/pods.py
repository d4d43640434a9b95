"""Which answers are addresses of pods: these are reused soon, and may not live as long as others.

A Service has one address of each family for as long as it exists. A pod's goes to another pod
within minutes of its end, and a client that is sent there finds a stranger. What a cache can tell
by: the names of pods and of endpoints are theirs alone; a Service's own name with several addresses
is a headless Service's, and so is an SRV record that leads to an endpoint's name. What it cannot
tell: a headless Service with one pod looks like any other. A CNAME leads out of the cluster, to
addresses that are not its pods'.
"""

from __future__ import annotations

from dnsguard.core.wire import HEADER_OCTETS, RECORD, labels_before, read_name, skip_name

T_SRV = 33
ADDRESSES = (1, 28)
SVC, POD = b"svc", b"pod"
SERVICE_LABELS = 2  # service and namespace, before `svc`
SRV_FIXED = 6  # octets of an SRV record's data before its target


def of_pods(key: bytes, wire: bytes, domain: bytes) -> bool:
    """True if the positive answer in `wire` to the question in `key` is of pods under `domain`."""
    name, qtype = key[:-5], key[-5] << 8 | key[-4]
    before = labels_before(name, domain)
    if not before:
        return False
    start = skip_name(wire, HEADER_OCTETS + len(name) + 4)
    rtype, _, _, length = RECORD.unpack_from(wire, start)
    if rtype != qtype:
        return False  # a CNAME: whatever it leads to is no pod of this cluster
    if qtype in ADDRESSES:
        if before[-1] == POD:
            return True
        several = wire[6:8] != b"\0\1"
        return before[-1] == SVC and (len(before) > SERVICE_LABELS + 1 or several)
    if qtype != T_SRV or before[-1] != SVC:
        return False
    return length > SRV_FIXED and _is_endpoint(wire, start + RECORD.size + SRV_FIXED, domain)


def _is_endpoint(wire: bytes, position: int, domain: bytes) -> bool:
    before = labels_before(read_name(wire, position), domain)
    return len(before) > SERVICE_LABELS + 1 and before[-1] == SVC

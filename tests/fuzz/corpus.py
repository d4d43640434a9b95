"""What fuzzing begins with: messages as they come, and mutations that know how they are built.

A mutation keeps most of a message's structure and breaks one thing in it: a count, a length, a
label, a pointer, a type, an option. What a run has found that matters is added to `seeds`.
"""

from __future__ import annotations

import binascii
import json
import random
from collections.abc import Iterator
from typing import Any

import dns.edns
import dns.message
import dns.rrset

from dnsguard.cli.cache_text import zone_text
from tests.core.build import RDATA, answer_wire, query, soa

NAMES = ("www.example.", ".", "_http._tcp.web.cluster.local.", f"{'a' * 63}.example.", "x.y.z.")
BOUNDS = (0, 1, 2, 7, 11, 12, 63, 64, 127, 128, 191, 192, 193, 254, 255)
CONTROL: tuple[object, ...] = (
    {"verb": "do", "name": "www.example", "all": True, "seconds": 1.5, "names": ["a", "b"]},
    {"verb": "do"}, {"verb": "no"}, {"verb": 1}, [], "x", {"verb": "do", "seconds": 1e400},
)  # fmt: skip
SETTINGS = (
    "listen: [127.0.0.1:5353]\nzones:\n  .:\n    upstreams: [192.0.2.1, 'tls://[fd00::1]#x']\n",
    "stale: {max_age: 3d, mode: verify}\ncache.max_bytes: 64MiB\n",
    "zones.cluster.local.upstreams: tcp://192.0.2.1:53\nkeep_fresh: {names: [a.example, b]}\n",
    "a: &a [*a]\n", "? [x]\n: y\n", "limits: {inflight: 1e9}\n", "%YAML 1.1\n---\n...\n---\n",
)  # fmt: skip


def queries() -> list[bytes]:
    """Clients' messages."""
    options = (
        dns.edns.GenericOption(dns.edns.COOKIE, b"12345678"), dns.edns.ECSOption("192.0.2.0", 24),
        dns.edns.GenericOption(dns.edns.PADDING, bytes(20)), dns.edns.GenericOption("11", b""),
    )  # fmt: skip
    found = [query(name, kind) for name in NAMES for kind in ("A", "AAAA", "HTTPS", "ANY", "AXFR")]
    found += [query(name, edns=size, do=True) for name in NAMES for size in (0, 512, 1232, 65535)]
    found += [query("www.example.", edns=1232, options=options[: n + 1]) for n in range(4)]
    found += [query("version.bind.", "TXT", rdclass="CH"), query("www.example.", version=1)]
    return found


def answers() -> list[bytes]:
    """Upstreams' replies to `www.example. A`."""
    asked = query("www.example.", edns=1232)
    a, cname = "www.example. 60 IN A 192.0.2.1", "www.example. 60 IN CNAME web.example."
    soa_text = soa("example.", 300, 120)
    return [
        answer_wire(asked, a), answer_wire(asked, a, edns=None),
        answer_wire(asked, f"{cname}\nweb.example. 5 IN A 192.0.2.1"),
        answer_wire(asked, cname, authority=soa_text),
        answer_wire(asked, "", 3, authority=soa_text),
        answer_wire(asked, a, authority="example. 9 IN NS ns.example.\nexample. 8 IN NS a.example.",
                    additional="ns.example. 90000 IN A 192.0.2.53\nns.example. 7 IN AAAA ::1"),
        answer_wire(asked, "\n".join(f"www.example. {n} IN A 192.0.2.{n}" for n in range(1, 40))),
        answer_wire(asked, "", 0), answer_wire(asked, "www.example. 60 IN TXT \"a\" \"b\""),
    ]  # fmt: skip


def reviews() -> list[bytes]:
    """Admission reviews of pods of many shapes."""
    from tests.kube.pods import annotated, pod, review

    own = {"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}
    mounts = {"volumes": [{"name": "dnsguard-state", "emptyDir": {}}]}
    pods = [
        pod(), annotated({"dnsguard.io/inject": "enabled"}, **own), pod(**mounts),
        pod(hostNetwork=True), pod(dnsPolicy="Default"), pod(initContainers=[{"name": "init"}]),
        annotated({"dnsguard.io/inject": "disabled", "dnsguard.io/sidecar": "x"}),
        annotated({"dnsguard.io/upstream": "10.0.0.1"}),
    ]  # fmt: skip
    return [review(one) for one in pods]


def seeds(target: str) -> list[bytes]:
    """What a target begins with."""
    sections = [wire[6:12] + wire[12 + 17 :] for wire in answers()]
    if target in ("answer", "judged-answers"):
        return sections
    if target == "options":
        return [section[6:] for section in sections] + [q[29:] for q in queries() if len(q) > 29]
    if target == "names":
        return [wire[12:] for wire in queries()] + [b"\xc0\x0c", b"\1a\xc0\x0c", b"\1a\1b\xc0\x0e"]
    if target == "framing":
        return [len(q).to_bytes(2, "big") + q for q in queries()[:9]] + [b"\0\0\0\1a\0\5ab"]
    if target in ("stored", "kept"):
        return list(_stored(target))
    if target == "config":
        return [text.encode() for text in SETTINGS]
    if target == "review":
        return reviews()
    if target == "control":
        return [json.dumps(request).encode() + b"\n" for request in CONTROL]
    if target in ("graft", "cut", "walk", "drill"):
        return list(_led_elsewhere(target))
    if target == "http":
        return [f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for line in REQUESTS]
    if target in ("imported", "zone-file", "pins", "scenario", "resting"):
        return list(_files(target))
    return queries() + answers()


REQUESTS = (
    "GET /livez", "HEAD /readyz", "GET /metrics", "GET /api/v1/status", "POST /livez",
    "GET /api/v1/cache?name=www.example", "GET /api/v1/explain?name=%2E&type=aaaa",
    "GET /api/v1/explain?name=a\\.b.example.&type=TYPE65535", "GET //livez?x=%00#y", "GET x:[",
)  # fmt: skip


def _led_elsewhere(target: str) -> Iterator[bytes]:
    """For answers that become those to other questions: sections, with what comes before them."""
    if target == "drill":
        yield from (bytes((number, 0)) + wire for number in range(3) for wire in queries()[::5])
        return
    asked = query("www.example.", edns=None)
    a = "www.example. 60 IN A 192.0.2.1"
    every = [f"www.example. 60 IN {rtype} {data}" for rtype, data in RDATA.items()]
    wires = [*answers(), *(answer_wire(asked, a, authority=line) for line in every)]
    wires.append(answer_wire(asked, "www.example. 9 IN CNAME x.example.", authority=every[0]))
    for number, wire in enumerate(wires):
        sections = wire[6:12] + wire[12 + 17 :]
        before = {"graft": b"", "cut": b"\2", "walk": bytes((number & 15 | wire[3] % 4 << 4,))}
        yield before[target] + sections


def _files(target: str) -> Iterator[bytes]:
    key = b"\3www\7example\0\0\1\0\1\0"
    if target == "scenario":
        from dnsguard.sim.library import paths

        yield from sorted((path.read_bytes() for path in paths().values()), key=len)[:6]
    elif target == "pins":
        pin = {"name": "www.example", "addresses": ["192.0.2.1", "fd00::1"], "ttl": 5,
               "since": 1.0, "until": 4e9}  # fmt: skip
        yield json.dumps([pin, pin | {"name": "x."}]).encode()
    elif target == "resting":
        yield from _stored("stored")
    else:
        for wire in answers():
            row = {"name": "www.example.", "key": key.hex(), "stored": 4e9,
                   "wire": binascii.b2a_base64(wire, newline=False).decode()}  # fmt: skip
            yield json.dumps(row).encode() if target == "imported" else zone_text(row).encode()
        if target == "zone-file":
            yield b"\n".join(b"www.example. 60 IN %s %s" % (rtype.encode(), data.encode())
                             for rtype, data in RDATA.items())  # fmt: skip


def _stored(target: str) -> Iterator[bytes]:
    from dnsguard.store import rows

    key = b"\3www\7example\0\0\1\0\1\0"
    for wire in answers():
        if target == "kept":
            yield bytes((len(key) - 11,)) + key + wire
            continue
        row = rows.Row(key, b"\0\0" + wire[2:], False, b"\0", 0, bytes(16), 5.0, 1e9, 2e9)
        yield bytes((len(key),)) + key + rows.encode(row)[: -rows._SUM.size]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Break one thing or a few in a message."""
    if data[:1] == b"{" and chance.random() < 0.8:
        return _other_json(data, chance)
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(out)) if out else 0
        kind = chance.randrange(10)
        if kind == 0 and out:
            out[at] = chance.choice(BOUNDS)
        elif kind == 1 and out:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = chance.randbytes(chance.randrange(1, 12))
        elif kind == 4:
            out += out[at : at + chance.randrange(1, 64)]
        elif kind == 5 and len(out) > 12:  # a section's count
            where = chance.choice((4, 6, 8, 10))
            out[where : where + 2] = chance.choice((0, 1, 2, 255, 65535)).to_bytes(2, "big")
        elif kind == 6:  # a pointer, backwards or not
            out[at : at + 2] = (0xC000 | chance.randrange(max(len(out), 1) + 8)).to_bytes(2, "big")
        elif kind == 7:  # a length or a type
            out[at : at + 2] = chance.choice((0, 1, 5, 6, 41, 250, 65535)).to_bytes(2, "big")
        elif kind == 8 and out:
            other = chance.randrange(len(out))
            out[at : at + 8] = out[other : other + 8]
        else:
            del out[at : at + chance.randrange(1, 9)]
    return bytes(out)


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e400, 10**400, "", "x", "\ud800", "\0", "a" * 300, "10.96.0.53",
    "enabled", [], {}, [[]], [None], [{}], {"name": 1}, {"": {}}, [{"name": "dnsguard"}],
    {"dnsguard.io/inject": "enabled"},
)  # fmt: skip


def _other_json(data: bytes, chance: random.Random) -> bytes:
    """Put something else at one place of a document, or leave it out, or have it twice."""
    try:
        document = json.loads(data)
    except ValueError:
        return data[: chance.randrange(len(data))]
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = chance.choice(places)
        kind = chance.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, name = chance.choice(places)
            holder[key] = json.loads(json.dumps(other[name]))
        elif kind == 2 and isinstance(holder, list):
            holder.append(json.loads(json.dumps(holder[key])))
        else:
            holder[key] = json.loads(json.dumps(chance.choice(VALUES)))  # it may be changed next
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a document, as what holds it and where it is there."""
    open_ = [document]
    while open_:
        holder = open_.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                open_.append(holder[key])

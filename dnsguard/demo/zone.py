"""The zone of the embedded cluster DNS: what CoreDNS would say in a small Kubernetes cluster.

Services have one steady address. The pods behind headless Services are replaced every second, and
the last two octets of a pod's address are the second of its birth: whoever reads an answer sees how
old it is, without asking the server that gave it. Records are dnslib's; shapes follow the
Kubernetes DNS schema 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnslib import AAAA, CLASS, CNAME, QTYPE, RCODE, RR, SOA, SRV, A, DNSLabel, DNSRecord

DOMAIN = "cluster.local"
SERVICES = {
    "shop": ("web", "cart", "checkout", "search", "catalog", "prices", "reviews", "images"),
    "pay": ("gateway", "ledger", "fraud", "invoices", "refunds", "payouts"),
    "identity": ("login", "tokens", "accounts", "sessions", "consent"),
    "infra": ("metrics", "logs", "traces", "registry", "vault", "queue"),
    "kube-system": ("kube-dns", "metrics-server"),
    "default": ("kubernetes",),
}
HEADLESS = {  # Service in namespace data: how many pods
    "postgres": 3,
    "kafka": 4,
    "redis": 3,
    "etcd": 3,
    "search-nodes": 2,
}
NAMED_PORTS = {"postgres": ("_pg", 5432), "kafka": ("_broker", 9092), "redis": ("_redis", 6379)}
EXTERNAL = {  # ExternalName: where it points, and the address there (RFC 5737)
    f"cards.pay.svc.{DOMAIN}.": ("api.cards.example.", "192.0.2.10"),
    f"mail.infra.svc.{DOMAIN}.": ("smtp.mail.example.", "192.0.2.25"),
}
# Services have addresses in 10.96/16, the n-th pod of a Service in 10.(240+n)/16.
SERVICE_NET, POD_NET = 96, 240
SECONDS_WRAP = 1 << 16  # two octets of seconds: the ages are right for runs under 18 hours


@dataclass(frozen=True, slots=True)
class Question:
    """What the steady clients ask, and what a right answer looks like."""

    name: str
    qtype: str
    rcode: int = 0
    data: bool = True  # False: NODATA or NXDOMAIN


def questions() -> list[Question]:
    """Everything that clients ask, most popular first.

    Among them what search lists ask on the way: AAAA where there is none, and names that grow by a
    suffix and do not exist. Those must be answered as well, or the look-up fails.
    """
    services = [
        f"{name}.{namespace}.svc.{DOMAIN}."
        for namespace, names in SERVICES.items()
        for name in names
    ]
    steady = [Question(name, "A") for name in services]
    headless = [Question(f"{name}.data.svc.{DOMAIN}.", "A") for name in HEADLESS]
    others = [
        *(Question(name, "CNAME") for name in EXTERNAL),
        *(Question(_srv_name(name), "SRV") for name in NAMED_PORTS),
        *(Question(name, "AAAA", data=False) for name in services[::5]),
        *(Question(f"{name}shop.svc.{DOMAIN}.", "A", 3, False) for name in services[1:4]),
        *(
            Question(f"api.example.com.{suffix}.", "A", 3, False)
            for suffix in (f"svc.{DOMAIN}", DOMAIN)
        ),
    ]
    # Every kind among the popular ones, so that every second has some of each.
    order: list[Question] = []
    rows = (steady, headless, others)
    for turn in range(max(map(len, rows))):
        order += [row[turn] for row in rows if turn < len(row)]
    return order


def pod_address(pod: int, born: int) -> str:
    """The address of a Service's n-th pod that was born in second `born`."""
    second = born % SECONDS_WRAP
    return f"10.{POD_NET + pod}.{second >> 8}.{second & 0xFF}"


def age_of(address: str, now: float) -> float | None:
    """Seconds since the birth of the pod that has this address; None if it is no pod's."""
    octets = [int(octet) for octet in address.split(".")]
    if octets[0] != 10 or octets[1] < POD_NET:
        return None
    born = octets[2] << 8 | octets[3]
    return (now - born) % SECONDS_WRAP


def _srv_name(service: str) -> str:
    return f"{NAMED_PORTS[service][0]}._tcp.{service}.data.svc.{DOMAIN}."


class Zone:
    """All records, with one TTL; what depends on the time takes it as an argument."""

    def __init__(self, ttl: int) -> None:
        self.ttl = ttl
        self._addresses: dict[str, str] = {}
        self._pods: dict[str, int] = {}
        self._ports: dict[str, str] = {}
        number = 0
        for namespace, names in SERVICES.items():
            for name in names:
                number += 1
                label = f"{name}.{namespace}.svc.{DOMAIN}."
                self._addresses[label] = f"10.{SERVICE_NET}.{number >> 4}.{10 + number}"
        for name, count in HEADLESS.items():
            self._pods[f"{name}.data.svc.{DOMAIN}."] = count
        for name in NAMED_PORTS:
            self._ports[_srv_name(name)] = name

    def answer(self, query: DNSRecord, now: float) -> DNSRecord:
        """The reply to a query at `now`, which counts from the demo's epoch."""
        reply = query.reply(ra=0, aa=1)
        name, qtype = str(query.q.qname).lower(), query.q.qtype
        wanted = [qtype] if qtype != QTYPE.ANY else list(QTYPE.forward)
        known = self._fill(reply, name, wanted, int(now))
        if not reply.rr:
            reply.header.rcode = RCODE.NOERROR if known else RCODE.NXDOMAIN
            reply.add_auth(self._soa(query.q.qname))
        return reply

    def _fill(self, reply: DNSRecord, name: str, wanted: list[int], second: int) -> bool:
        """Add the answers; return whether the name exists at all."""
        if name in self._addresses:
            if QTYPE.A in wanted:
                self._add(reply, name, QTYPE.A, A(self._addresses[name]))
        elif name in self._pods:
            if QTYPE.A in wanted:
                for pod in range(self._pods[name]):
                    self._add(reply, name, QTYPE.A, A(pod_address(pod, second)))
        elif name in EXTERNAL:
            target, address = EXTERNAL[name]
            self._add(reply, name, QTYPE.CNAME, CNAME(target))
            if QTYPE.A in wanted:
                self._add(reply, target, QTYPE.A, A(address))
        elif name in self._ports:
            if QTYPE.SRV in wanted:
                self._fill_srv(reply, name, second)
        else:
            return self._pod(reply, name, wanted, second) or self._is_parent(name)
        return True

    def _fill_srv(self, reply: DNSRecord, name: str, second: int) -> None:
        service = self._ports[name]
        port = NAMED_PORTS[service][1]
        for pod in range(HEADLESS[service]):
            target = f"{service}-{pod}.{service}.data.svc.{DOMAIN}."
            self._add(reply, name, QTYPE.SRV, SRV(0, 100 // HEADLESS[service], port, target))
            extra = A(pod_address(pod, second))
            reply.add_ar(RR(target, QTYPE.A, CLASS.IN, self.ttl, extra))

    def _pod(self, reply: DNSRecord, name: str, wanted: list[int], second: int) -> bool:
        """A pod's own name: postgres-0.postgres.data.svc.cluster.local."""
        first, _, service = name.partition(".")
        stem, _, number = first.rpartition("-")
        count = self._pods.get(service, 0)
        if not (number.isdecimal() and int(number) < count and service.startswith(f"{stem}.")):
            return False
        if QTYPE.A in wanted:
            self._add(reply, name, QTYPE.A, A(pod_address(int(number), second)))
        return True

    def _is_parent(self, name: str) -> bool:
        """An empty name on the way to one that exists is NODATA, not NXDOMAIN (RFC 8020)."""
        names = (*self._addresses, *self._pods, *self._ports, *EXTERNAL)
        return any(known.endswith(f".{name}") for known in names)

    def _add(self, reply: DNSRecord, name: str, qtype: int, data: A | AAAA | CNAME | SRV) -> None:
        reply.add_answer(RR(name, qtype, CLASS.IN, self.ttl, data))

    def _soa(self, name: DNSLabel) -> RR:
        """The zone's own SOA; what is outside of it is denied by the root."""
        apex = f"{DOMAIN}." if str(name).lower().endswith(f"{DOMAIN}.") else "."
        times = (1, 7200, 1800, 86400, self.ttl)
        data = SOA(f"ns.dns.{DOMAIN}.", f"hostmaster.{DOMAIN}.", times)
        return RR(apex, QTYPE.SOA, CLASS.IN, self.ttl, data)

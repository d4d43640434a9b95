"""The settings that decisions depend on, as frozen values: `config` makes them, `core` obeys.

Nothing here reads a file or knows where a value came from; the reasons for the defaults stand
beside them. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Transport = Literal["udp", "tcp", "tls"]
SharedKind = Literal["single", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """One server that a zone's questions are forwarded to.

    `host` is an address once the server runs; before that it may be a name that `net.bootstrap`
    resolves. `server_name` is what a TLS certificate must carry (RFC 7858, strict profile).
    """

    host: str
    port: int = 53
    transport: Transport = "udp"
    server_name: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        plain = f"{host}:{self.port}"
        if self.transport == "udp":
            return plain
        name = f"#{self.server_name}" if self.server_name else ""
        return f"{self.transport}://{plain}{name}"


@dataclass(frozen=True, slots=True)
class StalePolicy:
    """When an answer past its TTL may still be served (RFC 8767)."""

    max_age: float = 3 * 86400.0  # RFC 8767 section 5: one to three days; Roblox 2021 took 73 h
    answer_ttl: int = 30  # RFC 8767 section 4: 30 s recommended; never above the original TTL
    client_timeout: float | None = None  # None: from the measured round trip
    recheck: float = 5.0  # how long a failed refresh is not tried again
    mode: Literal["verify", "immediate"] = "verify"
    headless_max_age: float = 86400.0  # of pods' addresses, which others get within minutes


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """When an upstream that denies good names is not believed (see `core.guard`)."""

    mode: Literal["enforce", "observe", "off"] = "enforce"
    second_look: bool = True
    # Long enough for every name of TTL 5 to be asked for twice, short against a rolling restart.
    window: float = 15.0
    mass_min: int = 5
    mass_fraction: float = 0.2  # a namespace in ten goes unremarked, a third of a cluster does not
    max_hold: float = 6 * 3600.0  # OpenAI 2024-12-11 took over four hours
    # An outside name that exists and has no address: DynamoDB 2025-10-20 took under three hours.
    hold_empty: float = 6 * 3600.0
    canaries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How much is remembered and for how long at the most."""

    max_bytes: int = 64 * 1024 * 1024
    max_ttl: int = 86400
    max_negative_ttl: int = 300


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """How an upstream is asked."""

    deadline: float = 4.0  # a cold name's whole life; stub resolvers give up after 5 s
    attempts: int = 3  # RFC 9520 section 3.1: no more than three packets a question and server
    policy: Literal["sequential", "fastest", "hedged"] = "sequential"
    case_randomization: bool = False
    cookies: bool = True  # RFC 7873; off for what stands behind something that drops them


@dataclass(frozen=True, slots=True)
class PrefetchPolicy:
    """Which answers are refreshed before they expire."""

    fraction: float = 0.1  # of the TTL, counted from its end
    min_hits: int = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Maxima that keep one client or one bad day from taking the process down."""

    inflight: int = 4096
    waiters_per_question: int = 1000
    tcp_connections: int = 1024
    tcp_idle: float = 10.0
    client_qps: int = 0  # 0: no limit


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """What is known of the cluster that the names belong to."""

    domain: str = "cluster.local"
    schema_negatives: bool = True
    namespace: str = ""  # the pod's own, the first of its search list; empty: not known
    autopath: bool = False


@dataclass(frozen=True, slots=True)
class SharedServer:
    """A way to a store that a fleet shares, as a `redis://` URL says it (`config.shared_url`)."""

    shown: str  # the URL without its secrets
    kind: SharedKind  # one server, what Sentinels call the master, or a cluster
    places: tuple[tuple[str, int], ...]  # of the server, of the Sentinels, of nodes to begin with
    user: str = ""
    password: str = field(default="", repr=False)
    service: str = ""  # what Sentinels know the server by
    database: int = 0
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""  # whom to trust; empty: whom the system trusts
    certificate_file: str = ""  # of this client, with its key
    key_file: str = ""
    check_name: bool = True
    server_name: str = ""  # in the certificate; empty: the place's own


@dataclass(frozen=True, slots=True)
class StorePolicy:
    """Where and how answers are kept through a restart. `dir` None: they are not."""

    dir: str | None = None
    flush_interval: float = 1.0  # what a kill may cost of what was learned last
    max_bytes: int = 64 * 1024 * 1024  # holds what `cache.max_bytes` of the same size holds
    shared: tuple[SharedServer, ...] = ()  # of several, the first that answers
    shared_prefix: str = "dnsguard"


@dataclass(frozen=True, slots=True)
class Zone:
    """One zone and the upstreams that answer for it; `name` is presentation form, `.` the root."""

    name: str
    upstreams: tuple[Upstream, ...]
    stale: StalePolicy = field(default_factory=StalePolicy)
    guard: GuardPolicy = field(default_factory=GuardPolicy)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that the engine needs to know about the operator's wishes."""

    zones: tuple[Zone, ...]
    cache: CachePolicy = field(default_factory=CachePolicy)
    ask: AskPolicy = field(default_factory=AskPolicy)
    prefetch: PrefetchPolicy = field(default_factory=PrefetchPolicy)
    limits: Limits = field(default_factory=Limits)
    keep_fresh: tuple[str, ...] = ()
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    pins: tuple[tuple[str, tuple[str, ...]], ...] = ()  # name and addresses

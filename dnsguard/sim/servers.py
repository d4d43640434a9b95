"""The other servers, as settings of the model in `caches`: each preset one server in one version.

The settings are those of benchmarks/peers: a server's own defaults, save that serving stale is on
and lasts three days everywhere. Beside each stands what is modelled and what is left out.
"""

from __future__ import annotations

from dataclasses import replace

from dnsguard.sim.caches import STALE_TTL, Caching
from dnsguard.sim.healths import UNBOUND_UNKNOWN

STALE_SECONDS = 259_200.0  # three days, RFC 8767 section 5's longest

# CoreDNS's cache and forward plugins. forward waits 2 s (read_timeout) until 5 s are over, and asks
# once when a server is known to be down; checks take 1 s and come every 0.5 s. cache: at most an
# hour, negatives half of it, everything for 5 s at the least (MinimalDefaultTTL), SERVFAIL 5 s. Of
# those who verify only the first waits, and with a pause after failures nobody does while it lasts
# (item.beginRefresh). In its favour: a question that several clients have at once goes upstream
# once in every mode with serve_stale (since 1.14.3 refreshes do), a closed port is found out
# without a spin. Its negative and positive caches are one here, which is what a refresh in the
# background makes of them (it removes the negative entry).
_COREDNS = Caching(
    name="coredns-immediate",
    version="1.14.7, a model",
    settings=f"serve_stale 72h immediate {STALE_TTL}s 5s",
    tries=(2.0, 2.0, 2.0),
    ttl_min=5,
    positive_max=3600,
    negative_max=1800,
    cluster_positive_max=3600,
    cluster_negative_max=1800,
    stale_seconds=STALE_SECONDS,
    recheck=5.0,
    health="coredns",
)

SERVERS = {
    server.name: server
    for server in (
        # NodeLocal DNSCache as its manifest has it: `success 9984 30`, `denial 9984 5` for the
        # cluster's zone and `cache 30` for the rest, no serve_stale, no coalescing of misses.
        Caching(
            name="node-cache",
            version="1.26.7, a model",
            settings="as shipped with Kubernetes: cache 30, denial 5 in the cluster, no stale",
            tries=(2.0, 2.0, 2.0),
            ttl_min=5,
            positive_max=30,
            negative_max=30,
            cluster_positive_max=30,
            cluster_negative_max=5,
            coalesces=False,
            health="coredns",
        ),
        # RFC 8767 as Unbound has it: a client waits 1.8 s, every time (since 1.22 not within 5 s of
        # a failure). A server that is silent is tried with doubling time-outs; from 12 s on only
        # one question at a time is spent on it, and all others fail, which is stale, at once. A
        # question is sent five times (outbound-msg-retry), after an error at once; that nobody
        # listens is not heard (recvfrom's errors are passed by). In its favour: such a server is
        # never given up for the rest of infra-host-ttl (unbound#282). Left out: that three lost
        # questions of each kind (A, AAAA, other) are spent before only one at a time is.
        Caching(
            name="unbound",
            version="1.17.1, a model",
            settings="serve-expired, client-timeout 1800, reply-ttl 30",
            tries=(UNBOUND_UNKNOWN,) * 5,  # but how long each waits is its health's affair
            stale_seconds=STALE_SECONDS,
            wait=1.8,
            health="unbound",
            insists=4,
            deaf=True,
        ),
        _COREDNS,
        replace(
            _COREDNS,
            name="coredns-verify",
            settings=f"serve_stale 72h verify 1800ms {STALE_TTL}s 5s",
            wait=1.8,
            one_waits=True,
        ),
        replace(
            _COREDNS,
            name="coredns-prefer-positive",
            settings=f"serve_stale 72h verify 1800ms {STALE_TTL}s 5s, prefer_positive",
            wait=1.8,
            one_waits=True,
            prefer_positive=True,
        ),
        # dnsmasq: stale at once; it repeats nothing itself and says nothing where it hears nothing
        # (a client's repeat makes it ask again), and forgets a question after 10 s (TIMEOUT). An
        # error it takes for a broken server's, and asks all of them once more (reply_query).
        Caching(
            name="dnsmasq",
            version="2.90, a model",
            settings="use-stale-cache=259200, cache-size raised from 150",
            tries=(10.0,),
            servfail_ttl=0.0,
            stale_seconds=STALE_SECONDS,
            stale_ttl=0,
            silent=True,
            insists=1,
        ),
    )
}

"""Scenarios of seconds, for tests on real sockets and for arithmetic."""

from __future__ import annotations

from pathlib import Path

from dnsguard.sim.scenario import Scenario, read

SHORT = """\
title: A second of silence
date: none
summary: a second of silence
known: nothing
assumed: all of it
sources: [https://example.com/]
names:
  {services: 6, headless: 2, pods: 2, external: 2, absent: 1,
   ttl: 1s, external_ttl: 1s, negative_ttl: 1s}
upstreams:
  dns: {median: 1ms, p99: 2ms}
clients: {count: 4, rate: 40, glibc: 1, musl: 0, go: 1, java: 0}
phases:
  - {name: well, for: 700ms, what: all is well}
  - name: silent
    for: 1300ms
    what: nobody answers
    outage: on
    does: [{upstream: dns, does: silent}]
  - {name: after, for: 1s, what: all is well again}
"""
LONG = """\
title: Two hours
date: 2024-12-11
summary: two hours
known: nothing
assumed: all of it
sources: [https://example.com/]
names:
  {services: 20, headless: 5, pods: 2, external: 4,
   ttl: 30s, external_ttl: 60s, negative_ttl: 5s, churn: 60s}
upstreams:
  dns: {replicas: 2, capacity: 1000, queue: 100}
clients: {count: 500, rate: 100, instances: 10}
phases:
  - {name: well, for: 30m, what: all is well}
  - name: ill
    for: 1h
    what: crashes
    outage: on
    does:
      - {upstream: dns, does: crashloop, every: 2m, up: 50%}
    events:
      - {at: 10m, do: create, names: services, share: 30%}
      - {at: 20m, do: delete, names: headless, share: 50%}
      - {at: 30m, do: roll, upstream: dns, for: 1m}
      - {at: 40m, do: kill}
  - {name: after, for: 30m, what: all is well again}
"""


def scenario(folder: Path, text: str = SHORT, name: str = "short") -> Scenario:
    return read(written(folder, text, name))


def written(folder: Path, text: str = SHORT, name: str = "short") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path

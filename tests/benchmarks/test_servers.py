"""The configurations that the benchmarks generate say what a fair and harmless run needs.

dnspython reads the zone as a second parser. The servers themselves are not started here.
"""

from __future__ import annotations

from pathlib import Path

import dns.zone

from benchmarks import servers


def test_zone_is_one_that_another_parser_accepts() -> None:
    text = servers.zone_text("cluster.local", {"a.default.svc": "10.0.0.1", "*": "10.0.0.9"}, 5, 7)
    zone = dns.zone.from_text(text, origin="cluster.local.")
    records = {str(name): (ttl, str(data)) for name, ttl, data in zone.iterate_rdatas("A")}
    assert records == {
        "ns.dns": (5, "127.0.0.1"),
        "a.default.svc": (5, "10.0.0.1"),
        "*": (5, "10.0.0.9"),
    }
    assert zone.get_soa().serial == 7


def test_nsd_stays_inside_its_directory(tmp_path: Path) -> None:
    text = servers.nsd_config(tmp_path, 5300, {"cluster.local": tmp_path / "cluster.zone"})
    settings = [line.strip() for line in text.splitlines()]
    for wanted in ("server-count: 1", "port: 5300", 'username: ""', 'chroot: ""', 'pidfile: ""'):
        assert wanted in settings
    assert "rrl-ratelimit: 0" in settings  # or NSD would drop the proxy's questions as a flood
    assert f'zonefile: "{tmp_path}/cluster.zone"' in settings

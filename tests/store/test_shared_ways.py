"""The ways to a shared store that a URL can say: over TLS, as a user, by Sentinels, to a cluster.

With real servers, as `make shared`. Certificates are those of `tests/net` and `tests/kube`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis.crc import key_slot

from dnsguard.config import shared_url
from dnsguard.store.shared_client import connect
from tests.net.asking import datagrams
from tests.net.running import HOST, on_a_loop, on_a_loop_for, serve
from tests.net.upstream import Upstream, address_of
from tests.store.fleet import NAMES, arguments, know, metric, teach
from tests.store.redis_server import Sentinel, Server, cluster, fleet, running, watched
from tests.store.test_serve import numbers

pytestmark = pytest.mark.shared

CERTIFICATES = Path(__file__).resolve().parents[1]
CA = str(CERTIFICATES / "net/certificates/ca.pem")
KEY = str(CERTIFICATES / "net/certificates/server.pem")  # for dns.test and 127.0.0.1
STRANGER = str(CERTIFICATES / "kube/certificates/first.pem")  # its own authority, and a key
PATIENT = 300.0  # Sentinels on a machine that starves them wait half a minute until they act


# -- TLS ----------------------------------------------------------------------------------------


@on_a_loop
async def test_over_tls_the_fleet_is_found(tmp_path: Path) -> None:
    server = Server(tmp_path, "--tls-auth-clients", "no", key=KEY, trusts=CA)
    async with Upstream() as upstream, running(server):
        url = f"{server.url}?ssl_ca_certs={CA}"
        assert url.startswith("rediss://127.0.0.1:")
        await teach(upstream, server, url)
        upstream.stop()
        async with serve(*arguments(upstream, url)) as node:
            await node.said(f"started with {len(NAMES)} answers of others")
            await know(node, NAMES)


@pytest.mark.parametrize(
    ("host", "more"),
    [
        (HOST, f"?ssl_ca_certs={STRANGER}"),  # another authority
        (HOST, ""),  # the system's authorities
        ("127.0.0.2", f"?ssl_ca_certs={CA}"),  # an address that the certificate is not for
        (HOST, f"?ssl_ca_certs={CA}#other.test"),  # a name that it is not for
    ],
)
@on_a_loop
async def test_who_cannot_show_the_certificate_gets_nothing(
    tmp_path: Path, host: str, more: str
) -> None:
    server = Server(tmp_path, "--tls-auth-clients", "no", host=host, key=KEY, trusts=CA)
    async with (
        Upstream() as upstream,
        running(server),
        serve(*arguments(upstream, server.url + more)) as node,
        datagrams(node.port) as client,
    ):
        line = await node.said("answers are not shared until it works")
        assert "certificate verify failed" in line
        assert (await client.resolve("www.test")).addresses == [address_of("www.test")]
        found = await numbers(node)
        assert found["shared_up"] == 0
        assert found['shared_errors_total{kind="tls"}'] >= 1
        assert server.client.dbsize() == 0


@pytest.mark.parametrize("more", ["#dns.test", "&ssl_check_hostname=false"])
@on_a_loop
async def test_a_certificate_for_a_name_serves_a_place_given_by_address(
    tmp_path: Path, more: str
) -> None:
    server = Server(tmp_path, "--tls-auth-clients", "no", host="127.0.0.2", key=KEY, trusts=CA)
    async with Upstream() as upstream, running(server):
        url = f"{server.url}?ssl_ca_certs={CA}{more}"
        async with serve(*arguments(upstream, url)) as node:
            await metric(node, "up", 1)


@on_a_loop
async def test_a_server_may_want_a_certificate_of_its_clients(tmp_path: Path) -> None:
    server = Server(tmp_path, "--tls-auth-clients", "yes", key=KEY, trusts=STRANGER)
    async with Upstream() as upstream, running(server):
        url = f"{server.url}?ssl_ca_certs={CA}"
        async with serve(*arguments(upstream, url)) as node:
            await node.said("answers are not shared until it works")
        url += f"&ssl_certfile={STRANGER}&ssl_keyfile={STRANGER}"
        async with serve(*arguments(upstream, url)) as node:
            await metric(node, "up", 1)


@on_a_loop
async def test_a_file_that_is_missing_is_said(tmp_path: Path) -> None:
    url = f"rediss://{HOST}:1?ssl_ca_certs={tmp_path}/none.pem"
    async with Upstream() as upstream, serve(*arguments(upstream, url)) as node:
        line = await node.said("answers are not shared until it works")
        assert "No such file" in line
        assert (await numbers(node))['shared_errors_total{kind="tls"}'] >= 1


# -- users --------------------------------------------------------------------------------------

RIGHTS = ("~dnsguard:*", "+ping", "+get", "+pttl", "+set", "+scan")  # as docs/settings.md says
CLUSTER_RIGHTS = ("+cluster|slots", "+command")


@on_a_loop
async def test_a_user_with_these_rights_and_no_others_is_enough(tmp_path: Path) -> None:
    async with Upstream() as upstream, fleet(tmp_path) as server:
        server.client.execute_command("ACL", "SETUSER", "guard", "on", ">p@ss/w:rd?#,%", *RIGHTS)
        url = f"redis://guard:p%40ss%2Fw%3Ard%3F%23,%25@{HOST}:{server.port}/0"
        await teach(upstream, server, url)
        upstream.stop()
        async with serve(*arguments(upstream, url)) as node:
            await node.said(f"started with {len(NAMES)} answers of others")
            await know(node, NAMES)
            assert not [line for line in node.lines if "w%3Ard" in line or "w:rd" in line]
            assert [key for key in await numbers(node) if "shared_errors" in key] == []


@on_a_loop
async def test_who_may_only_read_reads(tmp_path: Path) -> None:
    async with Upstream() as upstream, fleet(tmp_path) as server:
        await teach(upstream, server, server.url)
        some = [right for right in RIGHTS if right != "+set"]
        server.client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", *some)
        url = f"redis://reader:secret@{HOST}:{server.port}"
        async with serve(*arguments(upstream, url)) as node, datagrams(node.port) as client:
            await node.said(f"started with {len(NAMES)} answers of others")
            await client.resolve("more.test")
            line = await node.said("it is read, but answers are not written until it works")
            assert "more" not in line  # no name of a question in a log
            found = await numbers(node)
            assert found["shared_up"] == 1
            assert found['shared_errors_total{kind="refused"}'] >= 1
            upstream.stop()
            await know(node, NAMES)


@on_a_loop
async def test_a_server_that_is_full_is_read_and_written_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with Upstream() as upstream, fleet(tmp_path) as server:
        await teach(upstream, server, server.url)
        server.client.config_set("maxmemory", 1)
        async with serve(*arguments(upstream, server.url)) as node, datagrams(node.port) as client:
            await node.said(f"started with {len(NAMES)} answers of others")
            await client.resolve("more.test")
            await node.said("answers are not written until it works")
            found = await numbers(node)
            assert found["shared_up"] == 1
            assert found['shared_errors_total{kind="full"}'] >= 1
            assert found["shared_writes_total"] == 0
            server.client.config_set("maxmemory", 0)
            await server.holds(len(NAMES) + 1)
            await node.said("it takes answers again")


# -- Sentinel -----------------------------------------------------------------------------------


def by_sentinels(sentinels: Sequence[Sentinel], credentials: str = "") -> str:
    places = ",".join(f"{HOST}:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://{credentials}{places}/fleet"


@on_a_loop_for(PATIENT)
async def test_a_failover_in_the_middle_costs_no_answer(tmp_path: Path) -> None:
    async with Upstream() as upstream, watched(tmp_path) as (master, replica, sentinels):
        url = by_sentinels(sentinels)
        async with serve(*arguments(upstream, url)) as node, datagrams(node.port) as client:
            await metric(node, "up", 1)
            for name in NAMES[:15]:
                await client.resolve(name)
            await replica.holds(15)
            sentinels[0].freeze()  # a machine that is gone takes both with it
            master.kill()
            for name in NAMES[15:]:
                assert (await client.resolve(name)).addresses == [address_of(name)]
            await node.said("answers again")
            await replica.holds(len(NAMES))  # it is the master now
        upstream.stop()
        async with serve(*arguments(upstream, url)) as anew:
            await anew.said(f"started with {len(NAMES)} answers of others")
            await know(anew, NAMES)


@on_a_loop_for(PATIENT)
async def test_sentinels_may_want_a_password_of_their_own(tmp_path: Path) -> None:
    master = Server(tmp_path, "--requirepass", "inner")
    sentinel = Sentinel(tmp_path, master, "--requirepass", "outer")
    async with Upstream() as upstream, running(master, sentinel):
        sentinel.client.execute_command("SENTINEL", "SET", "fleet", "auth-pass", "inner")
        url = by_sentinels([sentinel], ":inner@")
        async with serve(*arguments(upstream, url)) as node:
            await node.said("answers are not shared until it works")
        async with serve(*arguments(upstream, f"{url}?sentinel_password=outer")) as node:
            await metric(node, "up", 1)
            assert not [line for line in node.lines if "inner" in line or "outer" in line]


@on_a_loop_for(PATIENT)
async def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    async with watched(tmp_path) as (_, _, sentinels):
        server = shared_url.read(by_sentinels(sentinels))
        open_before: list[int] = []
        for _ in range(4):
            client = await asyncio.to_thread(connect, server)
            await client.meet()
            await client.close()
            await asyncio.sleep(0)  # let what was closed go
            open_before.append(len(os.listdir("/proc/self/fd")))
        assert len(set(open_before[1:])) == 1, open_before


# -- Cluster ------------------------------------------------------------------------------------


def in_cluster(nodes: Sequence[Server], more: str = "") -> str:
    return f"redis+cluster://{','.join(f'{HOST}:{node.port}' for node in nodes)}{more}"


def all_keys(nodes: Sequence[Server]) -> list[bytes]:
    return [key for node in nodes for key in node.client.scan_iter()]


async def hold(nodes: Sequence[Server], count: int) -> None:
    """Wait until these nodes together hold so many answers."""
    while len(all_keys(nodes)) < count:  # noqa: ASYNC110 - they are other processes
        await asyncio.sleep(0.02)


@on_a_loop_for(PATIENT)
async def test_a_node_of_the_cluster_that_is_killed_takes_its_share_and_no_more(
    tmp_path: Path,
) -> None:
    async with (
        Upstream() as upstream,
        cluster(tmp_path, "--cluster-require-full-coverage", "no") as nodes,
    ):
        url = in_cluster(nodes)
        async with serve(*arguments(upstream, url)) as node, datagrams(node.port) as client:
            await metric(node, "up", 1)
            for name in NAMES:
                await client.resolve(name)
            await hold(nodes, len(NAMES))
            shares = [node.client.dbsize() for node in nodes]
            assert all(shares)
            nodes[2].kill()
            later = [f"later{number}.test" for number in range(30)]
            for name in later:
                assert (await client.resolve(name)).addresses == [address_of(name)]
            here = sum(shares[:2])
            known = all_keys(nodes[:2])
            await hold(nodes[:2], here + 1)  # what is theirs is written
            assert (await numbers(node))["shared_up"] == 1
            upstream.stop()
            async with serve(*arguments(upstream, url)) as anew:
                await anew.said("answers of others")
                left = [name for name in NAMES if any(in_key(name, key) for key in known)]
                assert len(left) == here
                await know(anew, left)
                async with datagrams(anew.port) as lost:
                    for name in set(NAMES) - set(left):
                        assert (await lost.resolve(name)).rcode == "SERVFAIL"
                assert (await numbers(anew))["shared_up"] == 1
            await asyncio.to_thread(nodes[2].start)
            await hold(nodes, here + len(later))  # what waited for it


def in_key(name: str, key: bytes) -> bool:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) in key


@on_a_loop_for(PATIENT)
async def test_a_replica_takes_the_place_of_a_node_that_is_killed(tmp_path: Path) -> None:
    async with Upstream() as upstream, cluster(tmp_path, replicas=1) as nodes:
        url = in_cluster(nodes[:3])
        first, replica = nodes[0], nodes[3]
        async with serve(*arguments(upstream, url)) as node, datagrams(node.port) as client:
            await metric(node, "up", 1)
            for name in NAMES:
                await client.resolve(name)
            await hold(nodes[:3], len(NAMES))
            await replica.holds(first.client.dbsize())
            first.kill()
            later = [f"later{number}.test" for number in range(30)]
            for name in later:
                assert (await client.resolve(name)).addresses == [address_of(name)]
            await hold(nodes[1:], len(NAMES) + len(later))
            assert {key_slot(key) * 3 // 16384 for key in replica.client.scan_iter()} == {0}
        upstream.stop()
        async with serve(*arguments(upstream, url)) as anew:
            await anew.said(f"started with {len(NAMES) + len(later)} answers of others")
            await know(anew, NAMES + later)


@on_a_loop_for(PATIENT)
async def test_a_cluster_that_refuses_everything_costs_no_answer(tmp_path: Path) -> None:
    """As it does by default when a share has nobody: the whole of it is down."""
    async with (
        Upstream() as upstream,
        cluster(tmp_path) as nodes,
        serve(*arguments(upstream, in_cluster(nodes))) as node,
        datagrams(node.port) as client,
    ):
        await metric(node, "up", 1)
        nodes[2].kill()
        number = 0
        while not [line for line in node.lines if "not shared until it works" in line]:
            number += 1
            name = f"n{number}.test"
            assert (await client.resolve(name)).addresses == [address_of(name)]
        await asyncio.to_thread(nodes[2].start)
        await node.said("answers again")


@on_a_loop_for(PATIENT)
async def test_a_cluster_over_tls_with_a_password(tmp_path: Path) -> None:
    words = ("--tls-auth-clients", "no", "--requirepass", "secret", "--masterauth", "secret")
    async with (
        Upstream() as upstream,  # the nodes are clients of each other as well
        cluster(tmp_path, *words, key=STRANGER, trusts=STRANGER) as nodes,
    ):
        places = ",".join(f"{HOST}:{node.port}" for node in nodes)
        url = f"rediss+cluster://:secret@{places}?ssl_ca_certs={STRANGER}"
        url += "#dnsguard-webhook.dnsguard.svc"
        async with serve(*arguments(upstream, url)) as node, datagrams(node.port) as client:
            await metric(node, "up", 1)
            for name in NAMES:
                await client.resolve(name)
            await hold(nodes, len(NAMES))
        for wrong in (url.replace(STRANGER, CA), url.replace("webhook", "other")):
            async with serve(*arguments(upstream, wrong)) as node:
                await node.said("certificate verify failed")
                assert (await numbers(node))['shared_errors_total{kind="tls"}'] >= 1


@on_a_loop_for(PATIENT)
async def test_a_user_of_a_cluster_needs_few_rights_more(tmp_path: Path) -> None:
    async with Upstream() as upstream, cluster(tmp_path) as nodes:
        for node in nodes:
            more = ("on", ">secret", *RIGHTS, *CLUSTER_RIGHTS)
            node.client.execute_command("ACL SETUSER", "guard", *more)
        url = in_cluster(nodes).replace("//", "//guard:secret@")
        async with serve(*arguments(upstream, url)) as one, datagrams(one.port) as client:
            await metric(one, "up", 1)
            for name in NAMES:
                await client.resolve(name)
            await hold(nodes, len(NAMES))
        upstream.stop()
        async with serve(*arguments(upstream, url)) as anew:
            await anew.said(f"started with {len(NAMES)} answers of others")
            await know(anew, NAMES)

"""Real `redis-server` processes of a test's own: one, with Sentinels above it, or as a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.net.running import HOST

PORT_MIN, PORT_MAX = 20_000, 32_000  # below those that the kernel gives to clients meanwhile
NODE_TIMEOUT_MS = 1000  # after which the nodes of a cluster think that one of them is gone
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody has, nor gets by chance before it is used or between two lives."""
    while True:
        port = random.randrange(PORT_MIN, PORT_MAX)
        if port in _given:
            continue  # for a server that has not started yet
        with contextlib.suppress(OSError), socket.socket() as taken:
            taken.bind((HOST, port))
            _given.add(port)
            return port


class Server:
    """One process. `more` are settings as on its command line.

    Over TLS `key` is the file with its certificate and key, `trusts` whose clients it lets in.
    """

    def __init__(
        self, root: Path, *more: str, host: str = HOST, key: str = "", trusts: str = ""
    ) -> None:
        self.host = host
        self.port = free_port()
        self.root = root / f"redis-{self.port}"
        self.root.mkdir(parents=True)
        self._more = more
        self._scheme = "rediss" if key else "redis"
        self._words = ["--bind", host, "--save", "", "--dir", str(self.root)]
        self._client: dict[str, Any] = {}
        if not key:
            self._words += ["--port", str(self.port)]
        else:
            self._words += ["--port", "0", "--tls-port", str(self.port), "--tls-cluster", "yes"]
            self._words += ["--tls-cert-file", key, "--tls-key-file", key]
            self._words += ["--tls-ca-cert-file", trusts]
            self._client |= {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        if "yes" in more[1:2]:  # of --tls-auth-clients
            self._client |= {"ssl_certfile": trusts, "ssl_keyfile": trusts}
        if "--requirepass" in more:
            self._client["password"] = more[more.index("--requirepass") + 1]

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}:{self.port}"

    def command(self) -> Sequence[str]:
        return ["redis-server", *self._words, *self._more]

    def start(self) -> None:
        """Start it and wait until it answers."""
        try:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            pytest.fail("redis-server is missing (Debian: apt-get install redis-server)")
        self.client: Any = Redis(host=self.host, port=self.port, **self._client)
        for _ in range(3000):
            try:
                self.client.ping()
                return
            except Exception:  # it is on its way
                time.sleep(0.01)
        pytest.fail("redis-server does not answer")

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a lost machine would."""
        self.client.close()
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    async def holds(self, count: int) -> None:
        """Wait until it holds so many answers."""
        while self.client.dbsize() < count:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)


class Sentinel(Server):
    """A process that looks after `master`, of which it takes two like it to say that it is gone."""

    def __init__(self, root: Path, master: Server, *more: str) -> None:
        super().__init__(root, *more)
        self._file = self.root / "sentinel.conf"  # Sentinel writes what it finds out into it
        self._file.write_text(
            f"port {self.port}\nbind {HOST}\ndir {self.root}\n"
            f"sentinel monitor fleet {HOST} {master.port} 2\n"
            "sentinel down-after-milliseconds fleet 1000\n"
            "sentinel failover-timeout fleet 3000\n"
        )

    def command(self) -> Sequence[str]:
        return ["redis-server", str(self._file), "--sentinel", *self._more]


@asynccontextmanager
async def running(*servers: Server) -> AsyncIterator[None]:
    """Have these run."""
    async with AsyncExitStack() as stack:
        for server in servers:
            await asyncio.to_thread(server.start)
            stack.push_async_callback(asyncio.to_thread, server.kill)
        yield


@asynccontextmanager
async def fleet(root: Path, *more: str) -> AsyncIterator[Server]:
    """Have one run."""
    server = Server(root, *more)
    async with running(server):
        yield server


@asynccontextmanager
async def watched(root: Path) -> AsyncIterator[tuple[Server, Server, list[Sentinel]]]:
    """Have a server, its replica and three Sentinels run, which know each other."""
    master = Server(root)
    replica = Server(root, "--replicaof", HOST, str(master.port))
    sentinels = [Sentinel(root, master) for _ in range(3)]
    async with running(master, replica, *sentinels):
        for sentinel in sentinels:
            while not knows(sentinel):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)
        yield master, replica, sentinels


def knows(sentinel: Sentinel) -> bool:
    state = sentinel.client.sentinel_masters().get("fleet", {})
    return bool(state.get("num-slaves") == 1 and state["num-other-sentinels"] == 2)


@asynccontextmanager
async def cluster(
    root: Path, *more: str, replicas: int = 0, key: str = "", trusts: str = ""
) -> AsyncIterator[list[Server]]:
    """Have three masters run that share all slots, and replicas of the first of them."""
    servers = []
    for _ in range(3 + replicas):
        bus = free_port()
        words = ("--cluster-enabled", "yes", "--cluster-port", str(bus), *more)
        words += ("--cluster-node-timeout", str(NODE_TIMEOUT_MS))
        servers.append((Server(root, *words, key=key, trusts=trusts), bus))
    nodes = [server for server, _ in servers]
    async with running(*nodes):
        for index, node in enumerate(nodes[:3]):
            first, last = 16384 * index // 3, 16384 * (index + 1) // 3 - 1
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        for server, bus in servers[1:]:
            nodes[0].client.execute_command("CLUSTER MEET", HOST, server.port, bus)
        await until_all(nodes, f"cluster_known_nodes:{len(nodes)}", "cluster_state:ok")
        name = nodes[0].client.execute_command("CLUSTER MYID")
        for replica in nodes[3:]:
            replica.client.execute_command("CLUSTER REPLICATE", name)
            while replica.client.info("replication")["master_link_status"] != "up":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield nodes


async def until_all(nodes: Sequence[Server], *words: str) -> None:
    """Wait until each of them says these words of the cluster."""
    for node in nodes:
        while not all(word in state(node) for word in words):  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.05)


def state(node: Server) -> str:
    found = node.client.execute_command("CLUSTER INFO")
    if isinstance(found, dict):
        return "\n".join(f"{key}:{value}" for key, value in found.items())
    return str(found if isinstance(found, str) else found.decode())

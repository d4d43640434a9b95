"""What `shared` asks of a Redis or Valkey server, of one that Sentinels know, or of a cluster.

The client library is loaded here and nowhere else, and only if the setting asks for it. A value
that the server refuses to give or to take comes back as an exception in that value's place; what is
raised means that nobody there answers. In a cluster each node is a server of its own: while one is
gone, its share of the answers is, and the others serve theirs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from dnsguard.core.policy import SharedServer
from dnsguard.errors import StoreError

CONNECT_SECONDS = 1.0  # for each place: with three Sentinels, two may be gone without a word
ANSWER_SECONDS = 2.0
MEET_SECONDS = 5.0
AWAY_SECONDS = 5.0  # a node that does not answer is left alone for so long
SCAN_COUNT = 256

Command = tuple[bytes | str | int, ...]  # the key comes second


class Client(Protocol):
    """Every kind of server, from the outside."""

    async def meet(self) -> None:
        """See that somebody answers; raises if not."""

    async def ask(self, commands: Sequence[Command], seconds: float) -> list[object]:
        """Return each command's reply, or what came instead; raises if there is none at all."""

    def names(self, prefix: bytes) -> AsyncIterator[bytes]:
        """Go through the keys that begin so; what means something in a pattern is not allowed."""

    async def close(self) -> None:
        """Let go of all connections."""


def connect(server: SharedServer) -> Client:
    """Return a client, not connected yet; slow (it loads the library), so call it on a thread."""
    try:
        import redis.asyncio as library
    except ImportError:
        text = "the package redis is missing: pip install 'dnsguard[shared]'"
        raise StoreError(text, "missing") from None
    context = _context(server) if server.tls else None
    if server.kind == "cluster":
        return _Cluster(library, server, context)
    return _Server(server, context)


def _context(server: SharedServer) -> ssl.SSLContext:
    """Whom to trust, read once and on this thread: on the loop it would hold up answers."""
    try:
        context = ssl.create_default_context(cafile=server.ca_file or None)
        context.check_hostname = server.check_name
        if server.certificate_file:
            context.load_cert_chain(server.certificate_file, server.key_file)
    except OSError as error:  # ssl.SSLError is one too
        text = f"the files of {server.shown} cannot be used: {error.strerror or error}"
        raise StoreError(text, "tls") from None
    return context


def _connection_class(base: type[Any], server: SharedServer, context: ssl.SSLContext) -> type[Any]:
    """`base` over TLS: with our context, and for a name that is not the address."""

    class Secure(base):  # type: ignore[misc]  # chosen at run time
        def _connection_arguments(self) -> dict[str, Any]:
            found: dict[str, Any] = dict(super()._connection_arguments())
            found["ssl"] = context
            if server.server_name:
                found["server_hostname"] = server.server_name
            return found

    return Secure


def _options(user: str, password: str) -> dict[str, Any]:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return {
        "username": user or None,
        "password": password or None,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),  # what tries again, and when, is said in `shared`
    }


class _Server:
    """One server: where the URL says, or where Sentinels say that it is now."""

    def __init__(self, server: SharedServer, context: ssl.SSLContext | None) -> None:
        from redis.asyncio.client import Redis
        from redis.asyncio.connection import Connection, ConnectionPool
        from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection

        def of(base: type[Any]) -> type[Any]:
            return base if context is None else _connection_class(base, server, context)

        options = _options(server.user, server.password)
        plain = of(Connection)
        self._sentinels: list[Any] = []
        if server.kind == "single":
            ((host, port),) = server.places
            pool = ConnectionPool(
                host=host, port=port, db=server.database, connection_class=plain, **options
            )
            self._redis: Any = Redis.from_pool(pool)
            return
        asked = _options(server.sentinel_user, server.sentinel_password)
        asked["socket_timeout"] = CONNECT_SECONDS  # one that stands still is passed over
        by_name: Any = Sentinel  # carries no types
        sentinel = by_name([])
        sentinel.sentinels = self._sentinels = [
            Redis.from_pool(ConnectionPool(host=host, port=port, connection_class=plain, **asked))
            for host, port in server.places
        ]
        self._redis = sentinel.master_for(
            server.service, db=server.database, connection_class=of(SentinelManagedConnection),
            **options,
        )  # fmt: skip

    async def meet(self) -> None:
        async with asyncio.timeout(MEET_SECONDS):
            await self._redis.ping()

    async def ask(self, commands: Sequence[Command], seconds: float) -> list[object]:
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        async with asyncio.timeout(seconds):
            replies: list[object] = await pipe.execute(raise_on_error=False)
        return replies

    async def names(self, prefix: bytes) -> AsyncIterator[bytes]:
        async for name in self._redis.scan_iter(match=prefix + b"*", count=SCAN_COUNT):
            yield name

    async def close(self) -> None:
        for client in (self._redis, *self._sentinels):
            with suppress(Exception):
                await client.aclose()


class _Cluster:
    """The nodes of a cluster. One that does not answer is left alone for a while."""

    def __init__(self, library: Any, server: SharedServer, context: ssl.SSLContext | None) -> None:
        from redis.asyncio.cluster import ClusterNode
        from redis.asyncio.connection import Connection

        self._client: Any = library.RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in server.places],
            require_full_coverage=False,
            **_options(server.user, server.password) | {"socket_timeout": CONNECT_SECONDS},
        )  # fmt: skip
        if context is not None:  # of its own it takes no context
            secure = _connection_class(Connection, server, context)
            self._client.connection_kwargs["connection_class"] = secure
            for node in self._client.nodes_manager.startup_nodes.values():
                node.connection_class = secure
        self._away: dict[str, float] = {}
        self._look: asyncio.Task[None] | None = None

    async def meet(self) -> None:
        async with asyncio.timeout(MEET_SECONDS):
            await self._client.initialize()
            replies = await asyncio.gather(
                *(self._client.ping(target_nodes=node) for node in self._client.get_primaries()),
                return_exceptions=True,
            )
        raise_if_none(replies)

    async def ask(self, commands: Sequence[Command], seconds: float) -> list[object]:
        from redis.exceptions import ClusterDownError, RedisClusterException

        replies: list[object] = [None] * len(commands)
        shares: dict[str, list[int]] = {}
        async with asyncio.timeout(seconds):
            await self._client.initialize()
        for index, command in enumerate(commands):
            try:
                node = self._client.get_node_from_key(command[1])
            except RedisClusterException as error:  # nobody has this slot
                replies[index] = error
            else:
                shares.setdefault(node.name, []).append(index)
        found = await asyncio.gather(
            *(self._ask_node(name, [commands[i] for i in share], seconds)
              for name, share in shares.items())
        )  # fmt: skip
        for share, some in zip(shares.values(), found, strict=True):
            for index, reply in zip(share, some, strict=True):
                replies[index] = reply
        now = monotonic()
        nodes = self._client.get_primaries()
        # The share of one node is missed; a cluster may refuse all of them for it.
        if all(self._away.get(node.name, 0.0) > now for node in nodes) or any(
            isinstance(reply, ClusterDownError) for reply in replies
        ):
            raise_if_none(replies)
        return replies

    async def _ask_node(
        self, name: str, commands: Sequence[Command], seconds: float
    ) -> Sequence[object]:
        if self._away.get(name, 0.0) > monotonic():
            return [ConnectionError(f"{name} did not answer a moment ago")] * len(commands)
        pipe = self._client.pipeline()
        for command in commands:
            pipe.execute_command(*command)
        try:
            async with asyncio.timeout(seconds):
                replies: list[object] = await pipe.execute(raise_on_error=False)
        except Exception as error:
            replies = [error] * len(commands)
        if all(is_gone(reply) for reply in replies):
            self._away[name] = monotonic() + AWAY_SECONDS
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_around())
        return replies

    async def _look_around(self) -> None:
        """Ask which node has what now; a replica may have taken a place."""
        with suppress(Exception):
            async with asyncio.timeout(MEET_SECONDS):
                await self._client.nodes_manager.initialize()

    async def names(self, prefix: bytes) -> AsyncIterator[bytes]:
        await self._client.initialize()
        for node in list(self._client.get_primaries()):
            cursor = None
            while cursor != 0:
                try:
                    cursors, some = await self._client.scan(
                        cursor or 0, prefix + b"*", SCAN_COUNT, target_nodes=node
                    )
                except Exception as error:
                    if not is_gone(error):
                        raise
                    break
                cursor = cursors[node.name]
                for name in some:
                    yield name

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
        with suppress(Exception):
            await self._client.aclose()


def is_gone(reply: object) -> bool:
    """True for an exception that says nothing of a value, but that nobody answered."""
    from redis import exceptions as of

    lost = (of.ConnectionError, of.TimeoutError, of.ClusterDownError, of.SlotNotCoveredError)
    return isinstance(reply, (OSError, *lost))  # a TimeoutError of ours is an OSError


def raise_if_none(replies: Sequence[object]) -> None:
    """Raise the first exception if there are only such as say that nobody answered."""
    if replies and all(is_gone(reply) for reply in replies):
        raise next(reply for reply in replies if isinstance(reply, Exception))

"""Who is on the way of a client's message, and that nobody is as a rule."""

from __future__ import annotations

from dnsguard.core.drill import Drill, Plan, begin
from dnsguard.core.intake import Client, route
from tests.core.world import World


def test_the_engine_itself_unless_others_want_to_be_there() -> None:
    world = World()
    engine = world.engine
    assert engine.client == engine.take
    seen: list[bytes] = []

    def tap(take: Client) -> Client:
        def client(data: bytes, client: object, now: float, stream: bool = False) -> None:
            seen.append(data)
            take(data, client, now, stream)

        return client

    engine.tap = tap
    route(engine)
    asked = world.resolve("www.test")
    assert seen == [asked.data]
    drill = begin(engine, Plan(".", "silent", 60.0, abort_above=1.0), world.chance, world.now)
    assert isinstance(drill, Drill)
    world._collect()
    world.watch.shadow = drill.shadow
    world.ask("www.test")
    assert drill.tally.lookups == 1, "whoever looks on sees what the drill takes"
    assert len(seen) == 2
    engine.tap = None
    route(engine)
    world.ask("www.test")
    assert (drill.tally.lookups, len(seen)) == (2, 2)
    drill.end("enough", world.now)
    assert engine.client == engine.take

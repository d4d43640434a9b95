"""Who takes a client's message first: the engine itself, a drill, or whoever looks on.

Nobody stands between a listener and the engine as a rule, and then nothing here costs anything:
`engine.client` is the engine's own `take`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine


class Client(Protocol):
    """Takes a client's message, as `Engine.take` does."""

    def __call__(self, data: bytes, client: object, now: float, stream: bool = False) -> None: ...


Tapped = Callable[[Client], Client]  # sees messages on their way to whoever takes them


def route(engine: Engine) -> None:
    """Put those on the way of a client's message who want to be there now."""
    taker: Client = engine.take if engine.drill is None else engine.drill.client
    engine.client = taker if engine.tap is None else engine.tap(taker)

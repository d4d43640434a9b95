"""The `cache` verbs where no instance is running: on the answers that one left behind.

They run in this process, on an engine that was read from the directory (see `store.resting`); to
the commands it looks like a connection to an instance.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from typing import Any, cast

import click

from dnsguard.admin.cache_verbs import cache_verbs
from dnsguard.admin.control import Arguments
from dnsguard.core.engine import Engine
from dnsguard.errors import ControlError, StoreError
from dnsguard.store.resting import at_rest, places


class Resting:
    """What an instance that is not running remembers: the `cache` verbs without a socket."""

    def __init__(self, engine: Engine) -> None:
        self._verbs = cache_verbs(engine)

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Return what a running instance would answer."""

        async def answered() -> Any:
            return await cast(Awaitable[Any], self._run(verb, arguments))

        return dict(asyncio.run(answered()))

    def stream(self, verb: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the items that a running instance would answer with."""

        async def items() -> list[dict[str, Any]]:
            found = cast(AsyncGenerator[Any, None], self._run(verb, arguments))
            return [dict(item) async for item in found]

        yield from asyncio.run(items())

    def _run(self, verb: str, arguments: Mapping[str, Any]) -> object:
        return self._verbs[verb].run(Arguments(verb, arguments))


@contextlib.contextmanager
def left_behind(state_dir: str, unreached: ControlError) -> Iterator[Resting]:
    """Give what lies in a state directory; `unreached` says why no running instance is meant.

    Raises ControlError with what to do about it.
    """
    try:
        found = places(state_dir)
        if not found:
            raise unreached
        if len(found) > 1:
            raise ControlError(
                f"{len(found)} instances have left their answers in {state_dir}; choose one: "
                f"--state-dir {', '.join(found)}"
            )
        with at_rest(found[0]) as resting:
            click.echo(f"no instance is running; this is what lies in {found[0]}", err=True)
            if resting.damaged:
                click.echo(f"{resting.damaged} answers there are damaged and left out", err=True)
            yield Resting(resting.engine)
    except StoreError as error:
        if error.kind == "locked":
            raise ControlError(f"{error}, which cannot be reached: {unreached}") from None
        raise ControlError(f"nothing can be done there: {error}") from None

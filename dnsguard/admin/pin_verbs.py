"""The verbs that pin names: set one, end one, list them all, and have them outlive a restart."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from dnsguard import clock
from dnsguard.admin.control import Arguments, Facts, Verb
from dnsguard.admin.facts import all_pins, pin_facts
from dnsguard.admin.telling import tell
from dnsguard.core.engine import Engine
from dnsguard.core.pins import ADDRESSES_MAX, PINS_MAX, Pin
from dnsguard.core.wire import name_octets, name_text
from dnsguard.errors import ControlError, WireError

LASTS_MAX = 30 * 86400.0  # seconds: what is to last longer belongs into the settings
TTL_MAX = 3600.0
BESIDE_SECONDS = 0.3  # for another worker to say what is pinned: a start must not wait for it

Keep = Callable[[], Awaitable[str]]  # writes the pins down; returns why it could not


def pin_verbs(engine: Engine, keep: Keep) -> Mapping[str, Verb]:
    """Return the verbs `pin`, `unpin` and `pins`."""

    async def pin(arguments: Arguments) -> Facts:
        now = clock.now()
        found = _read(arguments, now)
        if not engine.pin(found):
            raise ControlError(f"{PINS_MAX} names are pinned already: unpin some")
        return pin_facts(found, now) | _kept(await keep())

    async def unpin(arguments: Arguments) -> Facts:
        name = _name(arguments.text("name"))
        arguments.end()
        if engine.pins.remove(name_octets(name)) is None:
            where = (
                " by hand; the settings pin it" if name_octets(name) in engine.pins.table else ""
            )
            raise ControlError(f"{name} is not pinned{where}")
        return {"name": name} | _kept(await keep())

    async def pins(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        arguments.end()
        for found in all_pins(engine, clock.now()):
            yield found

    return {"pin": Verb(pin), "unpin": Verb(unpin), "pins": Verb(pins)}


async def pins_beside(engine: Engine, directories: Sequence[str]) -> None:
    """Pin by hand what the first of these other workers has pinned, and nothing else.

    `directories` are those of their control sockets. Whoever does not answer at once is not waited
    for; if nobody does, what is pinned here stays.
    """
    for directory in directories:
        try:
            found = [
                f async for kind, f in tell(directory, "pins", {}, BESIDE_SECONDS) if kind == "item"
            ]
        except ControlError:
            continue
        now = clock.now()
        for old in engine.pins.operators(now):
            engine.pins.remove(name_octets(old.name))
        for facts in found:
            if facts["ends_in"] is not None:  # else it is pinned by the settings
                until = now + facts["ends_in"]
                engine.pin(Pin(facts["name"], tuple(facts["addresses"]), facts["ttl"], now, until))
        return


def _kept(trouble: str) -> dict[str, Any]:
    return {"kept": not trouble, "trouble": trouble}


def _name(text: str) -> str:
    try:
        return name_text(name_octets(text))
    except WireError as wrong:
        raise ControlError(str(wrong)) from None


def _read(arguments: Arguments, now: float) -> Pin:
    name = _name(arguments.text("name"))
    addresses = []
    for text in arguments.texts("addresses"):
        try:
            addresses.append(str(ipaddress.ip_address(text)))
        except ValueError:
            raise ControlError(f"{text!r} is not an address, such as 10.1.2.3 or fd00::1") from None
    if not 0 < len(addresses) <= ADDRESSES_MAX:
        raise ControlError(f"a pin has from 1 to {ADDRESSES_MAX} addresses, not {len(addresses)}")
    ttl, lasts = arguments.number("ttl"), arguments.number("lasts")
    arguments.end()
    if not 0 <= ttl <= TTL_MAX:
        raise ControlError(f"the TTL of a pin is from 0 s to {TTL_MAX:.0f} s")
    if not 0 < lasts <= LASTS_MAX:
        raise ControlError("a pin lasts up to 30d; to pin for good, use `pins` in the settings")
    return Pin(name, tuple(addresses), int(ttl), now, now + lasts)

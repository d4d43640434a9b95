"""The verb by which an operator sees what is in doubt, and decides (see `core.guard`)."""

from __future__ import annotations

from collections.abc import Mapping

from dnsguard import clock
from dnsguard.admin import facts
from dnsguard.admin.control import Arguments, Facts, Verb
from dnsguard.core.engine import Engine
from dnsguard.errors import ControlError

DECISIONS = ("accept", "reject")


def doubt_verbs(engine: Engine) -> Mapping[str, Verb]:
    """Return the verb `doubt`: of `zone`, or of all; `decision` is accept, reject or empty."""

    def doubt(arguments: Arguments) -> Facts:
        name, decision = arguments.text("zone", ""), arguments.text("decision", "")
        arguments.end()
        if decision and decision not in DECISIONS:
            raise ControlError(f"decision {decision!r}: write one of {', '.join(DECISIONS)}")
        zones = [zone for zone in engine.zones.all if name in ("", zone.name)]
        if not zones:
            known = ", ".join(zone.name for zone in engine.zones.all)
            raise ControlError(f"there is no zone {name}; there are {known}")
        now = clock.now()
        doubting = engine.guarding.doubting
        acts = {"accept": doubting.accept, "reject": doubting.reject}
        decided = [
            {"zone": zone.name, "names": acts[decision](zone, now)}
            for zone in zones
            if decision and zone.guard.doubt
        ]
        if decision and not decided:
            raise ControlError("nothing is in doubt, so there is nothing to decide")
        return {"decided": decided, "zones": [facts.zone_facts(zone, now) for zone in zones]}

    return {"doubt": Verb(doubt)}

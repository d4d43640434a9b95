"""Where scenarios are: the library that comes with dnsguard, and files of one's own.

In a checkout the library is `benchmarks/scenarios`; a wheel carries the same files inside the
package. A container image has none.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from dnsguard.errors import ConfigError, Mistake
from dnsguard.sim import scenario
from dnsguard.sim.scenario import Scenario

ENDING = ".yaml"
_HERE = Path(__file__).resolve()
PLACES = (_HERE.parent / "scenarios", _HERE.parents[2] / "benchmarks" / "scenarios")


def paths(places: tuple[Path, ...] = PLACES) -> dict[str, Path]:
    """The files of the library by the names of their scenarios, in the order of the alphabet."""
    found = next((place for place in places if place.is_dir()), None)
    return {} if found is None else {path.stem: path for path in sorted(found.glob(f"*{ENDING}"))}


def path(name: str, places: tuple[Path, ...] = PLACES) -> Path:
    """The file of a scenario: the library's by its name, one's own by its path.

    What has a slash in it or ends in .yaml is a path. Raises `ConfigError` if there is no such
    scenario in the library.
    """
    if "/" in name or name.endswith(ENDING):
        return Path(name)
    known = paths(places)
    if name in known:
        return known[name]
    if known:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.0)[0]
        hint = f"the nearest is {near}, `dnsguard bench scenarios` lists all"
    else:
        hint = "there is no library in this installation"
    own = f"a file of your own is named by its path, such as ./{name}{ENDING}"
    why = f"a scenario of the library ({hint}); {own}"
    raise ConfigError([Mistake("scenario", name, why)], "what was asked for")


def load(name: str) -> Scenario:
    """The scenario of this name or path. Raises `ConfigError` with every mistake in its file."""
    return scenario.read(path(name))


def everything() -> list[Scenario]:
    """The whole library; the outages that happened first, from the earliest to the latest."""
    found = [scenario.read(file) for file in paths().values()]
    return sorted(found, key=lambda one: (one.date == "none", one.date, one.name))

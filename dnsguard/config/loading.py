"""Puts the layers together: flag over environment over file over default, into frozen `Settings`.

Every value of every layer is read, also one that a higher layer hides, so that all mistakes come
at once, each with its key, its place, its value and what would be right. The system's resolvers
are asked for only when nobody names an upstream of the zone `.`. Knows nothing of click and
resolves no name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from dnsguard.config import addresses, keys
from dnsguard.config.addresses import Address, Network
from dnsguard.config.keys import Given, Key, Origin, Plain
from dnsguard.core.policy import (
    AskPolicy,
    CachePolicy,
    GuardPolicy,
    Kubernetes,
    Limits,
    Policy,
    PrefetchPolicy,
    StalePolicy,
    StorePolicy,
    Upstream,
    Zone,
)
from dnsguard.errors import ConfigError, Mistake

CONFIG_VARIABLE = f"{keys.ENV_PREFIX}CONFIG"
RESOLV_CONF = Path("/etc/resolv.conf")
NAMESERVERS_MAX = 3  # resolv.conf(5), MAXNS: no libc looks at a fourth
DNS_PORT = 53
SOME_SERVER = "192.0.2.53"  # where settings are read that have nothing to do with upstreams
_STATE_DIRS = (
    ("STATE_DIRECTORY", ""),
    ("XDG_STATE_HOME", "/dnsguard"),
    ("HOME", "/.local/state/dnsguard"),
)

# Kubernetes sets such variables for every Service in the pod's namespace. One that is named
# dnsguard must not keep dnsguard from starting.
_SERVICE_VARIABLE = re.compile(
    rf"{keys.ENV_PREFIX}(?:\w+_)?"
    r"(?:SERVICE_HOST=.*|SERVICE_PORT(?:_\w+)?=.*"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?=.*|=(?:tcp|udp|sctp)://.*))",
    re.DOTALL,
)


class Effective(NamedTuple):
    """A value that holds, as plain data, and where it comes from."""

    value: Plain | list[Plain]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can decide, checked. Equal settings may have different origins."""

    listen: tuple[Address, ...]
    admin: Address | None
    hot_names: bool
    coredns_names: bool
    access: tuple[Network, ...]
    policy: Policy
    log_format: Literal["text", "json"]
    log_level: Literal["debug", "info", "warning", "error"]
    log_queries: float  # share of the queries that are logged
    log_query_names: bool
    store: StorePolicy
    workers: int
    takeover: bool
    effective: Mapping[str, Effective] = field(compare=False, repr=False)


class _Value(NamedTuple):
    key: Key
    value: Any
    origin: Origin


def resolv_conf(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """The nameservers of a resolv.conf, read as libc does: what it cannot use, it skips."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        # resolv.conf(5): the keyword stands at the very beginning of its line.
        if len(words) > 1 and words[0] == "nameserver" and line.startswith("nameserver"):
            found += [words[1]] if _is_server(words[1]) else []
    return tuple(found[:NAMESERVERS_MAX])


def _is_server(text: str) -> bool:
    """Whether packets can be sent there: an address, and not 0.0.0.0 or a group."""
    try:
        addresses.read_upstream(text)
    except ValueError:
        return False
    return addresses.is_ip(text)


def others(resolvers: Iterable[str], listen: Iterable[Address]) -> tuple[str, ...]:
    """The resolvers that are not ourselves, each once."""
    own = tuple(listen)
    return tuple(dict.fromkeys(r for r in resolvers if not addresses.is_ours(r, DNS_PORT, own)))


def load(
    flags: Iterable[Given] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
    file: Path | None = None,
    system_resolvers: Callable[[], Sequence[str]] = resolv_conf,
) -> Settings:
    """All layers as one; raises ConfigError with every mistake. `file` beats DNSGUARD_CONFIG."""
    mistakes: list[Mistake] = []
    if file is None and environ.get(CONFIG_VARIABLE):
        file = Path(environ[CONFIG_VARIABLE])
    given: list[Given] = []
    if file is not None:
        from dnsguard.config import yaml_file  # most servers run without a file, and without PyYAML

        given, mistakes = yaml_file.read(file)
    values = _read_layer(given, mistakes)
    values |= _read_layer(_from_environment(environ), mistakes)
    values |= _read_layer(flags, mistakes)
    settings = _settings(values, environ, system_resolvers, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return settings


def _from_environment(environ: Mapping[str, str]) -> list[Given]:
    return [
        Given(keys.from_env_name(name), text, Origin("env", name))
        for name, text in sorted(environ.items())
        if name.startswith(keys.ENV_PREFIX)
        and name != CONFIG_VARIABLE
        and not _SERVICE_VARIABLE.fullmatch(f"{name}={text}")
    ]


def _read_layer(layer: Iterable[Given], mistakes: list[Mistake]) -> dict[str, _Value]:
    """The values of one layer. Repeated flags add to a list; of a single value the last holds."""
    values: dict[str, _Value] = {}
    for given in layer:
        place = f"{given.key} ({given.origin})"
        try:
            name, key = keys.find(given.key, given.origin)
        except ValueError as error:
            if not _is_empty_section(given):
                mistakes.append(Mistake(place, given.value, str(error)))
            continue
        before = values.get(name)
        if before is not None and given.origin.layer != "flag":
            # By other dots, letters or nesting: `a.b: 1` beside `a: {b: 2}`.
            why = f"a key once; it is set already ({before.origin})"
            mistakes.append(Mistake(place, given.value, why))
        elif given.value is None:
            mistakes.append(Mistake(place, None, f"a value: {key.allowed}"))
        elif key.many:
            earlier, origin = (before.value, before.origin) if before else ((), given.origin)
            items = _read_list(key, given, earlier, place, mistakes)
            values[name] = _Value(key, items, origin)
        elif isinstance(given.value, tuple):
            mistakes.append(Mistake(place, list(given.value), f"one value: {key.allowed}"))
        else:
            try:
                values[name] = _Value(key, key.read(given.value.strip()), given.origin)
            except ValueError as error:
                mistakes.append(Mistake(place, given.value, str(error)))
    return values


def _is_empty_section(given: Given) -> bool:
    """A section of a file with all its lines commented out sets nothing, and that is no mistake."""
    return given.value is None and given.origin.layer == "file" and keys.is_section(given.key)


def _read_list(
    key: Key, given: Given, earlier: tuple[Any, ...], place: str, mistakes: list[Mistake]
) -> tuple[Any, ...]:
    """The good items, behind those of earlier flags; each bad one is a mistake of its own."""
    texts = given.value
    if isinstance(texts, str):
        texts = tuple(key.kind.split(texts)) if texts.strip() else ()
    items = list(earlier)
    for text in texts or ():
        try:
            item = key.read(text.strip())
        except ValueError as error:
            mistakes.append(Mistake(place, key.kind.hide(text), str(error)))
            continue
        if item in items:
            why = "each item once; it stands further up already"
            mistakes.append(Mistake(place, key.kind.hide(text), why))
        else:
            items.append(item)
    if key.needed and not texts:
        mistakes.append(Mistake(place, "", f"at least one item ({key.allowed}): {key.needed}"))
    return tuple(items)


def store_dir(environ: Mapping[str, str]) -> str | None:
    """Where a server started with this environment keeps its state; None if nowhere."""
    return load((), environ, system_resolvers=lambda: (SOME_SERVER,)).store.dir


def state_dir(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Where the system wants state to be kept, and who says so; None if nobody does.

    See systemd.exec(5), which may name several, and the XDG Base Directory Specification, by which
    a path that is not absolute is to be ignored.
    """
    for variable, below in _STATE_DIRS:
        path = environ.get(variable, "").partition(":")[0]
        if path.startswith("/"):
            return path.rstrip("/") + below, f"from ${variable}"
    return None, "no $HOME, no $STATE_DIRECTORY"


def _settings(
    values: Mapping[str, _Value],
    environ: Mapping[str, str],
    system_resolvers: Callable[[], Sequence[str]],
    mistakes: list[Mistake],
) -> Settings:
    """The whole, with what only the whole can get wrong."""
    held = {
        name: values.get(name) or _Value(key, key.default, Origin("default"))
        for name, key in keys.KEYS.items()
    }
    if held["store.dir"].value == keys.AUTO:
        path, who = state_dir(environ)
        held["store.dir"] = _Value(keys.KEYS["store.dir"], path, Origin("default", who))
    plain = {name: value.value for name, value in held.items()}

    def section(name: str) -> dict[str, Any]:
        start = f"{name}."
        return {k.removeprefix(start): plain[k] for k in plain if k.startswith(start)}

    listen, admin = plain["listen"], plain["admin.listen"]
    if admin and any(addresses.clash(admin, own) for own in listen):
        place = f"admin.listen ({held['admin.listen'].origin})"
        mistakes.append(Mistake(place, str(admin), "an address and port that no listener has"))
    if plain["kubernetes.autopath"] and not plain["kubernetes.namespace"]:
        place = f"kubernetes.autopath ({held['kubernetes.autopath'].origin})"
        mistakes.append(
            Mistake(place, "on", "kubernetes.namespace beside it, where a search list begins")
        )
    stale = StalePolicy(**section("stale"))
    shown = {"listen": held["listen"]}
    guard = GuardPolicy(**section("guard"))
    zones = _zones(values, stale, guard, listen, system_resolvers, mistakes, shown)
    shown |= held
    pins = {name: value for name, value in values.items() if name.startswith("pins.")}
    shown |= pins
    return Settings(
        listen=listen,
        admin=admin,
        hot_names=plain["admin.hot_names"],
        coredns_names=plain["metrics.coredns_names"],
        access=(*addresses.networks(plain["access.allow"]), *addresses.own_networks(listen)),
        policy=Policy(
            zones=zones,
            cache=CachePolicy(**section("cache")),
            ask=AskPolicy(**section("upstream")),
            prefetch=PrefetchPolicy(**section("prefetch")),
            limits=Limits(**section("limits")),
            keep_fresh=plain["keep_fresh.names"],
            kubernetes=Kubernetes(**section("kubernetes")),
            pins=tuple((name.removeprefix("pins."), pin.value) for name, pin in pins.items()),
        ),
        log_format=plain["log.format"],
        log_level=plain["log.level"],
        log_queries=plain["log.queries"],
        log_query_names=plain["log.query_names"],
        store=StorePolicy(**section("store")),
        workers=plain["workers"],
        takeover=plain["takeover"],
        effective=MappingProxyType(
            {name: Effective(v.key.show(v.value), v.origin) for name, v in shown.items()}
        ),
    )


def _zones(
    values: Mapping[str, _Value],
    stale: StalePolicy,
    guard: GuardPolicy,
    listen: tuple[Address, ...],
    system_resolvers: Callable[[], Sequence[str]],
    mistakes: list[Mistake],
    shown: dict[str, _Value],
) -> tuple[Zone, ...]:
    """Every zone that a key speaks of, and always the root; `shown` gets what holds for each."""
    names = {keys.split(name)[1] for name in values if name.startswith("zones.")} - {"."}
    zones: dict[str, Zone] = {}
    # From the root down: a zone without upstreams of its own has those of the zone around it.
    for name in (".", *sorted(names, key=lambda name: (name.count("."), name))):
        path = f"zones.{name}.upstreams"
        given = values.get(path)
        if given is not None:
            _refuse_ourselves(path, given, listen, mistakes)
        elif name == ".":
            given = _system_upstreams(system_resolvers(), listen, mistakes)
        else:
            around = _around(name, zones)
            origin = Origin("default", f"from the zone {around.name}")
            given = _Value(keys.ZONE_KEYS["upstreams"], around.upstreams, origin)
        shown[path] = given
        own: dict[str, dict[str, Any]] = {"stale": {}, "guard": {}}
        for leaf in keys.ZONE_KEYS:
            path = f"zones.{name}.{leaf}"
            if leaf != "upstreams" and path in values:
                section, _, key = leaf.partition(".")
                own[section][key] = values[path].value
                shown[path] = values[path]
        _refuse_strangers(name, values.get(f"zones.{name}.guard.canaries"), mistakes)
        zones[name] = Zone(
            name, given.value, replace(stale, **own["stale"]), replace(guard, **own["guard"])
        )
    return tuple(zones.values())


def _refuse_strangers(zone: str, given: _Value | None, mistakes: list[Mistake]) -> None:
    """A canary that stands in another zone is never heard of in this one."""
    if given is None or zone == ".":
        return
    place = f"zones.{zone}.guard.canaries ({given.origin})"
    mistakes += [
        Mistake(place, name, f"a name in the zone {zone}")
        for name in given.value
        if name != zone and not name.endswith(f".{zone}")
    ]


def _around(name: str, zones: Mapping[str, Zone]) -> Zone:
    """The closest known zone above; the root is always known."""
    while name not in zones:
        name = name.partition(".")[2] or "."
    return zones[name]


def _refuse_ourselves(
    path: str, given: _Value, listen: tuple[Address, ...], mistakes: list[Mistake]
) -> None:
    upstreams: tuple[Upstream, ...] = given.value
    for upstream in upstreams:
        if addresses.is_ours(upstream.host, upstream.port, listen):
            why = "another server: this is one of our own listeners"
            mistakes.append(Mistake(f"{path} ({given.origin})", str(upstream), why))


def _system_upstreams(
    resolvers: Sequence[str], listen: tuple[Address, ...], mistakes: list[Mistake]
) -> _Value:
    """What the system would ask without us. In a pod that asks dnsguard, that is nobody."""
    left = tuple(addresses.read_upstream(resolver) for resolver in others(resolvers, listen))
    if not left:
        found = "only ourselves" if resolvers else "no server"
        why = (
            f"an upstream for the zone '.': the system's resolv.conf names {found}; "
            f"give --upstream ADDR, or set {keys.ROOT_UPSTREAMS}"
        )
        mistakes.append(Mistake(f"{keys.ROOT_UPSTREAMS} (default)", ", ".join(resolvers), why))
    origin = Origin("default", "from the system's resolv.conf")
    return _Value(keys.ZONE_KEYS["upstreams"], left, origin)

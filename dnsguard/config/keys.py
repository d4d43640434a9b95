"""The table of settings: every key with its type, default, range and meaning.

A new setting is one row here and one field in `core.policy`; the reader, the mistakes, the
environment names, `dnsguard check` and the documentation's table follow from the row. Only keys
that have an effect stand here. A zone's own dots belong to the key:
`zones.cluster.local.stale.max_age`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dnsguard.config import addresses, shared_url, units
from dnsguard.config.addresses import Address
from dnsguard.core.policy import (
    AskPolicy,
    CachePolicy,
    GuardPolicy,
    Kubernetes,
    Limits,
    PrefetchPolicy,
    StalePolicy,
    StorePolicy,
)

Layer = Literal["flag", "env", "file", "default"]
Plain = str | int | float | bool

ENV_PREFIX = "DNSGUARD_"
ROOT_UPSTREAMS = "zones...upstreams"  # what --upstream sets: the key `upstreams` of the zone `.`

# How many labels of a mistyped zone key may belong to the zone; comparing more would take seconds.
ZONE_GUESSES_MAX = 12

DAY = 86400
AUTO, OFF = "auto", "off"  # of store.dir: where the system wants it, and nowhere


class Origin(NamedTuple):
    """Where a value comes from: the layer, and the place in it."""

    layer: Layer
    where: str = ""

    def __str__(self) -> str:
        return f"{self.layer} {self.where}".rstrip()


class Given(NamedTuple):
    """One setting as a source spells it: a text, a list of texts, or a key with nothing behind."""

    key: str
    value: str | tuple[str, ...] | None
    origin: Origin


def _split(text: str) -> Sequence[str]:
    return text.split(",")


def _hide_nothing(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: its name for people, and how its text is read and shown.

    `split` parts the text of a list; `hide` takes the secrets out of a text that is shown because
    something is wrong with it.
    """

    name: str
    read: Callable[[str], Any]
    show: Callable[[Any], Plain]
    split: Callable[[str], Sequence[str]] = _split
    hide: Callable[[str], str] = _hide_nothing


def _as_it_is(value: Any) -> Plain:
    plain: Plain = value
    return plain


def _choice(*words: str) -> Kind:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(name)
        return text

    name = f"one of {', '.join(words)}"
    return Kind(name, read, _as_it_is)


def _read_timeout(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return units.read_duration(text)
    except ValueError as error:
        raise ValueError(f"{error}; or auto") from None


def _show_timeout(seconds: float | None) -> str:
    return "auto" if seconds is None else units.show_duration(seconds)


def _read_directory(text: str) -> str | None:
    if text == OFF:
        return None
    if not text or "\0" in text or text.startswith("~"):
        raise ValueError("a directory, auto or off; ~ is not understood here, write it out")
    return text


def _show_directory(path: str | None) -> str:
    return OFF if path is None else path


def _read_domain(text: str) -> str:
    name = addresses.read_name(text)
    if name == ".":
        raise ValueError("a domain name such as cluster.local; the root is no cluster's domain")
    return name


_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, as Kubernetes has it


def _read_prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError("1 to 64 letters, digits, '_', '.', ':' or '-'")
    return text


def _read_namespace(text: str) -> str:
    if text and not _NAMESPACE.fullmatch(text):
        raise ValueError("a namespace, such as shop: lower-case letters, digits and '-'")
    return text


SHARED = Kind("redis:// URLs", shared_url.read, shared_url.show, shared_url.split, shared_url.hide)
PREFIX = Kind("a short text", _read_prefix, _as_it_is)
NAMESPACE = Kind("a namespace", _read_namespace, _as_it_is)
DURATION = Kind("a duration", units.read_duration, units.show_duration)
SECONDS = Kind("a duration in whole seconds", units.read_seconds, units.show_duration)
TIMEOUT = Kind("a duration or auto", _read_timeout, _show_timeout)
SIZE = Kind("a size", units.read_size, units.show_size)
INTEGER = Kind("a whole number", units.read_integer, _as_it_is)
NUMBER = Kind("a number", units.read_number, _as_it_is)
SHARE = Kind("a share or off", units.read_share, units.show_share)
SWITCH = Kind("on or off", units.read_switch, _as_it_is)
ADDRESS = Kind("ADDR:PORT", addresses.read_address, str)
ADDRESS_OR_OFF = Kind(
    "ADDR:PORT or off", addresses.read_address_or_off, addresses.show_address_or_off
)
UPSTREAM = Kind("upstream URLs", addresses.read_upstream, str)
NETWORK = Kind("networks, or loopback, link-local, private", addresses.read_network, str)
NAME = Kind("domain names", addresses.read_name, str)
IP = Kind("addresses", addresses.read_ip, str)
CLUSTER_DOMAIN = Kind("a domain name", _read_domain, str)
DIRECTORY = Kind("a directory, auto or off", _read_directory, _show_directory)


@dataclass(frozen=True, slots=True)
class Key:
    """One row. A range always says why; `many` is a list, `needed` one that must not be empty."""

    name: str
    kind: Kind
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    why: str = ""
    many: bool = False
    needed: str = ""  # why the list must not be empty

    @property
    def allowed(self) -> str:
        """The type with its range, for mistakes and for the documentation."""
        show = self.kind.show
        name = f"list of {self.kind.name}" if self.many else self.kind.name
        if self.low is None:
            return name
        if self.high is None:
            return f"{name}, at least {show(self.low)}"
        return f"{name} from {show(self.low)} to {show(self.high)}"

    def read(self, text: str) -> Any:
        """The value of one text; ValueError says what would be right."""
        value = self.kind.read(text)
        if self.low is None or value is None:
            return value
        if value < self.low or (self.high is not None and value > self.high):
            raise ValueError(f"{self.allowed}: {self.why}")
        return value

    def show(self, value: Any) -> Plain | list[Plain]:
        """The value as plain data that, written as YAML, reads to the same value."""
        return [self.kind.show(item) for item in value] if self.many else self.kind.show(value)


_STALE = StalePolicy()
_GUARD = GuardPolicy()
_CACHE = CachePolicy()
_ASK = AskPolicy()
_PREFETCH = PrefetchPolicy()
_LIMITS = Limits()
_STORE = StorePolicy()
_KUBERNETES = Kubernetes()

_ROWS = (
    Key("listen", ADDRESS, (Address("127.0.0.1", 5353),),
        "where queries are answered, over UDP and TCP; port 0 lets the system choose",
        many=True, needed="without a listener nobody can ask"),
    Key("admin.listen", ADDRESS_OR_OFF, Address("127.0.0.1", 9153),
        "where health, metrics and the status page are read over HTTP"),
    Key("admin.hot_names", SWITCH, True,
        "show names of questions on the status page; off shows numbers only. The control socket, "
        "which is for the owner, and what is asked for by name are not concerned"),
    Key("access.allow", NETWORK, ("loopback", "link-local", "private"),
        "who may ask; anyone else gets REFUSED. private is RFC 1918 and RFC 4193; clients in other "
        "networks, 100.64.0.0/10 for one, need a row of their own. The host itself may, from an "
        "address of its own that is listened at",
        many=True, needed="nobody could ask; 0.0.0.0/0 and ::/0 admit everyone"),
    Key("cache.max_bytes", SIZE, _CACHE.max_bytes,
        "how much memory answers may take",
        1 << 20, None, "less would not hold the names of one workload"),
    Key("cache.max_ttl", SECONDS, _CACHE.max_ttl,
        "the longest time for which an answer counts as fresh",
        1, 7 * DAY, "no cache at all below; above a week a TTL is a mistake (RFC 8767, section 4)"),
    Key("cache.max_negative_ttl", SECONDS, _CACHE.max_negative_ttl,
        "the longest time for which 'no such name' and 'no such record' count as fresh",
        0, 3 * 3600, "above three hours a new name stays unseen too long (RFC 2308, section 5)"),
    Key("stale.max_age", DURATION, _STALE.max_age,
        "how long past its TTL an answer may still be served; 0s never serves stale",
        0, 30 * DAY, "no answer is older than its expiry, and after a month it misleads"),
    Key("stale.headless_max_age", DURATION, _STALE.headless_max_age,
        "the same for addresses of pods in the cluster's domain, which soon go to other pods, at "
        "most stale.max_age",
        0, 30 * DAY, "no answer is older than its expiry, and after a month it misleads"),
    Key("stale.answer_ttl", SECONDS, _STALE.answer_ttl,
        "the TTL on a stale answer; never above the record's own",
        1, 3600, "RFC 8767, section 4 demands more than 0; clients keep stale data this long after "
        "recovery"),
    Key("stale.client_timeout", TIMEOUT, _STALE.client_timeout,
        "how long a client waits for a fresh answer when there is a stale one; auto follows the "
        "measured round trip, between 50ms and 400ms",
        0.001, 10, "below no upstream can win; above every client has given up"),
    Key("stale.recheck", DURATION, _STALE.recheck,
        "how long a failed refresh is not tried again",
        0.1, 3600, "below it is a storm on a sick upstream; above recovery goes unseen"),
    Key("stale.mode", _choice("verify", "immediate"), _STALE.mode,
        "verify asks first and serves stale only on failure; immediate serves stale and refreshes "
        "behind it"),
    Key("guard.mode", _choice("enforce", "observe", "off"), _GUARD.mode,
        "what to do when an upstream denies many names that it knew: enforce serves the last good "
        "answers, observe says so in the log, off believes it"),
    Key("guard.second_look", SWITCH, _GUARD.second_look,
        "before a denial of a name that was there is believed, ask another upstream, or the same "
        "over TCP, and for some names like it"),
    Key("guard.window", DURATION, _GUARD.window,
        "how close together denials of different names count as one event",
        1, 600, "below one second no two names are asked for again; above it is a day's deletions"),
    Key("guard.mass_min", INTEGER, _GUARD.mass_min,
        "how many different names must be denied within the window for that to be a mass event",
        2, 100_000, "one name that is gone is a deletion"),
    Key("guard.mass_fraction", NUMBER, _GUARD.mass_fraction,
        "which part of the names asked for within the window that must be",
        0.01, 1, "it is a part of them; below a hundredth any rollout would be one"),
    Key("guard.max_hold", DURATION, _GUARD.max_hold,
        "how long denied names are served after a mass event before they are believed to be gone",
        60, 7 * DAY, "below the event itself would outlast it; above it is no longer a guard"),
    Key("guard.hold_empty", DURATION, _GUARD.hold_empty,
        "how long the last addresses of a name outside of kubernetes.domain are served after it "
        "has lost them all, though it exists; 0 believes it",
        0, 7 * DAY, "above it is no longer a guard"),
    Key("guard.canaries", NAME, (),
        "names that are never deleted: if one of them is denied, that alone is a mass event. "
        "kubernetes.default.svc of kubernetes.domain always is one", many=True),
    Key("upstream.deadline", DURATION, _ASK.deadline,
        "how long a question without any cached answer may take before it fails",
        0.01, 30, "below no upstream can answer; above every client has given up"),
    Key("upstream.attempts", INTEGER, _ASK.attempts,
        "how many times one upstream is asked the same question",
        1, 3, "RFC 9520, section 3.1 allows no more than three"),
    Key("upstream.policy", _choice("sequential", "fastest", "hedged"), _ASK.policy,
        "which upstream is asked: in the order given, the quickest, or a second one soon after"),
    Key("upstream.case_randomization", SWITCH, _ASK.case_randomization,
        "vary the case of letters in questions, which makes replies harder to forge"),
    Key("upstream.cookies", SWITCH, _ASK.cookies,
        "send DNS cookies (RFC 7873), which make replies hard to forge where servers know them"),
    Key("prefetch.fraction", NUMBER, _PREFETCH.fraction,
        "the last part of a TTL, in which a query refreshes the answer; 0 turns it off",
        0, 1, "it is a part of the TTL"),
    Key("prefetch.min_hits", INTEGER, _PREFETCH.min_hits,
        "how often a name must have been asked to be refreshed ahead",
        1, 1_000_000, "a name that nobody asks needs no refresh"),
    Key("keep_fresh.names", NAME, (),
        "names that are refreshed ahead whether anybody asks or not", many=True),
    Key("limits.inflight", INTEGER, _LIMITS.inflight,
        "how many questions may wait for upstreams at once",
        1, 1_000_000, "none could be forwarded below; each holds memory until its deadline"),
    Key("limits.waiters_per_question", INTEGER, _LIMITS.waiters_per_question,
        "how many clients may wait for the same answer",
        1, 1_000_000, "the first client waits too; each holds memory until the answer comes"),
    Key("limits.tcp_connections", INTEGER, _LIMITS.tcp_connections,
        "how many client connections may be open at once",
        1, 65536, "DNS needs TCP (RFC 7766, section 5); each takes a file descriptor"),
    Key("limits.tcp_idle", DURATION, _LIMITS.tcp_idle,
        "how long a client connection may be silent before it is closed",
        0.1, 3600, "below no client can reuse it (RFC 7766, section 6.2.3); above it is only held"),
    Key("limits.client_qps", INTEGER, _LIMITS.client_qps,
        "queries per second that one client address may send; 0 sets no limit",
        0, 10_000_000, "there is no negative rate, and no machine answers more"),
    Key("store.dir", DIRECTORY, AUTO,
        "where last-known-good answers outlive a restart; auto is $STATE_DIRECTORY, else "
        "$XDG_STATE_HOME/dnsguard, else ~/.local/state/dnsguard; off keeps them in memory only"),
    Key("store.flush_interval", DURATION, _STORE.flush_interval,
        "how often what was learned is written there: the most that a kill can cost",
        0.1, 60, "below no disk gains by it; above a kill costs too many new names"),
    Key("store.max_bytes", SIZE, _STORE.max_bytes,
        "how much disk answers may take, besides up to 8MiB of log; what dies first goes first",
        1 << 20, None, "less would not hold the names of one workload"),
    Key("store.shared", SHARED, (),
        "a Redis or Valkey server that a fleet shares its last-known-good answers through: "
        "redis://, rediss://, redis+sentinel://, redis+cluster://; of several the first that "
        "answers. Name it by address, as cluster DNS may be what is dead", many=True),
    Key("store.shared_prefix", PREFIX, _STORE.shared_prefix,
        "what its keys begin with there: one for each cluster"),
    Key("kubernetes.domain", CLUSTER_DOMAIN, _KUBERNETES.domain,
        "the cluster's domain: names under it follow the Kubernetes DNS schema"),
    Key("kubernetes.schema_negatives", SWITCH, _KUBERNETES.schema_negatives,
        "in an outage answer 'no such name' at once for what was never asked and cannot exist "
        "under that schema, or is on a search path to a known name (EDE 29)"),
    Key("kubernetes.namespace", NAMESPACE, _KUBERNETES.namespace,
        "the namespace of the pods that ask, with whose name their search list begins"),
    Key("kubernetes.autopath", SWITCH, _KUBERNETES.autopath,
        "walk the search list of these pods for them: their first question is answered with the "
        "name that exists, behind a CNAME. Needs kubernetes.namespace"),
    Key("workers", INTEGER, 1,
        "how many processes answer; each has a cache of cache.max_bytes and the limits.* to itself",
        1, 64, "nobody would answer below; above they only share the machine's processors"),
    Key("takeover", SWITCH, False,
        "share each listen address with a server that was started so too, know what it knows, and "
        "go on alone when it ends"),
    Key("metrics.coredns_names", SWITCH, False,
        "tell the same numbers under the coredns_* names too that existing dashboards and alerts "
        "ask for, as far as they mean something here"),
    Key("log.format", _choice("text", "json"), "text", "how log lines look on stderr"),
    Key("log.level", _choice("debug", "info", "warning", "error"), "info",
        "the least severe log line that is written"),
    Key("log.queries", SHARE, 0.0,
        "log this share of the queries and what they were answered, at random and 10 a second at "
        "the most; at level info"),
    Key("log.query_names", SWITCH, True, "whether those lines show the names that were asked for"),
)  # fmt: skip

KEYS: dict[str, Key] = {row.name: row for row in _ROWS}

# What may stand behind `zones.<zone>.`: its upstreams, and any stale.* key for this zone alone.
ZONE_KEYS: dict[str, Key] = {
    "upstreams": Key(
        "zones.<zone>.upstreams", UPSTREAM, (),
        "the servers that this zone's questions go to; by default those of the zone around it, and "
        "for the zone . the system's resolv.conf without ourselves",
        many=True, needed="a zone must be answered by someone",
    ),
    **{row.name: row for row in _ROWS if row.name.startswith(("stale.", "guard."))},
}  # fmt: skip


# What stands behind `pins.`: a name, dots and all.
PIN = Key(
    "pins.<name>", IP, (),
    "the addresses that this name has, whatever the cache and the upstreams say: A and AAAA come "
    "from here alone",
    many=True, needed="a pinned name has at least one address",
)  # fmt: skip


def split(name: str) -> tuple[str, ...]:
    """The sections and the last part of a known key; a zone's name is one part, dots and all."""
    if name.startswith("pins."):
        return ("pins", name.removeprefix("pins."))
    if not name.startswith("zones."):
        return tuple(name.split("."))
    zone, leaf = _zone_and_leaf(name) or ("", "")
    return ("zones", zone, *leaf.split("."))


def is_section(name: str) -> bool:
    """Whether keys stand below this one in a file."""
    if name.startswith("zones."):
        return name.endswith((".stale", ".guard"))
    return name in ("zones", "pins") or any(key.startswith(f"{name}.") for key in KEYS)


def env_name(name: str) -> str:
    """The environment variable that sets a key."""
    return ENV_PREFIX + name.upper().replace(".", "__")


def from_env_name(variable: str) -> str:
    """The key that an environment variable sets; the inverse of `env_name` for every known key."""
    return variable.removeprefix(ENV_PREFIX).replace("__", ".").lower()


def find(name: str, origin: Origin) -> tuple[str, Key]:
    """The key in its one spelling, and its row; ValueError says what would be right."""
    if name in KEYS:
        return name, KEYS[name]
    if name.startswith("pins."):
        pinned = addresses.read_name(name.removeprefix("pins."))
        return f"pins.{pinned}", PIN
    if parts := _zone_and_leaf(name):
        zone, leaf = parts
        return f"zones.{addresses.read_name(zone)}.{leaf}", ZONE_KEYS[leaf]
    near = nearest(name)
    raise ValueError(
        f"no such key; the nearest is {env_name(near) if origin.layer == 'env' else near}"
    )


def nearest(name: str) -> str:
    """The known key most like `name`, with the zone that `name` seems to speak of."""
    import difflib  # only a mistake needs it

    candidates = [*KEYS, *(f"zones.<zone>.{leaf}" for leaf in ZONE_KEYS)]
    if name.startswith("zones."):
        labels = name.removeprefix("zones.").split(".")[:ZONE_GUESSES_MAX]
        heads = {".".join(labels[: n + 1]) or "." for n in range(len(labels))}
        candidates = [f"zones.{head}.{leaf}" for head in sorted(heads) for leaf in ZONE_KEYS]
    return difflib.get_close_matches(name, candidates, n=1, cutoff=0.0)[0]


def _zone_and_leaf(name: str) -> tuple[str, str] | None:
    rest = name.removeprefix("zones.")
    if rest == name:
        return None
    for leaf in ZONE_KEYS:
        if rest.endswith(f".{leaf}"):
            return rest[: -len(leaf) - 1], leaf
    return None

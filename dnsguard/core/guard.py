"""Whether a zone's source is to be believed when it denies what it has just affirmed.

A name that had an answer and now has none has *flipped*. One flip is a deletion; many at once, of
different names, are a source that is sick: a control plane that has lost its nodes, a replica that
has missed what happened. So flips are compared with what else was refreshed within a window, among
names like them: those whose addresses lie near theirs, because Service addresses and pod addresses
are handed out by different parts of a cluster and fail apart, and over the whole zone. Names of one
namespace that go together, while other namespaces stay, are that namespace's own business.
Here is only the judgement; `guarding` and `doubting` ask, hold and restore because of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import ceil, inf
from typing import TYPE_CHECKING

from dnsguard.core.entry import NEVER
from dnsguard.core.policy import GuardPolicy
from dnsguard.core.wire import RECORD, name_octets, name_text

if TYPE_CHECKING:
    from dnsguard.core.entry import Entry
    from dnsguard.core.sending import Chance

NAMES_MAX = 2048  # names of one pool that may be asked for a sample
POOLS_MAX = 64
SAMPLE_SECONDS = 1.0  # a name that was affirmed so lately says enough
SAMPLES_MAX = 64  # questions of the guard's own within one window, whatever flips: bounds its cost
# Equal denials, from several places and ports, before one is believed: one of two replicas that
# lies is asked so often in a row once in 64 times.
LOOKS = 6
# A name that was denied and affirmed within DISPUTE_SECONDS: one of several replicas lies. With two
# of them, of which one does, so many denials in a row come by chance once in a million times. A
# name that is there costs two looks on average all the same: the first that affirms it ends them.
LOOKS_DISPUTED = 20
DISPUTE_SECONDS = 600.0
DISPUTES_MAX = 1024
EMPTIED_MAX = 1024
LIAR_NAMES, LIAR_SECONDS = 2, 60.0  # so many disputed so lately: the replica lies of others too
# Where so few names are known that `mass_min` may never be reached, as beside one pod: all of them,
# if they are so many, of so many Services. One Deployment that is scaled to zero is one Service.
WHOLE_MIN, WHOLE_SERVICES = 3, 2
# Where there are but two, it is enough that they fall in the same moment, and not as all that is
# known of a namespace while others stand.
PAIR_SECONDS = 2.5
TURNED_SHARE = 0.5  # of what was heard since, that is denied: a source that has turned
ELSEWHERE_MIN = 2  # names of other namespaces than the one that loses most, for it to be an event
COMPANIONS_MIN = 2  # names of a namespace that are denied, for all of its names to be asked for
LEAVE_SHARE = 0.5  # of mass_fraction: what may still be denied when doubt ends, lest it flap
# Half of what was denied is back, and of the rest, each of which was asked for twice, nobody has
# followed for so long: they were deleted meanwhile, and must not keep the zone in doubt.
RETURNED_SHARE, QUIET_SECONDS = 0.5, 300.0
# A judgement that found nothing stands until so many more names are denied, for so long: it walks
# through all names that are known, which many deletions at once would make it do for each.
CALM_GROWTH, CALM_SECONDS = 1.1, 0.1
NAMESPACE, SERVICE = 2, 3  # labels below the cluster's domain: web.shop.svc
A, AAAA = b"\0\x01", b"\0\x1c"  # types, as in a key
_API_SERVER = name_octets("kubernetes.default.svc")[:-1]  # every cluster has it, for good

Pool = tuple[int, ...]


def pool_of(entry: Entry) -> Pool:
    """Return what names like this one have in common: where their addresses lie.

    The first record of the answer counts: 12 bits of an IPv4 address (10.96.0.0/12 is what kubeadm
    gives to Services), 40 of an IPv6 one; for anything else its type.
    """
    wire = entry.wire
    at = entry.offsets[0] - 4
    rtype, _, _, length = RECORD.unpack_from(wire, at)
    data = at + RECORD.size
    if length == 4:
        return rtype, wire[data], wire[data + 1] >> 4
    if length == 16:
        return rtype, *wire[data : data + 5]
    return (rtype,)


class Guard:
    """What one zone's names have said lately. Times are seconds on the boot-time clock."""

    def __init__(self, policy: GuardPolicy, domain: bytes) -> None:
        self.policy = policy
        self.canaries = frozenset((*map(name_octets, policy.canaries), _API_SERVER + domain))
        self.domain = domain
        self.doubt = False
        self.doubt_since = float("-inf")
        self.held: dict[bytes, None] = {}  # keys that are denied and not believed to be gone
        self.ever_held = 0  # how many there have been in this doubt
        self.returned_at = float("-inf")  # when one of them came back last
        self.asked_since = 0  # how many questions for the others have come to nothing since
        self.suspected_at = float("-inf")  # when it was last said what enforce would do
        self._pools: dict[Pool, dict[bytes, float]] = {}  # key: when it was last affirmed
        # name: when it was denied last, its pool, when first, and if it had been affirmed before
        self._flips: dict[bytes, tuple[float, Pool, float, bool]] = {}
        self._disputed: dict[bytes, float] = {}
        self.emptied: dict[bytes, float] = {}  # keys whose addresses are gone, and since when
        self._returning_since = inf  # when the first one came back
        self._apart: set[bytes] = set()  # keys that are judged by themselves in spite of doubt
        self._asked: list[float] = []  # when samples were asked for
        # Below so many denials, and until when, nothing is to be found among names like these.
        self._calm: dict[Pool, tuple[int, float]] = {}

    def obeying(self, other: Guard) -> Guard:
        """Return this guard, which obeys the settings of `other` from now on."""
        self.policy, self.canaries, self.domain = other.policy, other.canaries, other.domain
        return self

    def twin(self) -> Guard:
        """Return another guard that has heard the same so far; it is in no doubt."""
        twin = Guard(self.policy, self.domain)
        twin._pools = {pool: dict(names) for pool, names in self._pools.items()}
        twin._flips = dict(self._flips)
        twin._disputed = dict(self._disputed)
        twin.emptied = dict(self.emptied)
        twin._asked = list(self._asked)
        return twin

    # -- what was heard ---------------------------------------------------------------------

    def affirmed(self, key: bytes, pool: Pool, now: float) -> None:
        """Note that a name that was good is good; `now` may be -inf for one known from before."""
        names = self._pools.get(pool)
        if names is None:
            if len(self._pools) >= POOLS_MAX:
                del self._pools[next(iter(self._pools))]
            names = self._pools[pool] = {}
        names.pop(key, None)
        if len(names) >= NAMES_MAX:
            del names[next(iter(names))]
        names[key] = now
        if self._flips:
            self._flips.pop(key[:-5], None)

    def denied(self, key: bytes, pool: Pool, now: float) -> None:
        """Note that a good name was denied."""
        flips, since = self._flips, now - self.policy.window
        while flips and flips[oldest := next(iter(flips))][0] < since:
            del flips[oldest]
        known = key in self._pools.get(pool, ())
        _, _, first, known = flips.pop(key[:-5], (now, pool, now, known))
        flips[key[:-5]] = now, pool, first, known  # behind the others: the latest is the last

    def dispute(self, key: bytes, now: float) -> None:
        """Note that a name is both denied and affirmed."""
        if len(self._disputed) >= DISPUTES_MAX:
            del self._disputed[next(iter(self._disputed))]
        self._disputed[key[:-5]] = now

    def looks(self, key: bytes, now: float) -> int:
        """Return how many equal denials in a row this name needs."""
        if not self.policy.second_look:
            return 1
        if now - self._disputed.get(key[:-5], NEVER) < DISPUTE_SECONDS:
            return LOOKS_DISPUTED
        lately = sum(now - at < LIAR_SECONDS for at in self._disputed.values())
        return LOOKS_DISPUTED if lately >= LIAR_NAMES else LOOKS

    # -- judgement --------------------------------------------------------------------------

    def suspicion(self, key: bytes, pool: Pool, now: float) -> str:
        """Return why the source is sick, now that `key` was denied; empty if it may be well."""
        name = key[:-5]
        if name in self.canaries:
            return f"the canary {name_text(name)} is denied"
        fewer, until = self._calm.get(pool, (0, NEVER))
        if len(self._flips) < fewer and now < until:
            return ""
        flips = self._lately(now)
        for held in self.held:  # it is known of them, and they are what doubt is about
            flips.pop(held[:-5], None)
        alike = {n for n, p in flips.items() if p == pool}
        if len(flips) < self.policy.mass_min:
            return self._whole(alike, (pool,)) or self._whole(set(flips), self._pools)
        fraction = self.policy.mass_fraction
        reason = (
            self._mass(alike, (pool,), fraction, now)
            or self._mass(set(flips), self._pools, fraction, now)
            or self._turned(set(flips), now)
        )
        if not reason:
            if len(self._calm) >= POOLS_MAX:
                self._calm.clear()
            self._calm[pool] = ceil(CALM_GROWTH * len(flips)), now + CALM_SECONDS
        return reason

    def _whole(self, flipped: set[bytes], pools: Iterable[Pool]) -> str:
        """Return why the source is sick: so few names are known, and all of them are denied.

        A name counts that was affirmed before: of one that was asked for once, and never since,
        nobody can tell what others like it there are.
        """
        known = {name for name in flipped if self._flips[name][3]}
        if len({self.group(name, SERVICE) for name in known}) < WHOLE_SERVICES:
            return ""
        if not flipped.issuperset(key[:-5] for key in self._recent(pools, NEVER)):
            return ""
        if len(known) < WHOLE_MIN and not self._pair(known):
            return ""
        example = name_text(min(known))
        return f"all {len(known)} names like them that are known are denied, {example} for one"

    def _pair(self, names: set[bytes]) -> bool:
        """True if two names fell in the same moment, and not with all that is known beside them."""
        one, other = (self._flips[name][2] for name in names)
        if abs(one - other) > PAIR_SECONDS:
            return False
        groups = set(map(self.group, names))
        stand = {
            self.group(key[:-5])
            for key in self._recent(self._pools, NEVER)
            if key[:-5] not in self._flips
        }
        return len(groups) > 1 or groups <= stand or not stand

    def first_denials(self) -> list[float]:
        """Return when the names that are denied now were denied first."""
        return [first for _, _, first, _ in self._flips.values()]

    def _lately(self, now: float) -> dict[bytes, Pool]:
        """Return the names that were denied within the window, and their pools."""
        since = now - self.policy.window
        return {name: pool for name, (at, pool, *_) in self._flips.items() if at >= since}

    def _turned(self, names: set[bytes], now: float) -> str:
        """Return why the source has turned: of all that it has said lately, most is a denial.

        What was affirmed before an event says nothing of what came after it. So the latest
        `mass_min` denials are held against what was heard since the first of them, which are the
        samples that they were the reason for, at the least.
        """
        latest = sorted(self._flips[name][2] for name in names)[-self.policy.mass_min :]
        flipped = {name for name in names if self._flips[name][2] >= latest[0]}
        affirmed = {key[:-5] for key in self._recent(self._pools, latest[0])} - flipped
        if len(flipped) < TURNED_SHARE * (len(flipped) + len(affirmed)):
            return ""
        groups = Counter(map(self.group, flipped))
        if len(flipped) - max(groups.values()) < ELSEWHERE_MIN:
            return ""  # one namespace alone, of which so short a time says too little
        total, example = len(flipped) + len(affirmed), name_text(min(flipped))
        return (
            f"{len(flipped)} of the {total} names that were asked for within "
            f"the last {now - latest[0]:.1f} s are denied all at once, {example} for one"
        )

    def _mass(self, flipped: set[bytes], pools: Iterable[Pool], fraction: float, now: float) -> str:
        policy = self.policy
        if len(flipped) < policy.mass_min:
            return ""
        affirmed = {key[:-5] for key in self._recent(pools, now - policy.window)} - flipped
        if len(flipped) < fraction * (len(flipped) + len(affirmed)):
            return ""
        if self._one_alone(flipped, affirmed, fraction):
            return ""  # a namespace was deleted: the others are there
        example = name_text(min(flipped))
        return (
            f"{len(flipped)} of {len(flipped) + len(affirmed)} names like them that were asked for "
            f"within {policy.window:g} s are denied all at once, {example} for one"
        )

    def _one_alone(self, flipped: set[bytes], affirmed: set[bytes], fraction: float) -> bool:
        """True if what is denied belongs to one namespace, while others stand.

        A name or two that go elsewhere at the same time, as in a rollout, are no second one.
        """
        denied = Counter(map(self.group, flipped))
        stand = Counter(map(self.group, affirmed))
        sick = {g: n for g, n in denied.items() if n >= fraction * (n + stand[g])}
        healthy = any(group not in sick for group in stand)
        elsewhere = sum(sick.values()) - max(sick.values(), default=0)
        return healthy and (len(sick) < 2 or elsewhere < ELSEWHERE_MIN)

    def _recent(self, pools: Iterable[Pool], since: float) -> Iterator[bytes]:
        for pool in pools:
            for key, at in self._pools.get(pool, {}).items():
                if at >= since and key not in self.held:
                    yield key

    def group(self, name: bytes, depth: int = NAMESPACE) -> bytes:
        """Return what a name belongs to: namespace or Service, or outside the cluster its site."""
        starts = []
        position = 0
        while label := name[position]:
            starts.append(position)
            position += label + 1
        if name.endswith(self.domain) and len(name) > len(self.domain):
            inside = [start for start in starts if start < len(name) - len(self.domain)]
            return name[inside[-depth] :] if len(inside) >= depth else name
        return name[starts[max(len(starts) - 2, 0)] :] if starts else name

    # -- a name without addresses -----------------------------------------------------------

    def empty(self, key: bytes, now: float) -> bool:
        """True if a name that exists and has lost its addresses, as `key` asks for, keeps them.

        It is one name alone, so nothing else tells a mistake from a wish. But who gives up a name
        takes it away, and does not leave it there without an address; within a cluster there are
        no such names. A family of addresses that is withdrawn while the other stays is a wish.
        """
        name, qtype = key[:-5], key[-5:-3]
        if qtype not in (A, AAAA) or name.endswith(self.domain):
            return False
        since = self.emptied.get(key)
        if since is None:
            if self.policy.hold_empty <= 0:
                return False
            if len(self.emptied) >= EMPTIED_MAX:
                del self.emptied[next(iter(self.emptied))]
            since = self.emptied[key] = now
        return now - since < self.policy.hold_empty

    # -- samples ----------------------------------------------------------------------------

    def samples(self, key: bytes, pool: Pool, chance: Chance, now: float) -> list[bytes]:
        """Return keys to ask for now, because what becomes of them tells about the source.

        So many that a deletion among healthy names stays below `mass_fraction`: names like the
        denied one that were not affirmed just now, other namespaces' first.
        """
        since = now - SAMPLE_SECONDS
        wanted = min(ceil(1 / self.policy.mass_fraction), self._may_ask(now))
        own = self.group(key[:-5])
        near: list[bytes] = []
        far: list[bytes] = []
        names = list(self._pools.get(pool, ()))
        first = int(chance.random() * len(names))
        for other in names[first:] + names[:first]:
            if len(far) >= wanted:
                break
            if other[:-5] not in self._flips and self._pools[pool][other] < since:
                (near if self.group(other[:-5]) == own else far).append(other)
        chosen = (far + near)[:wanted]
        self._asked += [now] * len(chosen)
        return chosen

    def companions(self, key: bytes, now: float) -> list[tuple[bytes, Pool]]:
        """Return what else is known of a namespace that loses its names, to ask for now.

        At least two were denied, so it may have been deleted as a whole. Whoever asks for another
        of its names only once an event has begun could not tell it from the event's victims.
        """
        own = self.group(key[:-5])
        if not own.endswith(self.domain):
            return []
        firsts = [first for name, (_, _, first, _) in self._flips.items() if name.endswith(own)]
        if len(firsts) < COMPANIONS_MIN:
            return []
        since = min(firsts)
        chosen = [
            (other, pool)
            for pool, names in self._pools.items()
            for other, at in names.items()
            if at < since and other[:-5].endswith(own) and other[:-5] not in self._flips
        ][: self._may_ask(now)]
        self._asked += [now] * len(chosen)
        return chosen

    def _may_ask(self, now: float) -> int:
        """Return how many more questions of its own the guard may ask now."""
        self._asked = [at for at in self._asked if at >= now - self.policy.window]
        return max(SAMPLES_MAX - len(self._asked), 0)

    def forget(self, key: bytes, pool: Pool) -> None:
        """Ask for this name no more: it is gone."""
        self._pools.get(pool, {}).pop(key, None)

    # -- doubt ------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Go into doubt, or deeper into it."""
        if not self.doubt:
            self.held = {}
        self.doubt, self.doubt_since = True, now
        self.ever_held = len(self.held)
        self.returned_at, self.asked_since = now, 0
        self._returning_since = inf
        self._apart = set()

    def doubts(self, key: bytes, pool: Pool, now: float) -> bool:
        """True if a denied name is held without another look, because the zone is in doubt.

        Not so once the event seems to be over: some of its victims are back, and for a while no
        other has followed. Who was good since the first of them was back, and is denied now, is no
        victim of it, and is judged by itself as without doubt, among names that are not held.
        """
        if not self.doubt or key in self._apart:
            return False
        quiet = (1 if self._back(RETURNED_SHARE) else 2) * self.policy.window
        calm = self._back(self.policy.mass_fraction) and now - self.returned_at >= quiet
        good = self._pools.get(pool, {}).get(key, NEVER) >= self._returning_since
        if key in self.held or not (calm and good):
            return True
        self._apart.add(key)
        return False

    def hold(self, key: bytes) -> None:
        """Do not believe that this name is gone."""
        if key not in self.held:
            self.held[key] = None
            self.ever_held += 1

    def returned(self, key: bytes, now: float) -> None:
        """Note that a name that may be held has an answer again."""
        self._apart.discard(key)
        if key in self.held:
            del self.held[key]
            self._returning_since = min(self._returning_since, now)
            self.returned_at, self.asked_since = now, 0

    def left_behind(self, now: float) -> bool:
        """True if the names that are still denied seem to be no victims, but deleted."""
        asked = self.asked_since >= 2 * len(self.held)
        return self._back(RETURNED_SHARE) and asked and now - self.returned_at >= QUIET_SECONDS

    def _back(self, share: float) -> bool:
        return len(self.held) <= (1 - share) * self.ever_held

    def back(self, now: float) -> bool:
        """True if so few of the denied names are left that doubt is to end."""
        if not self.held:
            return True
        few = LEAVE_SHARE * self.policy.mass_fraction * self.ever_held
        return now - self.doubt_since >= self.policy.window and len(self.held) <= few

    def healed(self, now: float) -> bool:
        """True if doubt is to end: few of the denied names are left, or they are no event any more.

        What is denied now would not by itself, and by half the measure, be an event: it was deleted
        while the source was sick. To find that out takes a walk through all names that are known.
        """
        if self.back(now):
            return True
        lasts = now - self.doubt_since >= self.policy.window
        fraction = LEAVE_SHARE * self.policy.mass_fraction
        flips = self._lately(now)
        kinds = [({n for n in flips if flips[n] == pool}, (pool,)) for pool in {*flips.values()}]
        return lasts and not any(
            self._mass(flipped, pools, fraction, now) or self._whole(flipped, pools)
            for flipped, pools in [*kinds, (set(flips), tuple(self._pools))]
        )

    def end(self) -> list[bytes]:
        """Leave doubt; return the keys that are still denied."""
        left = list(self.held)
        self.doubt = False
        self.held, self.ever_held, self._flips = {}, 0, {}
        return left

"""Carries rules out: by nftables, by iptables, or not at all.

Each way installs, holds (renews what ends by itself), lapses, removes, and says whether somebody
else has changed what it installed. What the rules are stands in `node_nftables` and
`node_iptables`. Whatever goes wrong here leaves packets to cluster DNS, because what keeps them on
the node ends by itself.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import Protocol

from dnsguard.errors import DnsguardError
from dnsguard.kube import node_iptables, node_nftables
from dnsguard.kube.node_iptables import Place
from dnsguard.kube.node_plan import Family, Plan

COMMAND_SECONDS = 10.0  # for one command; those of iptables wait for a lock
WAYS = ("nftables", "iptables", "none")
FAMILIES: tuple[Family, ...] = (4, 6)


class CannotRule(DnsguardError):
    """Rules cannot be had: what was run, and what it said."""


class Rules(Protocol):
    """What each way can do. All of it may raise CannotRule."""

    async def prepare(self) -> None:
        """Have what a watcher needs to ask, and rules at all; those of another watcher stay."""

    async def install(self, alive: bool) -> None:
        """Have all rules, in place of older ones; with the resolver alive or not."""

    async def hold(self) -> bool:
        """Renew the word that it is alive; False if the rules are gone."""

    async def lapse(self) -> None:
        """Take that word back."""

    async def altered(self) -> bool:
        """Whether somebody has changed the rules since they were installed."""

    async def remove(self) -> bool:
        """Take everything away; return whether there was anything."""


def choose(way: str, plan: Plan) -> Rules:
    """Return the way of this name; raises CannotRule if its program is not there."""
    if way == "none":
        return NoRules()
    programs = ["nft"]
    if way == "iptables":
        programs = ["iptables" if version == 4 else "ip6tables" for version in plan.families]
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        package = "nftables" if way == "nftables" else "iptables"
        raise CannotRule(
            f"--rules {way} needs {', '.join(missing)}, which is not there (Debian: apt-get "
            f"install {package}). --rules none gives the addresses alone"
        )
    return Nftables(plan) if way == "nftables" else Iptables(plan)


async def _run(words: list[str], text: str = "") -> tuple[int, str]:
    """Run a command; return its exit code and what it said."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise CannotRule(f"{words[0]}: {error.strerror}") from None
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, _ = await process.communicate(text.encode())
    except TimeoutError:
        raise CannotRule(f"{' '.join(words)}: no end after {COMMAND_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace")


async def _must(words: list[str], text: str = "") -> str:
    code, said = await _run(words, text)
    if code:
        raise CannotRule(f"{' '.join(words)}: {' '.join(said.split()) or f'exit code {code}'}")
    return said


class Nftables:
    """One table for each family, changed in whole transactions."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._installed: dict[Family, str] = {}

    async def prepare(self) -> None:
        """See Rules."""
        await _must(["nft", "-f", "-"], node_nftables.prepare(self._plan))
        for version in self._plan.families:
            code, _ = await _run(["nft", *node_nftables.listing(version)])
            if code:
                await self.install(alive=False)
                return

    async def install(self, alive: bool) -> None:
        """See Rules."""
        await _must(["nft", "-f", "-"], node_nftables.install(self._plan, alive))
        for version in self._plan.families:
            self._installed[version] = await _must(["nft", *node_nftables.listing(version)])

    async def hold(self) -> bool:
        """See Rules."""
        code, _ = await _run(["nft", "-f", "-"], node_nftables.hold(self._plan))
        return code == 0

    async def lapse(self) -> None:
        """See Rules."""
        await _run(["nft", "-f", "-"], node_nftables.lapse(self._plan))

    async def altered(self) -> bool:
        """See Rules."""
        for version, installed in self._installed.items():
            code, said = await _run(["nft", *node_nftables.listing(version)])
            if code or said != installed:
                return True
        return False

    async def remove(self) -> bool:
        """See Rules."""
        there = False
        for version in FAMILIES:
            code, _ = await _run(["nft", *node_nftables.listing(version)])
            there = there or code == 0
        await _must(["nft", "-f", "-"], node_nftables.remove())
        return there


class Iptables:
    """Rules at the head of chains that everybody shares, each put in and taken out by itself.

    They are known by their comment and taken out by their number: iptables over nftables does not
    find a rule with `recent` by what it says.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rules = node_iptables.rules(plan)
        self._installed: dict[Place, list[str]] | None = None

    async def prepare(self) -> None:
        """See Rules."""
        await self.install(alive=False)

    async def install(self, alive: bool) -> None:
        """See Rules."""
        if self._installed is None or await self._listed() != self._installed:
            before = await self._numbers()
            for rule in self._rules:
                await _must(rule.command("-I"))
            # Only now: the kernel's list of who is alive goes with the last rule that asks for it.
            for place, numbers in before.items():
                new = sum((rule.family, rule.table, rule.chain) == place for rule in self._rules)
                await self._delete(place, [number + new for number in numbers])
            self._installed = await self._listed()
        if alive:
            self._lease("+")

    async def hold(self) -> bool:
        """See Rules."""
        return self._lease("+")

    async def lapse(self) -> None:
        """See Rules."""
        self._lease("-")

    async def altered(self) -> bool:
        """See Rules."""
        return self._installed is not None and await self._listed() != self._installed

    async def remove(self) -> bool:
        """See Rules."""
        self._lease("-")
        there = await self._numbers()
        for place, numbers in there.items():
            await self._delete(place, numbers)
        return any(there.values())

    @staticmethod
    async def _lines() -> dict[Place, list[str]]:
        """The rules of each chain that may have ours, in order."""
        found = {}
        for place in node_iptables.PLACES:
            show = node_iptables.show(*place)
            if shutil.which(show[0]) is not None:
                code, said = await _run(show)
                rules = [line for line in said.splitlines() if line.startswith("-A ")]
                found[place] = [] if code else rules
        return found

    async def _listed(self) -> dict[Place, list[str]]:
        return {place: [line for line in lines if node_iptables.is_ours(line)]
                for place, lines in (await self._lines()).items()}  # fmt: skip

    async def _numbers(self) -> dict[Place, list[int]]:
        """The numbers of our rules in each chain."""
        return {
            place: [at for at, line in enumerate(lines, 1) if node_iptables.is_ours(line)]
            for place, lines in (await self._lines()).items()
        }

    @staticmethod
    async def _delete(place: Place, numbers: list[int]) -> None:
        for number in reversed(numbers):  # those behind it move up
            await _must(node_iptables.delete(*place, number))

    def _lease(self, sign: str) -> bool:
        """Write each address to the kernel's list; False if it has none, as no rule asks for it."""
        try:
            for version in self._plan.families:
                for address in self._plan.of(version).addresses:
                    with open(node_iptables.lease_file(version), "w", encoding="ascii") as file:
                        file.write(f"{sign}{address}\n")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CannotRule(f"{error.filename}: {error.strerror}") from None
        return True


class NoRules:
    """The addresses alone: packets to them reach the resolver through connection tracking."""

    async def prepare(self) -> None:
        """See Rules."""

    async def install(self, alive: bool) -> None:
        """See Rules."""

    async def hold(self) -> bool:
        """See Rules."""
        return True

    async def lapse(self) -> None:
        """See Rules."""

    async def altered(self) -> bool:
        """See Rules."""
        return False

    async def remove(self) -> bool:
        """See Rules."""
        return False


async def remove_all(plan: Plan) -> list[str]:
    """Take away the rules of every way whose programs are there; return in words what was there."""
    done = []
    for way in WAYS[:-1]:
        try:
            rules = choose(way, plan)
        except CannotRule:  # without the program there are no rules by it
            continue
        if await rules.remove():
            done.append(f"rules ({way})")
    return done

"""`dnsguard bench simulate`: what programs would have seen of an outage, in virtual time.

Reads the options, shows how far the replay is, and hands the result on. The replay is
`dnsguard.sim`'s. Exit codes: 0 when there is a result, 130 when Ctrl-C left some of it out, 2 when
what was asked for cannot be.
"""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnsguard import __version__
from dnsguard.cli import outage_report
from dnsguard.config import Given, Origin, Settings, load
from dnsguard.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from dnsguard.sim.result import Result, ScenarioRun
    from dnsguard.sim.scenario import Scenario
    from dnsguard.sim.simulate import Contender

INTERRUPTED = 130
RUNS_MAX = 1000
FLEET_MAX = 10_000
SOME_SERVER = "192.0.2.53"  # settings have to name an upstream; the scenario's take its place
NOT_SHOWN = ("listen", "admin.listen", "upstreams")  # settings that mean nothing to a replay

Tell = Callable[[str, int, float], None]


def _names(text: str | None) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _sweep(
    _context: click.Context, option: click.Parameter, text: str | None
) -> tuple[str, list[str]] | None:
    if text is None:
        return None
    key, equals, values = text.partition("=")
    found = _names(values)
    if not equals or not key.strip() or not found:
        raise click.BadParameter(
            f"{text!r}: write a setting and its values, such as stale.max_age=1h,1d,3d.",
            param=option,
        )
    return key.strip(), found


def _load(file: Path | None, given: Sequence[Given]) -> Settings:
    """The settings of a file and of flags, and nobody's environment: a result names its command."""
    settings = load(given, {}, file, lambda: (SOME_SERVER,))
    if settings.policy.kubernetes.autopath:
        expected = "off: in a replay the programs of all namespaces share a cache"
        raise ConfigError([Mistake("kubernetes.autopath", "on", expected)])
    return settings


def _changed(settings: Settings) -> dict[str, str]:
    """The settings that are not the defaults, as a reader of the result wants them."""
    return {
        key: str(effective.value)
        for key, effective in settings.effective.items()
        if effective.origin.layer != "default" and not key.endswith(NOT_SHOWN)
    }


def _contenders(
    systems: Sequence[str], file: Path | None, sweep: tuple[str, list[str]] | None
) -> list[Contender]:
    """What is put through the scenarios: dnsguard, once for every value swept, and the others."""
    from dnsguard.sim import simulate

    variants: list[tuple[str, list[Given]]] = [(simulate.DNSGUARD, [])]
    if sweep is not None:
        key, values = sweep
        variants = [
            (f"{key}={value}", [Given(key, value, Origin("flag", "--sweep"))]) for value in values
        ]
    loaded = [(name, _load(file, given)) for name, given in variants]
    ours = [
        simulate.dnsguard(settings.policy, __version__, _changed(settings), name)
        for name, settings in loaded
    ]
    others = {model.name: model for model in simulate.models()}
    wanted = list(systems) or ([simulate.DNSGUARD] if sweep else [simulate.DNSGUARD, *others])
    found: list[Contender] = []
    for name in dict.fromkeys(wanted):
        if name == simulate.DNSGUARD:
            found += ours
        elif name in others:
            found.append(others[name])
        else:
            known = [simulate.DNSGUARD, *others]
            near = difflib.get_close_matches(name, known, 1, cutoff=0.0)[0]
            raise click.UsageError(
                f"There is no system {name!r}; the nearest is {near}, all are {', '.join(known)}."
            )
    return found


@contextmanager
def _shown(runs: int) -> Iterator[Callable[[Scenario], Tell]]:
    """Show how far each replay is, on stderr: a bar on a terminal, else a line when one ends."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda scenario: _told_at_end(scenario, runs)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}")
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bars:
        task = bars.add_task("", total=1.0, told="")

        def telling(scenario: Scenario) -> Tell:
            def tell(system: str, turn: int, at: float) -> None:
                run = f", run {turn + 1} of {runs}" if runs > 1 else ""
                bars.update(
                    task, description=f"{scenario.name}: {system}{run}",
                    completed=at, total=scenario.length,
                    told=f"{_clock(at)} of {_clock(scenario.length)}",
                )  # fmt: skip
                bars.refresh()

            return tell

        yield telling


def _told_at_end(scenario: Scenario, runs: int) -> Tell:
    def tell(system: str, turn: int, at: float) -> None:
        if at >= scenario.length and turn + 1 == runs:
            click.echo(f"{scenario.name}: {system}: {_clock(at)} replayed", err=True)

    return tell


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _command_line() -> str:
    return shlex.join(["dnsguard", *sys.argv[1:]])


def _replay(
    scenarios: Sequence[Scenario], contenders: Sequence[Contender], seeds: Sequence[int],
    fleet: int | None,
) -> Result:  # fmt: skip
    from dnsguard.sim import simulate
    from dnsguard.sim.compare import compare
    from dnsguard.sim.result import Result

    done: list[ScenarioRun] = []
    notes: list[str] = []
    if fleet is not None:
        sample = simulate.sampled(fleet)
        notes.append(
            f"A fleet of {fleet:,} caches: {sample} are replayed, each with its own clients, and "
            f"each stands for {fleet // sample:,}. Queries sent upstream are those of all."
        )
    with _shown(len(seeds)) as telling:
        try:
            done.extend(compare(one, contenders, seeds, telling(one), fleet) for one in scenarios)
        except KeyboardInterrupt:
            left = len(scenarios) - len(done)
            notes.append(f"Interrupted: {left} of {len(scenarios)} scenarios were left out.")
    return Result(simulate.made(_command_line(), seeds, notes), tuple(done))


@click.command(name="simulate")
@click.argument("names", metavar="[SCENARIO]...", nargs=-1)
@click.option(
    "--systems",
    metavar="NAME,…",
    help="Only these: dnsguard, no-cache, or a model of another server. [all]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="Everything is drawn from it: the same seed gives the same result.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, RUNS_MAX),
    default=1,
    show_default=True,
    metavar="N",
    help="Replay with so many seeds, one after another from --seed, and say what is sure (95 %).",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Try these settings of dnsguard; upstreams are the scenario's.",
)
@click.option(
    "--sweep",
    metavar="KEY=VALUE,…",
    callback=_sweep,
    help="Try dnsguard with each value of a setting, such as stale.max_age=1h,1d,3d.",
)
@click.option(
    "--fleet",
    type=click.IntRange(1, FLEET_MAX),
    metavar="N",
    help="A cluster of N caches (a sample is replayed); queries sent upstream are those of all.",
)
@outage_report.options
def command(
    names: tuple[str, ...],
    systems: str | None,
    seed: int,
    runs: int,
    config: Path | None,
    sweep: tuple[str, list[str]] | None,
    fleet: int | None,
    json_: Path | None,
    html: Path | None,
) -> None:
    """Replay outages in virtual time, through dnsguard and models of other caches.

    SCENARIO is a name of the library (`dnsguard bench scenarios` lists them) or the path of a file;
    without any, all of the library are replayed. dnsguard is the code that serves in production;
    the others are models, and docs/outages.md says what is in them.
    """
    from dnsguard.sim import library

    scenarios = [library.load(name) for name in names] if names else library.everything()
    contenders = _contenders(_names(systems), config, sweep)
    click.echo(f"seed {seed}" + (f" to {seed + runs - 1}" if runs > 1 else ""), err=True)
    result = _replay(scenarios, contenders, range(seed, seed + runs), fleet)
    if result.scenarios:
        outage_report.tell(result, json_, html)
    if len(result.scenarios) < len(scenarios):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)

"""`dnsguard node`: one dnsguard for all pods of a Kubernetes node, its addresses and its rules."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from dnsguard.cli.options import load_settings, serve_options
from dnsguard.config import Address, Settings
from dnsguard.config.addresses import read_address_or_off, read_upstream
from dnsguard.errors import DnsguardError
from dnsguard.kube.node_plan import INTERFACE, LINK_LOCAL, PORT, Plan, plan

if TYPE_CHECKING:
    from dnsguard.kube.node_agent import Agent
    from dnsguard.kube.node_rules import Rules

NONE = "none"
OWN_ZONE = "dnsguard.invalid"
WORKERS_MIN = 2  # when one dies, or is killed for its memory, the other answers
Command = TypeVar("Command", bound=Callable[..., Any])

_PLACE = (
    click.option(
        "--address", multiple=True, metavar="ADDR|none",
        help=f"The node's own address that pods name in resolv.conf. [{LINK_LOCAL}]",
    ),
    click.option(
        "--service-address", multiple=True, metavar="ADDR",
        help="Address of the cluster DNS Service, to answer for it as well; not with kube-proxy's "
        "IPVS mode (repeatable).",
    ),
    click.option(
        "--interface", default=INTERFACE, metavar="NAME",
        help=f"Where the addresses are; made if it is not there. [{INTERFACE}]",
    ),
    click.option(
        "--rules", type=click.Choice(["nftables", "iptables", NONE]), default="nftables",
        help="How packets are kept on the node. [nftables]",
    ),
    click.option(
        "--fallback", multiple=True, metavar="ADDR",
        help="Who gets the questions to --address while the resolver is dead. [the first upstream]",
    ),
)  # fmt: skip
_WATCH = (
    click.option(
        "--at-end", type=click.Choice(["remove", "fallback"]), default="remove",
        help="At SIGTERM take everything away, or leave rules that send every packet to cluster "
        "DNS. A newer watcher on the node takes over either way. [remove]",
    ),
    click.option(
        "--node-admin", default="127.0.0.1:9353", metavar="ADDR:PORT|off",
        help="The watcher's own health and metrics over HTTP. [127.0.0.1:9353]",
    ),
    click.option(
        "--linger", type=click.FloatRange(0, 60), default=5.0, metavar="SECONDS",
        help="Leave the addresses so long after SIGTERM, for answers under way. [5]",
    ),
)  # fmt: skip
_OWN = click.option(
    "--own", envvar="OWN_NAME", metavar="NAME",
    help="A name that this resolver has pinned to ADDRESS and no other has: what an update waits "
    "for (or OWN_NAME in the environment).",
)  # fmt: skip
_UPSTREAM = click.option(
    "--upstream", multiple=True, metavar="URL",
    help="Whom the resolver asks: never an address of --service-address (repeatable).",
)  # fmt: skip
_LOG_FORMAT = click.option("--log-format", type=click.Choice(["text", "json"]), default="text")


def _with(options: Sequence[Callable[[Any], Any]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(name="node")
def command() -> None:
    """Answer for all pods of a node, from an address of the node.

    Packets are kept on the node only while its resolver answers; otherwise they go to cluster DNS.
    Needs root, or the capabilities NET_ADMIN and NET_BIND_SERVICE.
    """


@command.command("run")
@_with(_PLACE)
@_with(_WATCH)
@serve_options
def run(**options: Any) -> None:
    """Set the node up, run the resolver (at least two workers) and watch over both.

    Takes every option of `dnsguard serve`; what to listen at follows from --address and
    --service-address.
    """
    parts = _parts()
    if options["listen"]:
        raise click.UsageError(
            "--listen: node run listens at port 53 of --address and --service-address"
        )
    settings = load_settings({**options, "takeover": True})
    upstreams = [(u.host, u.port) for zone in settings.policy.zones for u in zone.upstreams]
    wanted = _plan(options, upstreams)
    own = f"r{secrets.token_hex(8)}.{OWN_ZONE}"
    arguments = _serve_arguments(options, wanted, settings, own)
    rules = parts.choose(options["rules"], wanted)
    _go(lambda agent, stop: _run(agent, stop, arguments), wanted, rules, options, own)


@command.command("watch")
@_with(_PLACE)
@_UPSTREAM
@_OWN
@_with(_WATCH)
@_LOG_FORMAT
def watch(**options: Any) -> None:
    """Set the node up and watch over a resolver that runs elsewhere, such as in its own container.

    That is a `dnsguard serve --takeover` which listens at the same addresses and has the setting
    pins.alive.dnsguard.invalid=ADDRESS, so that it can be told from another.
    """
    parts = _parts()
    wanted = _plan(options, _upstreams(options["upstream"]))
    rules = parts.choose(options["rules"], wanted)

    async def alone(agent: Agent, stop: asyncio.Event) -> None:
        await agent.prepare()
        await agent.run(stop)
        await agent.finish(_nothing)

    _go(alone, wanted, rules, options, options["own"])


@command.command("ready")
@_PLACE[0]
@_OWN
def ready(own: str | None, **options: Any) -> None:
    """Ask whether the resolver that has pinned --own answers; exit code 0 if it does.

    For a startup probe: over HTTP an older pod may answer in its place.
    """
    _parts()
    from dnsguard.kube.node_check import mine

    wanted = plan(options["address"] or (LINK_LOCAL,), (), ())
    if own is None:
        raise click.UsageError("--own NAME, or OWN_NAME in the environment")
    if not asyncio.run(mine(wanted.addresses[0], own)):
        raise DnsguardError(f"nobody who knows {own} answers at {wanted.addresses[0]} yet")


@command.command("setup")
@_with(_PLACE)
@_UPSTREAM
@click.option("--dry-run", is_flag=True, help="Print the rules, and do nothing.")
def setup(dry_run: bool, **options: Any) -> None:
    """Put addresses and rules in place, without keeping a packet yet.

    Rules of a watcher that runs are left as they are.
    """
    parts = _parts()
    wanted = _plan(options, _upstreams(options["upstream"]))
    if dry_run:
        click.echo("\n".join(_shown(wanted, options["rules"])))
        return
    rules = parts.choose(options["rules"], wanted)

    async def work() -> list[str]:
        done = await parts.ensure(wanted)
        if parts.others():
            done.append("a watcher runs here: its rules stay")
        else:
            await rules.prepare()
            await rules.install(alive=False)
            done.append(f"rules ({options['rules']})")
        return done

    for text in asyncio.run(work()):
        click.echo(text)


@command.command("teardown")
@_with(_PLACE[:3])
def teardown(**options: Any) -> None:
    """Take addresses and rules away, also what a watcher that was killed has left."""
    parts = _parts()
    wanted = _plan(options, [])

    async def work() -> list[str]:
        if parts.others():
            raise DnsguardError(
                "a watcher runs on this node and would put everything back: stop it first"
            )
        return [*await parts.remove_all(wanted), *await parts.remove(wanted)]

    for text in asyncio.run(work()) or ["nothing was there"]:
        click.echo(text)


# -- parts ---------------------------------------------------------------------------------------


class _Parts:
    """What needs the packages of the extra `kube`."""

    def __init__(self) -> None:
        from dnsguard.kube.node_company import others
        from dnsguard.kube.node_link import ensure, remove
        from dnsguard.kube.node_rules import choose, remove_all

        self.others, self.ensure, self.remove = others, ensure, remove
        self.choose, self.remove_all = choose, remove_all


def _parts() -> _Parts:
    try:
        return _Parts()
    except ImportError as error:
        raise DnsguardError(f"node mode needs {error.name}: pip install 'dnsguard[kube]'") from None


def _plan(options: dict[str, Any], upstreams: Sequence[tuple[str, int]]) -> Plan:
    given = options["address"] or (LINK_LOCAL,)
    fallback = options.get("fallback", ())
    found = plan(
        [text for text in given if text != NONE], options["service_address"], upstreams,
        fallback, options["interface"],
    )  # fmt: skip
    # The upstream is a Service, as a rule, whose address iptables cannot give to a packet.
    return (
        replace(found, fallback=())
        if options.get("rules") == "iptables" and not fallback
        else found
    )


def _upstreams(urls: Sequence[str]) -> list[tuple[str, int]]:
    found = []
    for url in urls:
        try:
            upstream = read_upstream(url)
        except ValueError as wrong:
            raise click.BadParameter(f"{url}: {wrong}", param_hint="--upstream") from None
        found.append((upstream.host, upstream.port))
    return found


def _listen(wanted: Plan) -> list[str]:
    return [str(Address(address, PORT)) for address in wanted.addresses]


def _assignments(wanted: Plan, settings: Settings, own: str) -> list[str]:
    from dnsguard.kube.node_check import PINNED

    found = [f"pins.{name}={','.join(wanted.addresses)}" for name in (PINNED, own)]
    if settings.workers < WORKERS_MIN:
        found.append(f"workers={WORKERS_MIN}")
    return found


def _serve_arguments(
    options: dict[str, Any], wanted: Plan, settings: Settings, own: str
) -> list[str]:
    """The arguments of the resolver's own process."""
    found = ["--takeover"]
    for address in _listen(wanted):
        found += ["--listen", address]
    for assignment in (*options["assignments"], *_assignments(wanted, settings, own)):
        found += ["--set", assignment]
    for name in ("upstream", "zone"):
        for text in options[name]:
            found += [f"--{name}", text]
    for name in ("config", "admin", "state_dir", "log_format", "log_level"):
        if options[name] is not None:
            found += [f"--{name.replace('_', '-')}", options[name]]
    return [*found, "--no-state"] if options["no_state"] else found


def _shown(wanted: Plan, way: str) -> list[str]:
    """The rules as they would be put in place."""
    import shlex

    from dnsguard.kube import node_iptables, node_nftables

    if way == NONE:
        return ["# no rules"]
    if way == "iptables":
        return [shlex.join(rule.command("-I")) for rule in node_iptables.rules(wanted)]
    return [node_nftables.install(wanted, alive=False).rstrip()]


# -- running -------------------------------------------------------------------------------------

Work = Callable[["Agent", asyncio.Event], Any]


def _go(work: Work, wanted: Plan, rules: Rules, options: dict[str, Any], own: str | None) -> None:
    """Run a watcher until a signal, with its log and its HTTP."""
    from dnsguard import logs
    from dnsguard.kube.node_agent import Agent, Times
    from dnsguard.kube.node_check import mine

    def say(level: str, text: str) -> None:
        logs.logger.log({"info": 20, "warning": 30, "error": 40}[level], "node: %s", text)

    try:
        admin = read_address_or_off(options["node_admin"])
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), param_hint="--node-admin") from None
    style: Literal["text", "json"] = "json" if options["log_format"] == "json" else "text"

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, stop)
        agent = Agent(
            wanted, rules, say, options["at_end"], Times(linger=options["linger"]),
            mine=None if own is None else lambda: mine(wanted.addresses[0], own),
        )  # fmt: skip
        close = await _serve_admin(agent, admin)
        try:
            await work(agent, stop)
        finally:
            await close()

    log = logs.start(style, "info")
    try:
        asyncio.run(main())
    finally:
        log.stop()


def _stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        raise SystemExit(1)
    stop.set()


async def _run(agent: Agent, stop: asyncio.Event, arguments: Sequence[str]) -> None:
    """Watch with a resolver of our own."""
    from dnsguard.kube.node_resolver import Resolver

    failed: list[int] = []

    def ended(code: int) -> None:
        from dnsguard.logs import logger

        agent.resolver_ended()
        logger.error("node: the resolver has ended with code %d", code)
        if not agent.joined:  # it has never answered: what it said on stderr is why
            failed.append(code)
            stop.set()

    await agent.prepare()
    resolver = Resolver(arguments, ended)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, resolver.signal, signal.SIGHUP)
    child = loop.create_task(resolver.run())
    try:
        await agent.run(stop)
        await agent.finish(resolver.stop)
    finally:
        await resolver.stop()
        child.cancel()
        await asyncio.gather(child, return_exceptions=True)
    if failed:
        raise DnsguardError(f"the resolver ended with code {failed[0]} before it ever answered")


async def _serve_admin(agent: Agent, address: Address | None) -> Callable[[], Any]:
    """Serve health and metrics; return what ends it."""
    if address is None:
        return _nothing
    from dnsguard.admin.http import HttpServer, Reply, Request

    def livez(_: Request) -> Reply:
        return Reply.text(HTTPStatus.OK, "alive")

    def readyz(_: Request) -> Reply:
        if agent.keeping and agent.joined:
            return Reply.text(HTTPStatus.OK, "ready")
        return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the resolver does not answer")

    def metrics(_: Request) -> Reply:
        return Reply(HTTPStatus.OK, agent.metrics(), "text/plain; version=0.0.4; charset=utf-8")

    server = HttpServer({"/livez": livez, "/readyz": readyz, "/metrics": metrics})
    try:
        await server.listen(address.host, address.port, reuse_port=True)
    except OSError as error:
        raise DnsguardError(
            f"--node-admin {address}: {error.strerror}. Choose another, or off"
        ) from None
    return server.close


async def _nothing() -> None:
    """What is to be done where nothing is."""

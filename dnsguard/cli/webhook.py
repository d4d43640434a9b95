"""`dnsguard webhook`: puts the sidecar into pods that an API server is about to create."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import click

from dnsguard.cli.inject import check_settings, read_profile
from dnsguard.errors import DnsguardError
from dnsguard.kube.profile import Profile


@click.command(name="webhook")
@click.option("--tls-cert", required=True, metavar="FILE", help="Certificate chain, PEM.")
@click.option("--tls-key", required=True, metavar="FILE", help="Its key, PEM.")
@click.option(
    "--values",
    metavar="FILE",
    help="What is injected, as for `dnsguard inject`; read again when it changes.",
)
@click.option(
    "--upstream",
    multiple=True,
    metavar="URL",
    help="Address of the cluster's DNS Service (repeatable).",
)
@click.option("--image", metavar="IMAGE", help="The sidecar's image.")
@click.option("--listen", default="0.0.0.0:9443", metavar="ADDR:PORT", help="[0.0.0.0:9443]")
@click.option(
    "--admin",
    default="127.0.0.1:9153",
    metavar="ADDR:PORT",
    help="Health and metrics over HTTP. [127.0.0.1:9153]",
)
@click.option(
    "--linger",
    default=5.0,
    metavar="SECONDS",
    type=click.FloatRange(0, 60),
    help="Go on serving for so long after SIGTERM. [5]",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
def command(
    tls_cert: str, tls_key: str, values: str | None, upstream: tuple[str, ...], image: str | None,
    listen: str, admin: str, linger: float, log_format: str,
) -> None:  # fmt: skip
    """Answer a Kubernetes API server's admission reviews: inject dnsguard into new pods.

    The patch is the one of `dnsguard inject`. Certificate and values are taken again when they
    change. No pod is ever refused. The Helm chart deploys this.
    """
    try:
        from dnsguard.kube.webhook import Files, Webhook
    except ImportError as error:
        raise DnsguardError(
            f"the webhook needs {error.name}: pip install 'dnsguard[kube]'"
        ) from None
    from dnsguard import logs
    from dnsguard.config.addresses import read_address
    from dnsguard.kube.inject import complete

    def address(flag: str, text: str) -> tuple[str, int]:
        try:
            return read_address(text)
        except ValueError as wrong:
            raise click.BadParameter(f"{text}: {wrong}", param_hint=flag) from None

    def say(level: str, text: str) -> None:
        logs.logger.log({"info": 20, "warning": 30, "error": 40}[level], "%s", text)

    def read() -> Profile:
        profile = read_profile(values, {"upstream": upstream, "image": image})
        complete(profile, "every namespace", values or "command line", check_settings)
        return profile

    async def run() -> None:
        hook = Webhook(Files(tls_cert, tls_key, values), read, check_settings, say)
        if why := hook.prepare():
            raise DnsguardError(f"the webhook cannot start: {why}")
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            ports = await hook.start(places[0], places[1])
        except OSError as error:
            raise DnsguardError(f"the webhook cannot listen: {error.strerror or error}") from None
        say("info", f"webhook ready: reviews on port {ports[0]}, health and metrics on {ports[1]}")
        await stop.wait()
        say("info", "stopping")
        await hook.stop(linger)

    places = (address("--listen", listen), address("--admin", admin))
    log = logs.start("json" if log_format == "json" else "text", "info")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run())
    finally:
        log.stop()
        sys.stdout.flush()

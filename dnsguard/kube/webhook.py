"""The admission webhook's face: reviews over HTTPS, health and metrics over HTTP beside it.

aiohttp reads the requests, since whoever reaches the port may send anything; `review` answers them.
Certificate and values are looked at every few seconds and taken without a restart. Whatever goes
wrong here, no pod waits longer than the API server's time-out: the configuration says Ignore.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from dnsguard import __version__
from dnsguard.kube.files import Watched, server_context, take_certificate
from dnsguard.kube.profile import Check, Profile
from dnsguard.kube.review import NotAReview, answer

# A review holds one pod, and objects in etcd end at 1.5 MiB.
BODY_BYTES_MAX = 4 << 20
BODY_SECONDS = 5.0  # as long as the API server waits for all of it
LOOK_SECONDS = 5.0  # between looks at the files; a kubelet brings them every minute or so
OUTCOMES = ("injected", "skipped", "failed")

Say = Callable[[str, str], None]  # level, text


@dataclass(frozen=True, slots=True)
class Files:
    """What is read again when it changes."""

    certificate: str
    key: str
    values: str | None


class Webhook:
    """Reviews, health and metrics. `read` reads the values file, or raises."""

    def __init__(self, files: Files, read: Callable[[], Profile], check: Check, say: Say) -> None:
        self._read, self._check, self._say = read, check, say
        self._profile = Profile()
        self._context = server_context()
        self._stopping = False
        self._runners: list[web.AppRunner] = []
        self._looking: asyncio.Task[None] | None = None
        self._watched = [
            Watched(
                (files.certificate, files.key),
                lambda: take_certificate(self._context, files.certificate, files.key),
            ),
            Watched((files.values,) if files.values else (), self._take_values),
        ]
        self._registry = registry = CollectorRegistry()
        self._reviews = Counter(
            "dnsguard_webhook_reviews", "Pods reviewed, by what came of it.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        for outcome in OUTCOMES:
            self._reviews.labels(outcome)
        self._bad = Counter(
            "dnsguard_webhook_bad_requests", "Requests that were no reviews.", registry=registry
        )
        self._reloads = Counter(
            "dnsguard_webhook_reloads", "New certificates and values, taken or refused.",
            ["result"], registry=registry,
        )  # fmt: skip
        for result in ("taken", "refused"):
            self._reloads.labels(result)
        info = Gauge("dnsguard_build_info", "Always 1.", ["version"], registry=registry)
        info.labels(__version__).set(1)

    def prepare(self) -> str:
        """Read the files for the first time; return why that cannot be done, or nothing."""
        why = []
        for each in self._watched:
            wrong = each.look()
            if wrong:
                why.append(
                    ": ".join([*filter(None, [", ".join(dict.fromkeys(each.paths))]), wrong])
                )
        return "; ".join(why)

    async def start(self, listen: tuple[str, int], admin: tuple[str, int]) -> tuple[int, int]:
        """Begin to serve; return both ports. Raises OSError if one cannot be had."""
        reviews = web.Application(client_max_size=BODY_BYTES_MAX)
        reviews.router.add_post("/inject", self._review)
        reviews.router.add_post("/inject/annotated", self._review)
        beside = web.Application()
        for path, route in (
            ("/livez", self._livez), ("/readyz", self._readyz), ("/metrics", self._metrics),
        ):  # fmt: skip
            beside.router.add_get(path, route)
        ports = []
        for app, (host, port), context in (
            (reviews, listen, self._context), (beside, admin, None),
        ):  # fmt: skip
            runner = web.AppRunner(app, access_log=None, handle_signals=False)
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, host, port, ssl_context=context).start()
            ports.append(int(runner.addresses[0][1]))
        self._looking = asyncio.create_task(self._look())
        return ports[0], ports[1]

    async def stop(self, linger: float) -> None:
        """End, once whoever still believes that we are here has had time to learn otherwise."""
        self._stopping = True
        await asyncio.sleep(linger)
        if self._looking is not None:
            self._looking.cancel()
        for runner in self._runners:
            await runner.cleanup()

    def look(self) -> None:
        """Take what has changed in the files."""
        for watched in self._watched:
            names = ", ".join(watched.paths)
            wrong = watched.look()
            if wrong is not None:
                self._reloads.labels("refused" if wrong else "taken").inc()
                text = f"{names}: not taken, what was there before stays: {wrong}"
                self._say("error" if wrong else "info", text if wrong else f"{names}: taken")

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def _take_values(self) -> None:
        self._profile = self._read()

    # -- routes -----------------------------------------------------------------------------

    async def _review(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return self._refused(415, "an AdmissionReview as application/json, please")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
            only = request.path.endswith("/annotated")
            verdict = answer(body, self._profile, self._check, annotated_only=only)
        except TimeoutError:
            return self._refused(408, f"the body took longer than {BODY_SECONDS:.0f} s")
        except web.HTTPRequestEntityTooLarge:
            return self._refused(413, f"the body is over {BODY_BYTES_MAX} octets")
        except NotAReview as wrong:
            return self._refused(400, str(wrong))
        self._reviews.labels(verdict.outcome).inc()
        level = "warning" if verdict.outcome == "failed" else "info"
        self._say(level, f"{verdict.pod}: {verdict.outcome}: {verdict.reason}")
        return web.Response(body=verdict.body, content_type="application/json")

    def _refused(self, status: int, text: str) -> web.Response:
        self._bad.inc()
        return web.Response(status=status, text=f"{text}\n")

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._stopping:
            return web.Response(status=503, text="not ready: stopping\n")
        return web.Response(text="ready\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), content_type="text/plain")

"""The webhook as an API server meets it: over TLS, with good reviews and everything else.

The client is the standard library's; the process is the command itself where signals, exit codes
and files that change are what counts.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dnsguard.kube.files import Watched, server_context, take_certificate
from dnsguard.kube.profile import Profile
from dnsguard.kube.webhook import BODY_BYTES_MAX, Files, Webhook
from tests.kube.pods import PROFILE, pod, review

CERTIFICATES = Path(__file__).with_name("certificates")
JSON = {"Content-Type": "application/json"}
HOST = "127.0.0.1"


class Running:
    """One webhook on this loop; a request runs in a thread, as its client blocks."""

    def __init__(self, folder: Path) -> None:
        self.pem = folder / "tls.pem"
        shutil.copy(CERTIFICATES / "first.pem", self.pem)
        self.said: list[str] = []
        self.profile = PROFILE
        values = folder / "values.yaml"
        values.write_text("1")
        self.values = values
        self.hook = Webhook(
            Files(str(self.pem), str(self.pem), str(values)), lambda: self.profile,
            lambda *_: [], lambda level, text: self.said.append(f"{level} {text}"),
        )  # fmt: skip

    async def __aenter__(self) -> Running:
        assert self.hook.prepare() == ""
        self.port, self.admin = await self.hook.start((HOST, 0), (HOST, 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hook.stop(0)

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = JSON,
        trust: str = "first",
    ) -> tuple[int, bytes]:  # fmt: skip
        return await asyncio.to_thread(self._ask, method, path, body, headers, trust)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], trust: str
    ) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(CERTIFICATES / f"{trust}.pem"))
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=30, context=context)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    async def beside(self, path: str) -> tuple[int, str]:
        def get() -> tuple[int, str]:
            connection = http.client.HTTPConnection(HOST, self.admin, timeout=30)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read().decode()
            finally:
                connection.close()

        return await asyncio.to_thread(get)


def test_a_review_is_answered_and_counted(tmp_path: Path) -> None:
    async def run() -> None:
        async with Running(tmp_path) as it:
            status, body = await it.ask("POST", "/inject?timeout=5s", review(pod()))
            assert (status, "patch" in json.loads(body)["response"]) == (200, True)
            _, body = await it.ask("POST", "/inject/annotated", review(pod()))
            assert "patch" not in json.loads(body)["response"]
            _, metrics = await it.beside("/metrics")
            for outcome, count in (("injected", 1), ("skipped", 1), ("failed", 0)):
                assert f'dnsguard_webhook_reviews_total{{outcome="{outcome}"}} {count}.0' in metrics
            assert any("Pod shop/web: injected: native" in line for line in it.said)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/inject", b"{", JSON, 400),
        ("POST", "/inject", b"[" * 100_000, JSON, 400),
        ("POST", "/inject", b"", JSON, 400),
        ("POST", "/inject", review(pod()), {"Content-Type": "text/plain"}, 415),
        ("POST", "/inject", review(pod()), {"Content-Type": "?"}, 415),
        ("POST", "/inject", b" " * (BODY_BYTES_MAX + 1), JSON, 413),
        ("GET", "/inject", None, {}, 405),
        ("POST", "/elsewhere", review(pod()), JSON, 404),
    ],
)
def test_what_is_no_review_gets_its_status_and_the_next_one_is_served(
    tmp_path: Path, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    async def run() -> None:
        async with Running(tmp_path) as it:
            assert (await it.ask(method, path, body, headers))[0] == status
            assert (await it.ask("POST", "/inject", review(pod())))[0] == 200

    asyncio.run(run())


def test_bytes_that_are_no_http_or_tls_harm_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with Running(tmp_path) as it:
            for junk in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 500, b""):
                reader, writer = await asyncio.open_connection(HOST, it.port)
                writer.write(junk)
                writer.write_eof()
                await reader.read()
                writer.close()
            assert (await it.ask("POST", "/inject", review(pod())))[0] == 200

    asyncio.run(run())


def test_a_new_certificate_and_new_values_are_taken_without_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with Running(tmp_path) as it:
            it.pem.write_text("half of a certificate")
            it.hook.look()
            it.hook.look()
            assert (await it.ask("POST", "/inject", review(pod())))[0] == 200
            shutil.copy(CERTIFICATES / "second.pem", it.pem)
            it.profile = Profile()
            it.values.write_text("2")
            it.hook.look()
            with pytest.raises(ssl.SSLCertVerificationError):
                await it.ask("POST", "/inject", review(pod()))
            _, body = await it.ask("POST", "/inject", review(pod()), trust="second")
            assert "upstream" in json.loads(body)["response"]["warnings"][0]
            _, metrics = await it.beside("/metrics")
            assert 'dnsguard_webhook_reloads_total{result="refused"} 1.0' in metrics
            assert 'dnsguard_webhook_reloads_total{result="taken"} 2.0' in metrics

    asyncio.run(run())


def test_health_tells_alive_ready_and_stopping(tmp_path: Path) -> None:
    async def run() -> None:
        it = Running(tmp_path)
        async with it:
            assert await it.beside("/livez") == (200, "alive\n")
            assert await it.beside("/readyz") == (200, "ready\n")
            stopping = asyncio.create_task(it.hook.stop(30))
            await asyncio.sleep(0)
            assert (await it.beside("/readyz"))[0] == 503
            assert (await it.ask("POST", "/inject", review(pod())))[0] == 200
            stopping.cancel()

    asyncio.run(run())


def test_files_are_taken_once_and_refused_once(tmp_path: Path) -> None:
    file, taken = tmp_path / "f", []

    def take() -> None:
        if file.read_text() == "bad":
            raise ValueError("bad  words")
        taken.append(file.read_text())

    watched = Watched((str(file),), take)
    assert watched.look() == f"{file}: No such file or directory"
    assert watched.look() is None
    file.write_text("good")
    assert [watched.look(), watched.look()] == ["", None]
    file.write_text("bad")
    assert [watched.look(), watched.look()] == ["bad words", None]
    file.write_text("good")
    assert watched.look() is None
    assert taken == ["good"]


def test_a_certificate_that_does_not_fit_its_key_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError):
        take_certificate(
            server_context(), str(CERTIFICATES / "first.pem"), str(CERTIFICATES / "README.md")
        )


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dnsguard", "webhook", "--listen", "127.0.0.1:0",
         "--admin", "127.0.0.1:0", *args],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def pem() -> tuple[str, ...]:
    path = str(CERTIFICATES / "first.pem")
    return ("--tls-cert", path, "--tls-key", path)


def test_the_command_starts_and_ends_at_a_signal() -> None:
    with start(*pem(), "--upstream", "10.96.0.10", "--linger", "0") as process:
        assert process.stderr is not None
        assert "webhook ready" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, "stopping" in errors) == (0, True)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (pem(), "upstream"),
        ((*pem(), "--upstream", "dns.example"), "addresses"),
        ((*pem(), "--upstream", "10.96.0.10", "--values", "/none"), "/none"),
        (("--tls-cert", "/none", "--tls-key", "/none", "--upstream", "10.96.0.10"), "/none"),
        ((*pem(), "--upstream", "10.96.0.10", "--listen", "5"), "--listen"),
        ((), "--tls-cert"),
    ],
)  # fmt: skip
def test_the_command_says_why_it_cannot_start(args: tuple[str, ...], said: Any) -> None:
    with start(*args) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert said in errors
    assert "Traceback" not in errors

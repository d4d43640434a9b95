"""`dnsguard demo` as its users start it: options, signals, exit codes, nothing left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner
from rich.console import Console

from dnsguard.cli import demo
from dnsguard.config import Address
from dnsguard.demo.lines import Lines
from dnsguard.demo.show import Settings, Show
from dnsguard.demo.timeline import timeline


def serve(listen: Address, upstream: Address) -> list[str]:
    where = ("--listen", str(listen), "--upstream", str(upstream), "--admin", "off", "--no-state")
    return [sys.executable, "-m", "dnsguard", "serve", *where]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--listen=nowhere"], "ADDR:PORT"),
        (["--listen=127.0.0.1"], "port is missing"),
        (["--phases=1,2,3"], "four numbers"),
        (["--phases=1,2,3,x"], "four numbers"),
        (["--phases=1,2,3,0"], "from 0.5 to 3600"),
        (["--phases=1,2,3,nan"], "from 0.5 to 3600"),
        (["--qps=1"], "--qps"),
        (["--ttl=0"], "--ttl"),
    ],
)
def test_bad_usage_is_told_at_once(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(demo.command, arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_taken_port_ends_it_with_one() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        result = CliRunner().invoke(demo.command, [f"--listen=127.0.0.1:{port}", "--once"])
    assert result.exit_code == 1
    assert f"127.0.0.1:{port} is taken" in result.stderr


def test_the_proxy_is_the_real_one() -> None:
    command = demo.proxy_command(Address("127.0.0.1", 5354), Address("127.0.0.1", 5300))
    assert command[:4] == [sys.executable, "-m", "dnsguard", "serve"]
    assert command[command.index("--listen") + 1] == "127.0.0.1:5354"
    assert command[command.index("--upstream") + 1] == "127.0.0.1:5300"


def test_a_taken_admin_port_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(demo, "ADMIN", Address(*other.getsockname()))
        command = demo.proxy_command(Address("127.0.0.1", 5354), Address("127.0.0.1", 5300))
        assert command[command.index("--admin") + 1] == "off"
    command = demo.proxy_command(Address("127.0.0.1", 5354), Address("127.0.0.1", 5300))
    assert command[command.index("--admin") + 1] == str(demo.ADMIN)


def test_without_a_terminal_it_prints_lines() -> None:
    assert isinstance(demo.choose_screen(plain=True), Lines)
    assert isinstance(demo.choose_screen(plain=False), Lines)  # pytest has no terminal either
    assert not Console().is_terminal


class Signalled(Lines):
    """Sends this process a signal in the first frame."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(lambda _line: None)
        self.pid = 0
        self._number = number

    def frame(self, show: Show) -> None:
        if not self.pid:
            self.pid = show.cluster_pid
            os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_all_its_processes(number: signal.Signals) -> None:
    screen = Signalled(number)
    before = signal.getsignal(number)
    settings = Settings(timeline(5, 5, 5, 5), serve, Address("127.0.0.1", 0), qps=50.0)
    assert demo.perform(settings, screen) == 128 + number
    assert screen.pid
    with pytest.raises(ProcessLookupError):
        os.kill(screen.pid, 0)
    assert signal.getsignal(number) in (before, signal.default_int_handler)


def test_it_is_a_command_of_dnsguard() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dnsguard", "demo", "--help"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for option in ("--once", "--listen", "--qps", "--plain", "--phases", "--ttl"):
        assert option in done.stdout

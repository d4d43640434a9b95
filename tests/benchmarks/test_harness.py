"""What a benchmark starts is gone afterwards, and what does not work says why.

The servers started here are small Python ones on the loopback address, so that nothing needs NSD,
Unbound or dnsperf, and nothing depends on how fast the machine is.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import pytest

from benchmarks import asking, harness, servers
from benchmarks.harness import Bench


def test_missing_program_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(harness.PACKAGES, "no-such-program", "its-package")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    with pytest.raises(SystemExit, match=r"no-such-program.*apt-get install its-package"):
        harness.require("no-such-program")


# --- processes ---------------------------------------------------------------------------------


def await_servfail(program: harness.Program, sock: socket.socket) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and program.process.poll() is None:
        reply = asking.ask(sock, "a.test")
        if reply and reply.rcode == "SERVFAIL":
            return
    pytest.fail(f"no SERVFAIL came; the server said: {program.output()}")


def test_servfail_takes_a_port_when_it_is_free() -> None:
    port = harness.free_port()
    with Bench() as bench, asking.stub(port, timeout=0.05) as sock:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            holder.bind((asking.LOOPBACK, port))
            program = servers.start_servfail(bench, port)
            assert asking.ask(sock, "a.test") is None
        await_servfail(program, sock)
        query = asking.query("a.test", 99)
        with socket.create_connection((asking.LOOPBACK, port), timeout=10) as tcp:
            tcp.sendall(len(query).to_bytes(2, "big") + query)
            with tcp.makefile("rb") as stream:
                reply = stream.read(int.from_bytes(stream.read(2), "big"))
        assert asking.parse_reply(reply) == asking.Reply(99, "SERVFAIL")


def test_everything_is_gone_after_a_run_even_what_is_paused() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with Bench() as bench:
        port = harness.free_port()
        paused = servers.start_servfail(bench, port)
        killed = bench.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
        crashed = bench.start("crasher", [sys.executable, "-c", "raise SystemExit('it broke')"])
        with asking.stub(port, timeout=0.05) as sock:
            await_servfail(paused, sock)
            paused.signal(signal.SIGSTOP)
            assert asking.ask(sock, "a.test") is None
        killed.kill()
        crashed.process.wait()
        assert "it broke" in crashed.output()
        with pytest.raises(SystemExit):  # a termination unwinds the run like Ctrl-C does
            os.kill(os.getpid(), signal.SIGTERM)
    for program in (paused, killed, crashed):
        assert program.process.poll() is not None
    assert not bench.directory.exists()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_waiting_for_a_server_that_broke_shows_what_it_said() -> None:
    with Bench() as bench:
        command = [sys.executable, "-c", "raise SystemExit('no such option')"]
        program = bench.start("broken", command, harness.free_port())
        with pytest.raises(SystemExit, match="no such option"):
            harness.await_answer(program, "a.test")


def test_script_passes_on_its_verdict() -> None:
    with pytest.raises(SystemExit) as verdict:
        harness.run_script(lambda: 1)
    assert verdict.value.code == 1

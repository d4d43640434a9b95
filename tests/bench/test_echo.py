"""Both echoes give back what they get, over both transports, and are gone afterwards."""

from __future__ import annotations

import shutil
import socket

import pytest

from dnsguard.bench import echo


@pytest.fixture(params=["the best there is", "Python"])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The language of the echo that is going to run."""
    if request.param == "Python":
        monkeypatch.setattr(echo, "COMPILERS", ())
    return "C" if any(map(shutil.which, echo.COMPILERS)) else "Python"


@pytest.mark.parametrize("tcp", [False, True])
def test_what_comes_goes_back(tcp: bool, language: str) -> None:
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    sent = [bytes((number,)) * (number + 1) for number in range(100)]
    with echo.running(tcp) as running:
        assert running.language == language
        with (
            socket.socket(socket.AF_INET, kind) as sock,
            socket.socket(socket.AF_INET, kind) as other,
        ):
            for one in (sock, other):
                one.settimeout(60)
                one.connect((echo.HOST, running.port))
            for data in sent:
                sock.send(data)
            if tcp:
                got = b""
                while len(got) < sum(map(len, sent)):
                    got += sock.recv(65536)
                assert got == b"".join(sent)
            else:
                assert [sock.recv(65536) for _ in sent] == sent
            other.send(b"another client")
            assert other.recv(65536) == b"another client"
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((echo.HOST, running.port))  # the port is free again

"""The yardstick below all: a C program that sends each query back, which is what the kernel costs.

It answers nothing, so it stands only where cached answers are asked for.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.peer import Peer, Place, first_line
from benchmarks.peers.sources import CSource


def command(place: Place) -> list[str]:
    return [str(place.program), str(place.port)]


def version(_: Path) -> str:
    return first_line(Path("gcc"), "--version")


PEER = Peer(
    name="C echo",
    language="C",
    source=CSource("echo.c"),
    command=command,
    version=version,
    forwards=False,
    settings="no DNS at all: recvmmsg, set the reply bit, sendmmsg",
)

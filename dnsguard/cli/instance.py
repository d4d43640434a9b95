"""Finds a running instance by its control socket, tells it something, and says what went wrong.

Each instance has its socket in a directory of its own, below its state directory or, without one,
below the user's runtime directory. Whoever names neither gets the one instance that is there. Knows
no verb: a request goes out as one line of JSON, and replies come back as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import click

from dnsguard.admin import socket_file
from dnsguard.errors import ControlError

REPLY_SECONDS = 30.0  # longer than anything that is still well takes for its next word
Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--state-dir", metavar="DIR",
        help="The state directory of the instance. [as for serve, then the runtime directory]",
    ),
    click.option(
        "--control", metavar="PATH", help="Its control socket, where there are several."
    ),
)  # fmt: skip


def instance_options(command: Command) -> Command:
    """Decorate a click command that talks to a running instance."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Instance:
    """A connection to one running instance; use it as a context manager."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self.path = path
        self.patience = REPLY_SECONDS
        self._sock = sock
        self._file = sock.makefile("rb")

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Return what the instance answers; items on the way are passed over."""
        facts: dict[str, Any] = {}
        for kind, found in self._replies(verb, arguments, self.patience):
            if kind == "done":
                facts = found
        return facts

    def stream(
        self, verb: str, timeout: float | None = REPLY_SECONDS, **arguments: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the items of the answer one by one; `timeout` is for each of them."""
        for kind, found in self._replies(verb, arguments, timeout):
            if kind == "item":
                yield found

    def say(self, verb: str) -> None:
        """Say something more while an answer is under way, which ends it."""
        with contextlib.suppress(OSError):
            self._sock.sendall(json.dumps({"verb": verb}).encode() + b"\n")

    def follow(self, verb: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of the answer, and then what ends it."""
        for _, found in self._replies(verb, arguments, REPLY_SECONDS):
            yield found

    def _replies(
        self, verb: str, arguments: Mapping[str, Any], timeout: float | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        self._sock.settimeout(timeout)
        with contextlib.suppress(OSError):  # it may have hung up, and have said why
            self._sock.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
        while True:
            try:
                line = self._file.readline()
            except TimeoutError:
                raise ControlError(f"{self.path}: it has not answered for {timeout:g} s") from None
            except OSError as error:
                raise ControlError(f"{self.path}: {error.strerror}") from None
            if not line.endswith(b"\n"):
                raise ControlError(
                    f"{self.path}: it ended before it had answered; its log says why"
                )
            reply = json.loads(line)
            if "error" in reply:
                raise ControlError(reply["error"])
            if "item" in reply:
                yield "item", reply["item"]
            else:
                _say_who_is_missing(reply["done"])
                yield "done", reply["done"]
                return


def reading(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], Any]:
    """Return a click callback that reads one text by `read`, and says what would be right."""

    def callback(_context: click.Context, _parameter: click.Parameter, text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}") from None

    return callback


def _say_who_is_missing(facts: Mapping[str, Any]) -> None:
    """Tell of workers that have not answered: what is said is not all, or not done everywhere."""
    workers = facts.get("workers")
    if workers and workers["missing"]:
        click.echo(f"note: {workers['words']}", err=True)


def reach(control: str | None = None, state_dir: str | None = None) -> Instance:
    """Connect to the instance that is meant; raises ControlError with what to do about it."""
    if control is not None:
        return _connect(os.path.abspath(control))
    roots = _roots(state_dir)
    found: list[str] = []
    for root in roots:
        found += _sockets(root)
    alive: list[Instance] = []
    denied: ControlError | None = None
    for path in found:
        try:
            alive.append(_connect(path))
        except ControlError as error:
            denied = denied or error
    if len(alive) == 1:
        return alive[0]
    for one in alive:
        one.__exit__()
    if alive:
        paths = ", ".join(one.path for one in alive)
        raise ControlError(f"{len(alive)} instances are running; choose one: --control {paths}")
    if denied is not None:
        raise denied
    raise ControlError(
        f"no instance is running that keeps its control socket in {' or '.join(roots)}. "
        "If there is one, name its state directory with --state-dir DIR, or the socket that its "
        "log names with --control PATH"
    )


def _roots(state_dir: str | None) -> list[str]:
    if state_dir is not None:
        return [os.path.abspath(state_dir)]
    from dnsguard.config import store_dir

    found = store_dir(os.environ)
    runtime = socket_file.runtime_root(os.environ)
    return ([] if found is None else [os.path.abspath(found)]) + [runtime]


def _sockets(root: str) -> list[str]:
    """Return every control socket below a state directory; the directory may be an instance's."""
    try:
        places = [root, *sorted(entry.path for entry in os.scandir(root) if entry.is_dir())]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _refused(root, error) from None
    found = (os.path.join(place, socket_file.NAME) for place in places)
    return [path for path in found if os.path.lexists(path)]


def _connect(path: str) -> Instance:
    try:
        return Instance(socket_file.connect(*os.path.split(path)), path)
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: str, error: OSError) -> ControlError:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return ControlError(f"{path}: no instance listens there (any more); is it running?")
    if isinstance(error, PermissionError):
        return ControlError(
            f"{path}: permission denied. It is for the user that dnsguard runs as and for root: "
            f"run this command as that user, and not as user {os.geteuid()}"
        )
    return ControlError(f"{path}: {error.strerror or error}")

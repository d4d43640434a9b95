"""A node, one of its pods and cluster DNS as three network namespaces, and `dnsguard node` in one.

Needs root, `ip`, `nft`. Between them stands what kube-proxy would put there: rules that translate
the addresses of two Services, that of cluster DNS and the resolver's own way to it, to the one pod
that answers, and the one that drops untracked packets to 127.0.0.1 (tests/e2e/test_kube_proxy.py
has the real one). What dnsguard answers can be told from what cluster DNS does: the name
`here.test` is pinned in dnsguard, and cluster DNS has another address for it. `python -m
tests.kube.node_world dns|ask` is what runs inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

LINK_LOCAL, SERVICE, WAY = "169.254.20.10", "10.96.0.10", "10.96.33.44"
POD, DNS_POD = "10.244.0.2", "10.244.9.2"
NAME, HERE, CLUSTER = "here.test", "192.0.2.1", "192.0.2.2"
PROXY = f"""table ip kube-proxy {{
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    ip daddr {{ {SERVICE}, {WAY} }} meta l4proto {{ tcp, udp }} th dport 53 dnat to {DNS_POD}
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    ip daddr {{ {SERVICE}, {WAY} }} meta l4proto {{ tcp, udp }} th dport 53 dnat to {DNS_POD}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
  }}
  chain firewall {{
    ip saddr != 127.0.0.0/8 ip daddr 127.0.0.0/8 ct state != {{ established, related }} drop
  }}
  chain input {{
    type filter hook input priority 0; policy accept;
    jump firewall
  }}
  chain local {{
    type filter hook output priority 0; policy accept;
    jump firewall
  }}
}}
"""
WAITING_MAX = 256  # questions under way at a time: a client that cannot keep up proves nothing
_numbers = itertools.count()


def missing() -> str:
    """Why namespaces cannot be had here; empty if they can."""
    tools = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        return "network namespaces need root"
    return f"install {', '.join(tools)} (Debian: iproute2 nftables)" if tools else ""


def run(*words: str, text: str = "") -> str:
    """Run a command and return what it says; fails if it does."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Watched:
    """A process of `dnsguard node` in the node's namespace, and what it has said."""

    def __init__(self, words: list[str], environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environ
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self.lines.append("(it has ended)")
            self._news.notify_all()

    def said(self, text: str, times: int = 1, seconds: float = 30.0) -> str:
        """Wait for a line with this text; fails if it never comes."""

        def found() -> list[str]:
            return [line for line in self.lines if text in line]

        with self._news:
            self._news.wait_for(
                lambda: len(found()) >= times or "(it has ended)" in self.lines, seconds
            )
            assert len(found()) >= times, f"it never said {text!r}: {self.lines}"
            return found()[times - 1]

    def workers(self) -> list[int]:
        """The processes of the resolver, supervisor first."""
        return descendants(self.process.pid)

    def end(self) -> int:
        """End it in order; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it at once, with all that it started."""
        for pid in (self.process.pid, *self.workers()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Let go of what it said, once nobody is left who could say more."""
        self._reader.join(30)
        assert not self._reader.is_alive(), "somebody survived"
        if self.process.stderr is not None:
            self.process.stderr.close()


def descendants(pid: int) -> list[int]:
    """The children of a process and theirs, by what the kernel says now."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(text) for text in file.read().split()]
    except FileNotFoundError:
        return []
    return [found for child in children for found in (child, *descendants(child))]


class World:
    """The three namespaces."""

    def __init__(self, proxied: bool = True) -> None:
        """`proxied` is whether PROXY stands in for kube-proxy, or nothing does yet."""
        self._proxied = proxied
        tag = f"dg{os.getpid()}n{next(_numbers)}"
        self.node, self.pod, self.dns = f"{tag}n", f"{tag}p", f"{tag}c"
        self._dns: subprocess.Popen[str] | None = None
        self._clients: dict[bool, subprocess.Popen[str]] = {}
        self._watched: list[Watched] = []

    def __enter__(self) -> World:
        for name in (self.node, self.pod, self.dns):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for name, link, here, there in (
            (self.pod, "pod", "10.244.0.1", POD), (self.dns, "dns", "10.244.9.1", DNS_POD),
        ):  # fmt: skip
            run("ip", "-n", self.node, "link", "add", link, "type", "veth", "peer", "name", "eth0",
                "netns", name)  # fmt: skip
            run("ip", "-n", self.node, "addr", "add", f"{here}/24", "dev", link)
            run("ip", "-n", self.node, "link", "set", link, "up")
            run("ip", "-n", name, "addr", "add", f"{there}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", "default", "via", here)
        run("ip", "-n", self.node, "route", "add", "default", "via", DNS_POD)
        self.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        if self._proxied:
            self.nft(PROXY)
        self._dns = subprocess.Popen(
            self._python(self.dns, "dns"), stdout=subprocess.PIPE, text=True
        )
        assert self._dns.stdout is not None
        assert self._dns.stdout.readline() == "ready\n"
        for pod, name in ((True, self.pod), (False, self.node)):
            self._clients[pod] = subprocess.Popen(
                self._python(name, "client"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, bufsize=1,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.node, self.pod, self.dns):
            for pid in run("ip", "netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for watched in self._watched:
            watched.kill()
            watched.close()
        for process in (self._dns, *self._clients.values()):
            if process is not None:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()
        for name in (self.node, self.pod, self.dns):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def inside(self, *words: str, text: str = "") -> str:
        """Run a command on the node."""
        return run("ip", "netns", "exec", self.node, *words, text=text)

    def nft(self, rules: str) -> None:
        """Give the node more rules."""
        self.inside("nft", "-f", "-", text=rules)

    @staticmethod
    def _python(name: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", name, sys.executable, "-m", "tests.kube.node_world", *words]

    def dnsguard(self, *words: str) -> list[str]:
        """The words that run a command of dnsguard on the node."""
        return ["ip", "netns", "exec", self.node, sys.executable, "-m", "dnsguard", *words]

    def begin(self, *words: str, kind: str = "run") -> Watched:
        """Start `dnsguard node run` with the addresses of this world."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("DNSGUARD_")}
        more = ("--no-state", "--admin", "off", "--set", f"pins.{NAME}={HERE}")
        watched = Watched(
            self.dnsguard(
                "node", kind, "--address", LINK_LOCAL, "--service-address", SERVICE, "--upstream",
                WAY, "--node-admin", "off", "--linger", "0.2", *(more if kind == "run" else ()),
                *words,
            ),
            environ,
        )  # fmt: skip
        self._watched.append(watched)
        return watched

    def who(self, address: str, tcp: bool = False, pod: bool = True, patience: float = 10.0) -> str:
        """Ask at an address from the pod, or from the node; return whose the answer is."""
        client = self._clients[pod]
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"{address} {'tcp' if tcp else 'udp'} {patience}\n")
        found = client.stdout.readline().strip()
        return {HERE: "dnsguard", CLUSTER: "cluster"}.get(found, found)

    def everyone(self) -> set[str]:
        """Who answers at both addresses, over both transports, to the pod and to the node."""
        return {
            self.who(address, tcp, pod)
            for address, tcp, pod in itertools.product(
                (LINK_LOCAL, SERVICE), (False, True), (True, False)
            )
        }

    @contextlib.contextmanager
    def asking(self, address: str, a_second: int, patience: float = 2.0) -> Iterator[Asking]:
        """Ask all the time, from the pod."""
        asking = Asking(self._python(
            self.pod, "ask", address, str(a_second), str(patience)
        ))  # fmt: skip
        try:
            yield asking
        finally:
            asking.stop()

    def until(self, address: str, whose: str, seconds: float = 15.0) -> float:
        """Wait until the answer at an address is somebody's; return how long it took."""
        began = time.monotonic()
        while (found := self.who(address, patience=0.5)) != whose:
            assert time.monotonic() - began < seconds, f"still {found}, not {whose}"
        return time.monotonic() - began

    def left(self) -> str:
        """What dnsguard has on the node: its tables, its interface, its addresses."""
        tables = [line for line in self.inside("nft", "list", "tables").splitlines()
                  if "dnsguard" in line]  # fmt: skip
        places = self.inside("ip", "-o", "address", "show").splitlines()
        addresses = [line for line in places if f"{LINK_LOCAL}/" in line or f"{SERVICE}/" in line]
        links = [
            line for line in self.inside("ip", "-o", "link").splitlines() if "dnsguard" in line
        ]
        return "\n".join([*tables, *addresses, *links])


class Asking:
    """Clients in the pod that ask at a steady rate until they are told to stop."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.told: dict[str, Any] = {}
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "asking\n"

    def stop(self) -> dict[str, Any]:
        """End it; return how many were asked, whose the answers were, the longest time without."""
        if not self.told:
            out, _ = self._process.communicate("\n", timeout=60)
            self.told = json.loads(out)
        return self.told


# -- inside --------------------------------------------------------------------------------------


def _be_dns() -> None:
    from dnslib import RR
    from dnslib.server import BaseResolver, DNSLogger, DNSServer

    class OneAddress(BaseResolver):  # type: ignore[misc]
        def resolve(self, request: Any, handler: Any) -> Any:
            reply = request.reply()
            reply.add_answer(*RR.fromZone(f"{request.q.qname} 30 A {CLUSTER}"))
            return reply

    for tcp in (False, True):
        DNSServer(
            OneAddress(), address=DNS_POD, port=53, tcp=tcp, logger=DNSLogger("-request,-reply")
        ).start_thread()
    print("ready", flush=True)
    signal.pause()


async def _one(address: str, patience: float) -> str:
    """Ask once over UDP; return the answer's addresses, or what came instead of it."""
    import dns.asyncquery
    import dns.exception
    import dns.message

    try:
        reply = await dns.asyncquery.udp(
            dns.message.make_query(NAME, "A"), address, timeout=patience
        )
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return f"no answer ({type(error).__name__})"
    found = [item.to_text() for rrset in reply.answer for item in rrset]
    return " ".join(found) or f"rcode {reply.rcode()}"


def _plainly(address: str, tcp: bool, patience: float) -> str:
    """Ask once with what the standard library has, so that a client starts at once."""
    name = b"".join(bytes([len(label)]) + label.encode() for label in (*NAME.split("."), ""))
    query = os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
    try:
        with socket.socket(type=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            sock.settimeout(patience)
            sock.connect((address, 53))
            sock.sendall(len(query).to_bytes(2, "big") + query if tcp else query)
            reply = sock.recv(4096)
            while tcp and len(reply) < 2 + int.from_bytes(reply[:2], "big"):
                reply += sock.recv(4096)
    except OSError as error:
        return f"no answer ({type(error).__name__})"
    reply = reply[2:] if tcp else reply
    return socket.inet_ntoa(reply[-4:]) if reply[6:8] == b"\0\1" else f"reply {reply.hex()}"


def _be_client() -> None:
    for line in sys.stdin:
        address, transport, patience = line.split()
        print(_plainly(address, transport == "tcp", float(patience)), flush=True)


async def _ask(address: str, a_second: int, patience: float) -> None:
    """Ask at a rate, or as fast as the machine lets us, until a line comes; print JSON."""
    answers: dict[str, int] = {}
    loop = asyncio.get_running_loop()
    gap, last, asked = 0.0, loop.time(), 0
    room = asyncio.Semaphore(WAITING_MAX)

    async def one() -> None:
        nonlocal gap, last
        text = await _one(address, patience)
        answers[text] = answers.get(text, 0) + 1
        if not text.startswith("no answer"):
            gap, last = max(gap, loop.time() - last), loop.time()
        room.release()

    print("asking", flush=True)
    stop = loop.run_in_executor(None, sys.stdin.readline)
    tasks: set[asyncio.Task[None]] = set()
    while not stop.done():
        await room.acquire()
        asked += 1
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(1 / a_second)
    await asyncio.gather(*tasks)
    print(json.dumps({"asked": asked, "answers": answers, "gap": gap}))


if __name__ == "__main__":
    if sys.argv[1] == "dns":
        _be_dns()
    elif sys.argv[1] == "client":
        _be_client()
    else:
        asyncio.run(_ask(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))

"""An injected pod that really runs: podman plays the manifest, in a network namespace made for it.

What a kubelet does and podman 4.3 does not is done here and named in `for_podman`: resolv.conf from
dnsConfig, the pod's sysctl, its fields as variables, probes. The upstream, cluster DNS on this
machine, is at the other end of a veth pair. glibc and musl each have a container that looks names
up again and again.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import accounting
from benchmarks.harness import Bench, Broken
from tests.e2e import parts
from tests.e2e.containers import BASE, IMAGE, Podman, ip, run

MUSL_IMAGE = "localhost/dnsguard-e2e-musl"
ADMIN_PORT = 9153
LIBCS = ("glibc", "musl")
LOOKUP_PAUSE = 1
# As programs write names: short ones that need the search list, and whole ones.
NAMES = (
    "web", "cart.shop", "db.data", "db-0.db.data", "queue.data", "cache.data.svc.cluster.local",
    "www.example.net",
)  # fmt: skip


@dataclass(frozen=True)
class Lookup:
    """One getaddrinfo: when, which name, the addresses or the error, how long it took."""

    at: float  # Unix time
    name: str
    result: str
    milliseconds: int


@dataclass(frozen=True)
class Usage:
    """What a process has used, and what for."""

    peak_kib: int
    cpu_seconds: float
    answers: int

    def since(self, before: Usage) -> Usage:
        """The same less what was used before; the peak is that of all times."""
        return Usage(
            self.peak_kib, self.cpu_seconds - before.cpu_seconds, self.answers - before.answers
        )


def read_lookups(log: str) -> list[Lookup]:
    """The lines of lookup.c; one that was cut off at the end is left out."""
    found = []
    for line in log.splitlines():
        words = line.split(" ")
        if len(words) == 4 and words[3].isdigit():
            found.append(Lookup(int(words[0]) / 1000, words[1], words[2], int(words[3])))
    return found


def manifest() -> dict[str, Any]:
    """The pod as its owner wrote it: two clients, nothing of dnsguard."""
    arguments = [str(LOOKUP_PAUSE), *NAMES]
    images = {"glibc": BASE, "musl": MUSL_IMAGE}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "clients", "namespace": "shop"},
        "spec": {
            "containers": [
                {"name": libc, "image": images[libc], "command": ["/lookup"], "args": arguments}
                for libc in LIBCS
            ],
        },
    }  # fmt: skip


def injected(pod: Mapping[str, Any], upstream: str, *more: str) -> dict[str, Any]:
    """The pod as `dnsguard inject` writes it."""
    done = subprocess.run(
        [sys.executable, "-m", "dnsguard", "inject", "-f", "-",
         "--upstream", upstream, "--image", IMAGE, *more],
        input=yaml.safe_dump(dict(pod)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Broken(f"dnsguard inject failed: {done.stderr}")
    made = yaml.safe_load(done.stdout)
    assert isinstance(made, dict)
    return made


def resolv_conf(dns: Mapping[str, Any]) -> str:
    """What a kubelet writes for dnsPolicy None and this dnsConfig."""
    lines = [f"nameserver {each}" for each in dns.get("nameservers", ())]
    if dns.get("searches"):
        lines.insert(0, "search " + " ".join(dns["searches"]))
    options = [
        f"{each['name']}:{each['value']}" if "value" in each else str(each["name"])
        for each in dns.get("options", ())
    ]
    return "\n".join([*lines, *(["options " + " ".join(options)] if options else []), ""])


def for_podman(
    pod: Mapping[str, Any], resolv: Path, lookup: Mapping[str, Path]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The manifest that podman plays, and the sysctls for the pod's network namespace.

    `resolv` is mounted as /etc/resolv.conf, and a client of `lookup` into the container of its
    name. Probes are the run's own.
    """
    made = copy.deepcopy(dict(pod))
    spec = made["spec"]
    made["metadata"].pop("annotations", None)  # podman takes none of more than 63 characters
    spec.pop("dnsPolicy", None)
    spec.pop("dnsConfig", None)
    sysctls = {each["name"]: each["value"]
               for each in spec.get("securityContext", {}).pop("sysctls", ())}  # fmt: skip
    files = {"resolv-conf": resolv, **{f"lookup-{name}": path for name, path in lookup.items()}}
    spec.setdefault("volumes", []).extend(
        {"name": name, "hostPath": {"path": str(path), "type": "File"}}
        for name, path in files.items()
    )
    for container in spec["containers"]:
        container["imagePullPolicy"] = "Never"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            container.pop(probe, None)
        for variable in container.get("env", ()):
            if "valueFrom" in variable:
                assert variable.pop("valueFrom")["fieldRef"]["fieldPath"] == "metadata.namespace"
                variable["value"] = made["metadata"]["namespace"]
        # Ports would be published, and memory limits need a cgroup that not every machine lends.
        for key in ("ports", "resources"):
            container.pop(key, None)
        mounts = container.setdefault("volumeMounts", [])
        # There is no API token here that would have to be covered.
        mounts[:] = [each for each in mounts if "subPath" not in each]
        mounts.append({"name": "resolv-conf", "mountPath": "/etc/resolv.conf", "readOnly": True})
        if container["name"] in lookup:
            mounts.append({"name": f"lookup-{container['name']}", "mountPath": "/lookup",
                           "readOnly": True})  # fmt: skip
    return made, sysctls


def build_musl(podman: Podman) -> None:
    """An image with nothing but the musl client."""
    container = podman.buildah("from", "scratch").strip()
    podman.buildah("add", "-q", container, str(parts.client("musl")), "/lookup")
    podman.buildah("commit", "-q", "--rm", container, MUSL_IMAGE)


class Network:
    """A network namespace for the pod, with a veth pair from here to there."""

    def __init__(self) -> None:
        number = os.getpid()
        self.name = f"dnsguard-e2e-{number}"
        self._link = f"dge{number}"
        third = number % 254
        self.here, self.pod = f"10.231.{third}.1", f"10.231.{third}.2"

    def __enter__(self) -> Network:
        ip("netns", "add", self.name)
        ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("addr", "add", f"{self.here}/30", "dev", self._link)
        ip("link", "set", self._link, "up")
        ip("-n", self.name, "addr", "add", f"{self.pod}/30", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for words in (("link", "del", self._link), ("netns", "del", self.name)):
            with contextlib.suppress(Broken):
                ip(*words)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command in the namespace."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]


class Pod:
    """The injected pod under podman, from `play` until `remove`."""

    def __init__(self, bench: Bench, network: Network) -> None:
        self._podman = Podman()
        self._network = network
        self._bench = bench
        self._name = ""

    def build(self) -> None:
        """The musl client's image; that of dnsguard is there."""
        build_musl(self._podman)

    def play(self, upstream: str) -> dict[str, Any]:
        """Inject the manifest and have podman run it; return the injected manifest."""
        pod = injected(manifest(), upstream, "--classic")  # podman knows no native sidecars
        resolv = self._bench.file("resolv.conf", resolv_conf(pod["spec"]["dnsConfig"]))
        resolv.chmod(0o644)
        self._bench.directory.chmod(0o755)  # the sidecar is not root
        played, sysctls = for_podman(pod, resolv, {"glibc": parts.client("glibc")})
        for name, value in sysctls.items():
            run(self._network.inside("sysctl", "-q", "-w", f"{name}={value}"))
        file = self._bench.file("pod.yaml", yaml.safe_dump(played))
        self._name = played["metadata"]["name"]
        self._podman("kube", "play", "--network", "host", "--no-hosts", str(file),
                     before=self._network.inside())  # fmt: skip
        return pod

    def pid(self, container: str) -> int:
        """The process of a container, as this machine numbers it."""
        return self._podman.pid(f"{self._name}-{container}")

    def status(self) -> dict[str, str]:
        """What the kernel has of the sidecar's process: user, capabilities, privileges."""
        text = Path(f"/proc/{self.pid('dnsguard')}/status").read_text()
        return {key: " ".join(value.split()) for key, _, value in
                (line.partition(":") for line in text.splitlines())}  # fmt: skip

    def usage(self) -> Usage:
        """What the sidecar has used up to now, by the kernel, and what it answered, by itself."""
        pid = self._podman.pid(f"{self._name}-dnsguard")
        sizes = accounting.parse_status(Path(f"/proc/{pid}/status").read_text())
        answers = re.findall(r"(?m)^dnsguard_answers_total\{.*\} (\S+)$", self._get("/metrics")[1])
        return Usage(sizes["VmHWM"], accounting.cpu_seconds(pid), int(sum(map(float, answers))))

    def log(self, container: str) -> str:
        """What a container has written."""
        return self._podman.log(f"{self._name}-{container}")

    def probe(self, path: str) -> int:
        """The status of an HTTP request to the pod's address, as a kubelet makes it; 0 for none."""
        return self._get(path)[0]

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._network.pod, ADMIN_PORT, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def lookups(self) -> dict[str, list[Lookup]]:
        """What each client saw."""
        return {libc: read_lookups(self.log(libc)) for libc in LIBCS}

    def remove(self) -> None:
        """Stop it and leave nothing behind."""
        if self._name:
            with contextlib.suppress(Broken):
                self._podman("pod", "rm", "-f", "-t", "3", self._name)
            with contextlib.suppress(Broken):
                self._podman("volume", "rm", "-f", "dnsguard-state")


def client_table(
    lookups: Mapping[str, Iterable[Lookup]],
    phases: Sequence[Any],
    before: Mapping[str, str],
    after: Mapping[str, str],
) -> list[str]:
    """Markdown: for each phase and libc the share of lookups that were right, and the slowest."""
    lines = ["| phase | " + " | ".join(f"{libc}: right | slowest, ms" for libc in lookups) + " |",
             "|---" * (1 + 2 * len(lookups)) + "|"]  # fmt: skip
    for phase in phases:
        cells = []
        for found in lookups.values():
            here = [one for one in found if phase.start <= one.at < phase.end]
            right = sum(one.result in (before[one.name], after[one.name]) for one in here)
            slowest = max((one.milliseconds for one in here), default=0)
            cells.append(f"{right} of {len(here)} | {slowest}")
        lines.append(f"| {phase.name} | " + " | ".join(cells) + " |")
    return lines


def as_json(lookups: Mapping[str, Sequence[Lookup]]) -> str:
    """For the run's folder."""
    return json.dumps({libc: [vars(one) for one in found] for libc, found in lookups.items()})

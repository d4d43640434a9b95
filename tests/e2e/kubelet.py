"""Pods of the chart that really run, their containers by podman, in a network namespace.

What a kubelet does is done here: variables filled in, those of Services as well, init containers
run to their end first, each container with the rights, the user and the mounts that its manifest
gives it, and nothing else. Native sidecars are not known here, and probes are run when asked for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import Broken
from tests.e2e.containers import IMAGE, Podman

STOP_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """Where a pod runs and what it finds there."""

    namespace: str  # of the network, by ip-netns(8)
    fields: Mapping[str, str] = field(default_factory=dict)  # what fieldRef names
    links: Mapping[str, str] = field(default_factory=dict)  # variables of Services
    volumes: Mapping[str, Path] = field(default_factory=dict)  # by the name of the volume
    image: str = IMAGE  # in place of the manifest's


def service_links(name: str, address: str, ports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The variables that a pod gets for a Service of its namespace, all of them."""
    upper = name.upper().replace("-", "_")
    found = {f"{upper}_SERVICE_HOST": address}
    for port in reversed(ports):  # the first one is what names without a port mean
        number, protocol = str(port["port"]), port["protocol"]
        found[f"{upper}_SERVICE_PORT"] = number
        found[f"{upper}_PORT"] = f"{protocol.lower()}://{address}:{number}"
        found[f"{upper}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = number
        link = f"{upper}_PORT_{number}_{protocol}"
        found |= {link: f"{protocol.lower()}://{address}:{number}", f"{link}_PORT": number,
                  f"{link}_PROTO": protocol.lower(), f"{link}_ADDR": address}  # fmt: skip
    return found


def filled(text: str, variables: Mapping[str, str]) -> str:
    """The text with each $(NAME) that is known replaced."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), text)


def environ(spec: Mapping[str, Any], container: Mapping[str, Any], place: Place) -> dict[str, str]:
    """The variables of a container."""
    found = dict(place.links) if spec.get("enableServiceLinks", True) else {}
    for variable in container.get("env", ()):
        if "valueFrom" in variable:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            found[variable["name"]] = place.fields[path]
        else:
            found[variable["name"]] = filled(variable["value"], found)
    return found


def words(spec: Mapping[str, Any], container: Mapping[str, Any], place: Place) -> list[str]:
    """What `podman run` is told for a container, but for its name."""
    security = spec.get("securityContext", {}) | container["securityContext"]
    # What `podman run` does by itself, and would do for a manifest that does not ask for it too.
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.get("automountServiceAccountToken", True)
    variables = environ(spec, container, place)
    user = security["runAsUser"]
    assert user != 0 or not security.get("runAsNonRoot")
    told = [f"--network=ns:/run/netns/{place.namespace}", "--no-hosts", "--memory=0",
            "--health-interval=disable"]  # fmt: skip
    told.append(f"--user={user}:{security.get('runAsGroup', 0)}")
    if security["readOnlyRootFilesystem"]:
        told += ["--read-only", "--read-only-tmpfs=false"]
    if not security["allowPrivilegeEscalation"]:
        told += ["--security-opt=no-new-privileges"]
    told += [f"--cap-drop={each}" for each in security["capabilities"].get("drop", ())]
    told += [f"--cap-add={each}" for each in security["capabilities"].get("add", ())]
    told += [f"--env={name}={value}" for name, value in variables.items()]
    for mount in container.get("volumeMounts", ()):
        source, read_only = place.volumes.get(mount["name"]), mount.get("readOnly", False)
        if source is None:
            told.append(f"--tmpfs={mount['mountPath']}:size=1m,mode=1777")
        else:
            told.append(f"--volume={source}:{mount['mountPath']}{':ro' if read_only else ''}")
    if "command" in container:
        told.append(f"--entrypoint={container['command'][0]}")
    arguments = [*container.get("command", ())[1:], *container.get("args", ())]
    return [*told, place.image, *(filled(each, variables) for each in arguments)]


class Running:
    """A pod, from `start` until `remove`. A container that has ended stays until then."""

    def __init__(self, podman: Podman, name: str, spec: Mapping[str, Any], place: Place) -> None:
        self._podman, self._name, self._spec, self._place = podman, name, spec, place
        self._started: dict[str, None] = {}

    def start(self) -> str:
        """The init containers to their ends, then the others; return what the former said."""
        said = [
            self._podman("run", "--rm", *words(self._spec, each, self._place))
            for each in self._spec.get("initContainers", ())
        ]
        for each in self._spec["containers"]:
            self.start_one(each["name"])
        return "".join(said)

    def start_one(self, container: str) -> None:
        """Start a container, anew if it has ended."""
        full = self.full(container)
        with contextlib.suppress(Broken):
            self._podman("rm", "--force", "--time=0", full)
        self._started[full] = None
        told = words(self._spec, self._given(container), self._place)
        self._podman("run", "--detach", f"--name={full}", *told)

    def probe(self, container: str, probe: str) -> bool:
        """Whether a probe that is a command succeeds."""
        try:
            command = self._given(container)[probe]["exec"]["command"]
            self._podman("exec", self.full(container), *command)
        except Broken:
            return False
        return True

    def kill(self, container: str) -> None:
        """End a container as the kernel does when there is no memory."""
        self._podman("kill", "--signal=KILL", self.full(container))
        self._podman("wait", self.full(container))

    def end(self, container: str) -> int:
        """End a container in order; return its exit code."""
        self._podman("stop", f"--time={STOP_SECONDS}", self.full(container))
        return int(self._podman("inspect", "-f", "{{.State.ExitCode}}", self.full(container)))

    def log(self, container: str) -> str:
        """What a container has said."""
        return self._podman.log(self.full(container))

    def full(self, container: str) -> str:
        """The name that podman has for it."""
        return f"{self._name}-{container}"

    def remove(self) -> None:
        """Show the logs, which pytest keeps for a failure, and leave nothing behind."""
        for full in self._started:
            print(f"--- {full}\n{self._podman.log(full)[-3000:]}")
            with contextlib.suppress(Broken):
                self._podman("rm", "--force", "--time=0", full)

    def _given(self, container: str) -> Mapping[str, Any]:
        (found,) = [each for each in self._spec["containers"] if each["name"] == container]
        assert isinstance(found, dict)
        return found

"""A node with a real kubelet and a real containerd, for what podman does not know: native sidecars.

Both run in a mount namespace and a PID namespace of their own. What they mount is gone with them,
and when the first process of the PID namespace dies, the kernel ends every container as well. Pods
are at a bridge of this machine, so that they reach what listens at its address, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import Bench, Broken, Program, free_port
from tests.e2e import parts
from tests.e2e.containers import Podman, ip, run
from tests.e2e.outage import wait_for
from tests.e2e.plane import ControlPlane

PAUSE = "localhost/dnsguard-e2e-pause"
CNI_PLUGINS = "/usr/lib/cni"
START_SECONDS = 60.0
GROUPS = Path("/sys/fs/cgroup")
# containerd is told by files alone; nothing of /etc is read, and no plugin of others is loaded.
CONTAINERD = """\
version = 3
root = "{folder}/root"
state = "{folder}/state"
imports = []
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "{folder}/containerd.sock"

[ttrpc]
  address = "{folder}/containerd.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{plugins}"]
  conf_dir = "{folder}/cni"
"""
# The kubelet insists on setting a few of the machine's own parameters, which are others' too: it is
# given files in their places.
INSIDE = """\
set -e
for each in /var/log /var/lib/cni /run/containerd; do
    mkdir -p $each
    mount -t tmpfs tmpfs $each
done
mkdir -p {folder}/sys
for each in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
        kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    [ -e /proc/sys/$each ] || continue
    mine={folder}/sys/$(echo $each | tr / _)
    cat /proc/sys/$each > $mine
    mount --bind $mine /proc/sys/$each
done
exec catatonit -- {containerd} --config {config}
"""


def containers() -> set[Path]:
    """The cgroups that containerd has made for containers, of either version."""
    return {each for where in ("k8s.io", "*/k8s.io") for each in GROUPS.glob(f"{where}/*/")}


class RealNode:
    """A bridge, containerd and a kubelet that the API server knows, from `with` to its end."""

    def __init__(self, bench: Bench, plane: ControlPlane) -> None:
        """Get the programs. Raises MissingError."""
        self._bench, self._plane = bench, plane
        self._containerd, self._kubelet_program = parts.containerd(), parts.kubelet()
        number = os.getpid()
        self.name = f"real-{number}"
        self._bridge = f"dgn{number}"
        third = number % 254
        self.here, self._range = f"10.232.{third}.1", f"10.232.{third}.0/24"
        self._groups = containers()  # another containerd's, if there is one
        self.folder = bench.directory / "node"
        self._undo = contextlib.ExitStack()
        self._runtime: Program | None = None
        self.kubelet: Program | None = None

    def __enter__(self) -> RealNode:
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove_cgroups)
            self._make_bridge(undo)
            self._runtime = self._start_containerd()
            undo.callback(self._runtime.stop)
            self.kubelet = self._start_kubelet()
            undo.callback(self.kubelet.stop)
            undo.callback(self._plane.run, "delete", "node", self.name)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def load(self, podman: Podman, *images: str) -> None:
        """Give containerd images that podman has, and the one that every pod begins with."""
        container = podman.buildah("from", "scratch").strip()
        podman.buildah("add", "-q", container, "/usr/bin/catatonit", "/catatonit")
        podman.buildah("config", "--entrypoint", '["/catatonit", "-P"]', container)
        podman.buildah("commit", "-q", "--rm", container, PAUSE)
        archive = self.folder / "images.tar"
        podman("save", "--quiet", "--multi-image-archive", "--output", str(archive),
               PAUSE, *images)  # fmt: skip
        self._ctr("images", "import", "--local", str(archive))
        archive.unlink()

    def ready(self) -> bool:
        """Whether the API server has it that the node is ready."""
        done = self._plane.run("get", "node", self.name, "-o", "json")
        if done.returncode:
            return False
        found = json.loads(done.stdout)["status"].get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in found)

    def pod(self, namespace: str, name: str) -> dict[str, Any]:
        """The pod as the API server has it."""
        found: dict[str, Any] = json.loads(
            self._plane.kubectl("-n", namespace, "get", "pod", name, "-o", "json")
        )
        return found

    def container(self, pod: dict[str, Any], name: str) -> dict[str, Any]:
        """What the kubelet says of one container, an init container as well; {} before it does."""
        status = pod["status"]
        for each in (
            *status.get("initContainerStatuses", ()),
            *status.get("containerStatuses", ()),
        ):
            if each["name"] == name:
                return dict(each)
        return {}

    def log(self, pod: dict[str, Any], container: str) -> str:
        """What a container has written, in all its lives; works without an API server."""
        metadata = pod["metadata"]
        stem = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        files = sorted((self.folder / "pods" / stem / container).glob("*.log"))
        # Each line begins with a time, the stream and whether it is a whole line.
        return "".join(
            line.split(" ", 3)[3] for file in files for line in file.read_text().splitlines(True)
        )

    def inside(self, pod: dict[str, Any], container: str, *command: str) -> str:
        """What a command says that runs on the node; PID in it is the container's process."""
        identity = self.container(pod, container)["containerID"].removeprefix("containerd://")
        tasks = dict(line.split()[:2] for line in self._ctr("tasks", "list").splitlines()[1:])
        pid = tasks[identity]
        return run([*self._enter(), *(each.replace("PID", pid) for each in command)])

    # -- what it is made of -----------------------------------------------------------------------

    def _make_bridge(self, undo: contextlib.ExitStack) -> None:
        ip("link", "add", self._bridge, "type", "bridge")
        undo.callback(ip, "link", "del", self._bridge)
        ip("addr", "add", f"{self.here}/24", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")

    def _start_containerd(self) -> Program:
        plugin = {
            "type": "bridge", "bridge": self._bridge,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": self._range}]]},
        }  # fmt: skip
        network = {"cniVersion": "1.0.0", "name": "e2e", "plugins": [plugin]}
        self._bench.file("node/cni/e2e.conflist", json.dumps(network))
        config = self._bench.file(
            "node/containerd.toml",
            CONTAINERD.format(folder=self.folder, pause=f"{PAUSE}:latest", plugins=CNI_PLUGINS),
        )
        inside = INSIDE.format(containerd=self._containerd, config=config, folder=self.folder)
        program = self._bench.start(
            "containerd",
            ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sh", "-c", inside],
        )  # fmt: skip
        wait_for("containerd to answer", self._answers, program, START_SECONDS)
        return program

    def _start_kubelet(self) -> Program:
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": "127.0.0.1", "port": free_port(), "readOnlyPort": 0, "healthzPort": 0,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False},
                               "x509": {"clientCAFile": str(self._plane.certificates.authority)}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self.folder}/containerd.sock",
            "podLogsDir": str(self.folder / "pods"),
            "resolvConf": str(self._bench.file("node/resolv.conf", f"nameserver {self.here}\n")),
            # Whatever this machine has of groups, memory, disk and rules is to do.
            "failCgroupV1": False, "cgroupDriver": "cgroupfs", "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [], "failSwapOn": False,
            "makeIPTablesUtilChains": False, "enableControllerAttachDetach": False,
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%",
                             "nodefs.inodesFree": "0%", "memory.available": "1Mi"},
            "oomScoreAdj": 0, "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
            "featureGates": {"KubeletInUserNamespace": True},
        }  # fmt: skip
        file = self._bench.file("node/kubelet.yaml", yaml.safe_dump(config))
        program = self._bench.start(
            "kubelet",
            [*self._enter(), str(self._kubelet_program), f"--config={file}",
             f"--root-dir={self.folder}/kubelet",
             f"--cert-dir={self.folder}/kubelet-certificates", f"--hostname-override={self.name}",
             f"--kubeconfig={self._plane.kubeconfig}", f"--node-ip={self.here}"],
        )  # fmt: skip
        wait_for("the node to be ready", self.ready, program, START_SECONDS)
        return program

    def _first(self) -> int:
        """The first process of the PID namespace, as this machine numbers it."""
        assert self._runtime is not None
        pid = self._runtime.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._first()}", "--mount", "--pid", "--"]

    def _ctr(self, *words: str) -> str:
        return run([str(self._containerd.with_name("ctr")), "--address",
                    f"{self.folder}/containerd.sock", "--namespace", "k8s.io", *words])  # fmt: skip

    def _answers(self) -> bool:
        try:
            self._ctr("version")
        except Broken:
            return False
        return True

    def _remove_cgroups(self) -> None:
        for folder in containers() - self._groups:
            for each in (*sorted(folder.rglob("*/"), reverse=True), folder, folder.parent):
                with contextlib.suppress(OSError):  # the last one is not empty yet, or another's
                    each.rmdir()

"""The real parts of the end-to-end run, and how each is come by: `python -m tests.e2e.parts`.

etcd, podman and musl are Debian packages. kube-apiserver, kubectl, kube-proxy, kubelet, containerd
and CoreDNS are built from their Go modules, once, below `~/.cache`. Whatever cannot be had raises
MissingError with what was tried: a step without its part fails, it is not left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import say
from benchmarks.peers import coredns, sources
from benchmarks.peers.peer import MissingError
from benchmarks.peers.sources import DebianPackage, attempt, which

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dnsguard-e2e"
ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("lookup.c")

# The newest whose Go (1.26) is at hand. Policies that mutate are stable from 1.36 on.
KUBERNETES = "1.37.2"
# What k8s.io/kubernetes takes from the directory beside it in its own repository, and from modules
# of their own everywhere else (the `replace` lines of its go.mod).
STAGING = (
    "api", "apiextensions-apiserver", "apimachinery", "apiserver", "cli-runtime", "client-go",
    "cloud-provider", "cluster-bootstrap", "code-generator", "component-base",
    "component-helpers", "controller-manager", "cri-api", "cri-client", "cri-streaming",
    "csi-translation-lib", "dynamic-resource-allocation", "endpointslice", "externaljwt", "kms",
    "kube-aggregator", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl",
    "kubelet", "metrics", "mount-utils", "pod-security-admission", "sample-apiserver",
    "sample-cli-plugin", "sample-controller", "streaming",
)  # fmt: skip


@dataclass(frozen=True)
class Kubernetes:
    """One program of k8s.io/kubernetes, from its module and those that were cut out of it.

    `go install k8s.io/kubernetes/cmd/...@version` refuses the `replace` lines of its go.mod
    (golang/go#44840), so a main module of our own has them.
    """

    program: str
    version: str = KUBERNETES

    def go_mod(self) -> str:
        """The main module's go.mod; staging modules of v1.N.P are v0.N.P."""
        staged = "v0." + self.version.partition(".")[2]
        lines = [f"\tk8s.io/{name} => k8s.io/{name} {staged}" for name in STAGING]
        return "\n".join(
            ["module e2e", "", "go 1.26", "", f"require k8s.io/kubernetes v{self.version}", "",
             "replace (", *lines, ")", ""]
        )  # fmt: skip

    def ldflags(self) -> str:
        """What the Makefile of Kubernetes links in; without it the program is version 0.0.0."""
        major, minor, _ = self.version.split(".")
        values = {"gitVersion": f"v{self.version}", "gitMajor": major, "gitMinor": minor}
        packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        return "-s -w " + " ".join(
            f"-X {package}.{key}={value}" for package in packages for key, value in values.items()
        )

    def obtain(self, build: Path = CACHE) -> Path:
        """The program's path, built if need be (minutes). Raises MissingError."""
        folder = build / f"kubernetes-{self.version}"
        program = folder / self.program
        if program.exists():
            return program
        go = _go()
        say(f"building {self.program} {self.version} (ten minutes on two processors, once)")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go.mod").write_text(self.go_mod())
        attempt(
            f"go build k8s.io/kubernetes/cmd/{self.program}@v{self.version}",
            [str(go), "build", "-C", str(folder), "-mod=mod", "-trimpath",
             "-ldflags", self.ldflags(), "-o", f"{self.program}.new",
             f"k8s.io/kubernetes/cmd/{self.program}"],
            GOFLAGS="-buildvcs=false", CGO_ENABLED="0",
        )  # fmt: skip
        (folder / f"{self.program}.new").rename(program)
        return program


@dataclass(frozen=True)
class Containerd:
    """containerd with its client and the shim that holds a container, of one module."""

    version: str

    def obtain(self, build: Path = CACHE) -> Path:
        """The path of containerd, built if need be (minutes). Raises MissingError."""
        folder = build / f"containerd-{self.version}"
        fresh = folder.with_suffix(".new")
        if not folder.exists():
            go = _go()
            say(f"building containerd {self.version} (a few minutes, once)")
            module = "github.com/containerd/containerd/v2/cmd"
            attempt(
                f"go install {module}/...@{self.version}",
                [str(go), "install", "-trimpath", "-tags", "no_btrfs no_devmapper no_zfs",
                 *(f"{module}/{name}@{self.version}"
                   for name in ("containerd", "containerd-shim-runc-v2", "ctr"))],
                GOBIN=str(fresh), CGO_ENABLED="0",
            )  # fmt: skip
            fresh.rename(folder)
        return folder / "containerd"


# Kubernetes 1.37 wants a containerd 2.
CONTAINERD = Containerd("v2.4.2")


@dataclass(frozen=True)
class Definitions:
    """What an API server has to be told before it knows the kinds of a project, from its module."""

    module: str
    version: str
    files: tuple[str, ...]

    def obtain(self) -> list[Path]:
        """The paths of its CustomResourceDefinitions. Raises MissingError."""
        wanted = f"{self.module}@{self.version}"
        go = str(_go())
        attempt(f"go mod download {wanted}", [go, "mod", "download", wanted])
        cache = subprocess.run(
            [go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True
        ).stdout.strip()
        return [Path(cache) / wanted / name for name in self.files]


_CERT_MANAGER = "deploy/crds/cert-manager.io_"
_CILIUM = "pkg/k8s/apis/cilium.io/client/crds/v2/"
_PROMETHEUS = "example/prometheus-operator-crd/monitoring.coreos.com_"
# Every kind of others that the chart can make.
DEFINITIONS = (
    Definitions(
        "github.com/cert-manager/cert-manager", "v1.21.2",
        (f"{_CERT_MANAGER}certificates.yaml", f"{_CERT_MANAGER}issuers.yaml"),
    ),
    Definitions(
        "github.com/cilium/cilium", "v1.20.2", (f"{_CILIUM}ciliumlocalredirectpolicies.yaml",)
    ),
    Definitions(
        "github.com/prometheus-operator/prometheus-operator", "v0.85.0",
        (f"{_PROMETHEUS}podmonitors.yaml", f"{_PROMETHEUS}prometheusrules.yaml",
         f"{_PROMETHEUS}servicemonitors.yaml"),
    ),
)  # fmt: skip


def _go() -> Path:
    """Go. Raises MissingError."""
    found = which("go") or (sources.GO_FALLBACK if sources.GO_FALLBACK.exists() else None)
    if found is None:
        raise MissingError("Go is not installed")
    return Path(found)


def api_server() -> Path:
    """kube-apiserver. Raises MissingError."""
    return Kubernetes("kube-apiserver").obtain()


def kubectl() -> Path:
    """kubectl of the same version. Raises MissingError."""
    return Kubernetes("kubectl").obtain()


def kube_proxy() -> Path:
    """kube-proxy of the same version. Raises MissingError."""
    return Kubernetes("kube-proxy").obtain()


def kubelet() -> Path:
    """kubelet of the same version, for a real node. Raises MissingError."""
    return Kubernetes("kubelet").obtain()


def containerd() -> Path:
    """containerd, ctr and its shim beside it, runc and CNI plugins. Raises MissingError."""
    DebianPackage("runc", "runc").obtain(CACHE)
    for path, package in (
        ("/usr/bin/catatonit", "catatonit"), ("/usr/lib/cni/bridge", "containernetworking-plugins")
    ):  # fmt: skip
        _installed(path, package)
    return CONTAINERD.obtain()


def etcd() -> Path:
    """etcd, installed when we may; its service is kept from starting. Raises MissingError."""
    return DebianPackage("etcd-server", "etcd", services=("etcd",)).obtain(CACHE)


def core_dns() -> Path:
    """The CoreDNS that the benchmarks build: all its ordinary plugins. Raises MissingError."""
    return coredns.SOURCE.obtain(sources.BUILD)


def _installed(path: str, package: str) -> None:
    """Install a Debian package that is known by a file which is no command. Raises MissingError."""
    if not Path(path).exists():
        attempt(f"apt-get install {package}",
                ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", package],
                DEBIAN_FRONTEND="noninteractive")  # fmt: skip


def podman() -> Path:
    """podman, with a runtime and an init for its pods. Raises MissingError."""
    DebianPackage("runc", "runc").obtain(CACHE)
    DebianPackage("buildah", "buildah").obtain(CACHE)
    DebianPackage("debootstrap", "debootstrap").obtain(CACHE)
    _installed("/usr/bin/catatonit", "catatonit")
    return DebianPackage("podman", "podman").obtain(CACHE)


def client(libc: str) -> Path:
    """The getaddrinfo client, linked statically against musl or dynamically against glibc."""
    if libc == "musl":
        compiler = DebianPackage("musl-tools", "musl-gcc").obtain(CACHE)
        flags = ["-static"]
    else:
        found = which("gcc")
        if found is None:
            raise MissingError("the client is not compiled: apt-get install gcc libc6-dev")
        compiler, flags = found, []
    program = CACHE / f"lookup-{libc}"
    if program.exists() and program.stat().st_mtime >= CLIENT.stat().st_mtime:
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = CACHE / f"lookup-{libc}.{os.getpid()}"
    attempt(f"compiling lookup.c for {libc}",
            [str(compiler), "-O2", "-Wall", *flags, "-o", str(fresh), str(CLIENT)])  # fmt: skip
    fresh.rename(program)
    return program


def _kinds(of: Definitions) -> str:
    return ", ".join(path.stem for path in of.obtain())


def main() -> int:
    """Fetch and build everything, and say what there is."""
    every: dict[str, Callable[[], object]] = {
        "etcd": etcd, "coredns": core_dns, "kube-apiserver": api_server, "kubectl": kubectl,
        "kube-proxy": kube_proxy, "kubelet": kubelet, "containerd": containerd,
        "podman": podman, "glibc client": lambda: client("glibc"),
        "musl client": lambda: client("musl"),
        **{f"kinds of {each.module}": partial(_kinds, each) for each in DEFINITIONS},
    }  # fmt: skip
    missing = 0
    for name, obtain in every.items():
        try:
            say(f"{name}: {obtain()}")
        except MissingError as error:
            missing += 1
            say(f"{name}: cannot be had: {error}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

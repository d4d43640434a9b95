"""A real control plane on loopback: etcd, kube-apiserver, kubectl, certificates made on the spot.

The API server can be killed and started again over the same etcd, which is what an outage of the
control plane is. There is no scheduler and no controller: pods stay Pending, and EndpointSlices are
written by whoever plays the controller.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, Broken, Program, free_port
from tests.e2e import parts

HOST = "127.0.0.1"
TOKEN = "end-to-end"  # of one run on loopback, whose server is gone afterwards
START_SECONDS = 180.0  # an API server on a busy machine
SERVICE_RANGE = "10.96.0.0/16"


class Certificates:
    """An authority and the certificates for 127.0.0.1 that it signed, made by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = folder / "ca.crt"
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=e2e",
            "-keyout", "ca.key", "-out", "ca.crt",
        )  # fmt: skip

    def signed(self, name: str) -> tuple[Path, Path]:
        """A server's certificate and key."""
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", f"{name}.crt",
        )  # fmt: skip
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def key(self, name: str) -> Path:
        """A key alone, for the tokens of service accounts."""
        self._openssl("genrsa", "-out", f"{name}.key", "2048")
        return self.folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        try:
            done = subprocess.run(
                ["openssl", *arguments],
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise Broken(f"openssl cannot be run ({error}). Try: apt-get install openssl") from None
        if done.returncode:
            raise Broken(f"openssl {arguments[0]} failed: {done.stderr.strip()[-300:]}")


class ControlPlane:
    """etcd and kube-apiserver; `kubectl` speaks to it as its administrator."""

    def __init__(self, bench: Bench, extra: Iterable[str] = ()) -> None:
        self._bench = bench
        self._server_program = parts.api_server()
        self._kubectl_program = parts.kubectl()
        etcd_program = parts.etcd()
        self.certificates = Certificates(bench.directory / "certificates")
        self._tls = self.certificates.signed("api-server")
        self._accounts = self.certificates.key("accounts")
        self._extra = tuple(extra)
        self.port = free_port()
        self._tokens = bench.file("tokens.csv", f"{TOKEN},admin,1,system:masters\n")
        self.kubeconfig = bench.file("kubeconfig", json.dumps(self._config()))
        self._etcd_port = free_port()
        self.etcd = self._start_etcd(etcd_program, free_port())
        self.server: Program | None = None

    def _config(self) -> dict[str, Any]:
        cluster = {
            "server": f"https://{HOST}:{self.port}",
            "certificate-authority": str(self.certificates.authority),
        }
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
            "clusters": [{"name": "e2e", "cluster": cluster}],
            "users": [{"name": "e2e", "user": {"token": TOKEN}}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        }  # fmt: skip

    def _start_etcd(self, program: Path, peer: int) -> Program:
        return self._bench.start(
            "etcd",
            [str(program), "--data-dir", str(self._bench.directory / "etcd"),
             "--listen-client-urls", f"http://{HOST}:{self._etcd_port}",
             "--advertise-client-urls", f"http://{HOST}:{self._etcd_port}",
             "--listen-peer-urls", f"http://{HOST}:{peer}",
             "--initial-advertise-peer-urls", f"http://{HOST}:{peer}",
             "--initial-cluster", f"default=http://{HOST}:{peer}"],
            port=self._etcd_port,
        )  # fmt: skip

    def start(self) -> None:
        """Start the API server and wait until it is ready. Raises Broken with its last words."""
        certificate, key = self._tls
        self.server = self._bench.start(
            "kube-apiserver",
            [str(self._server_program), f"--etcd-servers=http://{HOST}:{self._etcd_port}",
             f"--bind-address={HOST}", f"--secure-port={self.port}",
             # Nobody but this machine is to reach it, so there are no endpoints to tell of.
             "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
             f"--service-cluster-ip-range={SERVICE_RANGE}",
             f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
             "--service-account-issuer=https://e2e.invalid",
             f"--service-account-key-file={self._accounts}",
             f"--service-account-signing-key-file={self._accounts}",
             f"--token-auth-file={self._tokens}", "--authorization-mode=RBAC",
             # There is no kube-proxy: webhooks are asked at the addresses of EndpointSlices.
             "--enable-aggregator-routing=true",
             # No controller makes the account that each pod would have to have.
             "--disable-admission-plugins=ServiceAccount", "--profiling=false", *self._extra],
            port=self.port,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.server.process.poll() is not None or time.monotonic() > deadline:
                raise Broken(f"kube-apiserver did not get ready. It said:\n{self.server.tail()}")
            time.sleep(0.2)

    def kill(self) -> None:
        """End the API server as a crash does; what it knew is in etcd."""
        assert self.server is not None
        self.server.kill()

    def ready(self) -> bool:
        """Whether /readyz says so."""
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=10, context=context)
        try:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def run(self, *arguments: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        """kubectl, with `given` as JSON on its standard input; its failure is the caller's."""
        return subprocess.run(
            [str(self._kubectl_program), f"--kubeconfig={self.kubeconfig}",
             f"--cache-dir={self._bench.directory / 'kubectl'}", *arguments],
            input=None if given is None else json.dumps(given),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def kubectl(self, *arguments: str, given: Any = None) -> str:
        """kubectl's output. Raises Broken with what it said when it fails."""
        done = self.run(*arguments, given=given)
        if done.returncode:
            raise Broken(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """kubectl apply of all of them."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=bundle)

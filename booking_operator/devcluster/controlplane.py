"""Runs etcd and kube-apiserver on free loopback ports, in a temporary directory."""

import os
import secrets
import signal
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from booking_operator.devcluster.binaries import Binaries
from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.process import ChildProcess, free_port, listens

_MAX_ATTEMPTS = 3  # another process may bind a port after `free_port` has chosen it
_OK = 200
_NO_PODS = ("--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none")


class ControlPlane:
    """A control plane, as a synchronous context manager. Exit stops it and removes its directory."""

    def __init__(
        self,
        binaries: Binaries,
        flags: Sequence[str] = (),
        *,
        pods: bool = False,
        address: str = "127.0.0.1",
        port: int | None = None,
        within: Path | None = None,
    ) -> None:
        """Choose the programs, additional flags of the API server, and its address.

        Args:
            binaries: the programs.
            flags: additional flags of the API server, which override the default ones.
            pods: whether pods will run in the cluster.
            address: the address of the API server, also for pods.
            port: the port of the API server; by default a free one.
            within: the parent of its directory; by default the system's temporary directory.
        """
        self._binaries = binaries
        self._address = address
        self._chosen_port = port
        self._within = within
        self._flags = [*(() if pods else _NO_PODS), *flags]
        self._stack = ExitStack()
        self._token = secrets.token_urlsafe(24)
        self._port = 0
        self._etcd_port = 0

    def __enter__(self) -> Self:
        """Start both servers and wait until the API server is ready.

        Raises:
            DevclusterError: a server did not start; the message contains the end of its log.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                self._start_all()
            except DevclusterError:
                self._stack.close()
                if attempt == _MAX_ATTEMPTS:
                    raise
            except BaseException:
                self._stack.close()
                raise
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both servers and remove the directory."""
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL of the API server."""
        return f"https://{self._address}:{self._port}"

    @property
    def etcd_url(self) -> str:
        """The URL of etcd, for clients that write objects directly."""
        return f"http://127.0.0.1:{self._etcd_port}"

    @property
    def token(self) -> str:
        """A bearer token of a member of system:masters."""
        return self._token

    @property
    def ca_file(self) -> Path:
        """The self-signed certificate of the API server."""
        return self.directory / "certs" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of the administrator."""
        return self.directory / "kubeconfig"

    def stop_apiserver(self, *, kill: bool = False) -> None:
        """Stop the API server; with `kill`, send SIGKILL instead of SIGTERM. etcd continues to run."""
        self._apiserver.stop(kill=kill)

    def start_apiserver(self) -> None:
        """Start the API server with the same port and keys, and wait until it is ready."""
        self._apiserver.start()
        self._apiserver.wait_until(self._ready)

    @property
    def etcd_directory(self) -> Path:
        """The data directory of etcd."""
        return self.directory / "etcd"

    def stop_etcd(self, *, kill: bool = False) -> None:
        """Stop etcd; with `kill`, send SIGKILL instead of SIGTERM. The API server continues to run."""
        self._etcd.stop(kill=kill)

    def start_etcd(self) -> None:
        """Start etcd with the same port and data, and wait until it listens."""
        self._etcd.start()
        self._etcd.wait_until(lambda: listens(self._etcd_port))

    def pause_etcd(self) -> None:
        """Pause etcd with SIGSTOP."""
        self._etcd.signal(signal.SIGSTOP)

    def resume_etcd(self) -> None:
        """Resume etcd with SIGCONT."""
        self._etcd.signal(signal.SIGCONT)

    def _start_all(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="booking-operator-devcluster-", dir=self._within)
        self.directory = Path(self._stack.enter_context(temporary))
        self._etcd_port, peer_port = free_port(), free_port()
        self._port = self._chosen_port or free_port()
        self._write_secrets()
        command = self._etcd_command(self._etcd_port, peer_port)
        self._etcd = ChildProcess("etcd", command, self.directory / "etcd.log")
        self._stack.enter_context(self._etcd)
        self._etcd.wait_until(lambda: listens(self._etcd_port))
        self._apiserver = ChildProcess(
            "kube-apiserver", self._apiserver_command(self._etcd_port), self.directory / "kube-apiserver.log"
        )
        self._stack.enter_context(self._apiserver)
        self._apiserver.wait_until(self._ready)
        self._write_kubeconfig()

    def _etcd_command(self, port: int, peer_port: int) -> list[str]:
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        return [
            str(self._binaries.etcd),
            f"--data-dir={self.etcd_directory}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver_command(self, etcd_port: int) -> list[str]:
        return [
            str(self._binaries.kube_apiserver),
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",
            f"--secure-port={self._port}",
            f"--cert-dir={self.directory / 'certs'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.directory / 'sa.pub'}",
            f"--service-account-signing-key-file={self.directory / 'sa.key'}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            *self._flags,
        ]

    def _write_secrets(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write_private(self.directory / "sa.key", private)
        _write_private(self.directory / "sa.pub", public)
        _write_private(
            self.directory / "tokens.csv", f'{self._token},admin,admin,"system:masters"\n'.encode()
        )

    def _write_kubeconfig(self) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "devcluster",
            "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": "admin"}}],
            "clusters": [
                {
                    "name": "devcluster",
                    "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)},
                }
            ],
            "users": [{"name": "admin", "user": {"token": self._token}}],
        }
        _write_private(self.kubeconfig, yaml.safe_dump(config).encode())

    def _ready(self) -> bool:
        if not self.ca_file.is_file():
            return False
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            trust = ssl.create_default_context(cafile=str(self.ca_file))
            with urllib.request.urlopen(request, timeout=2, context=trust) as answer:  # noqa: S310
                return bool(answer.status == _OK)
        except (urllib.error.URLError, OSError):
            return False


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)

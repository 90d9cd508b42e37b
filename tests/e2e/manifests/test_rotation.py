"""Rotation of the token and of the CA while the operator runs, without a restart."""

import asyncio
import shutil
from pathlib import Path

import yaml

from booking_operator.devcluster.playground import OwnPlayground
from tests.e2e.conftest import Operator, Tenant, soon, until
from tests.support.kustomize import MANIFESTS, SYSTEM


class Files:
    """A kubeconfig with paths of a token file and a CA file, as in a pod."""

    def __init__(self, devcluster: OwnPlayground, directory: Path) -> None:
        self._devcluster = devcluster
        self.kubeconfig, self.token, self._ca = (directory / name for name in ("config", "token", "ca.crt"))
        whole = yaml.safe_load(devcluster.kubeconfig.read_text())
        whole["users"][0]["user"] = {"tokenFile": str(self.token)}
        whole["clusters"][0]["cluster"]["certificate-authority"] = str(self._ca)
        self.kubeconfig.write_text(yaml.safe_dump(whole))
        self.renew_token()
        self.renew_ca()

    def renew_token(self) -> None:
        self.token.write_text(self._devcluster.kubectl("create", "token", "booking-operator", "-n", SYSTEM))

    def renew_ca(self) -> None:
        shutil.copy(self._devcluster.control_plane.ca_file, self._ca)

    def admitted(self) -> bool:
        """Whether the API server still accepts the token in the file."""
        user = ("--kubeconfig", str(self.kubeconfig), "auth", "whoami")
        return self._devcluster.kubectl.attempt(*user).returncode == 0


def replace_serving_certificate(devcluster: OwnPlayground) -> None:
    """Restart the API server with a new self-signed certificate.

    It runs in the main thread, because the child process ends with the thread that started it.
    """
    plane = devcluster.control_plane
    plane.stop_apiserver()
    for file in (plane.ca_file, plane.ca_file.with_suffix(".key")):
        file.unlink()
    plane.start_apiserver()


async def test_the_operator_continues_after_rotation_of_token_and_ca(
    devcluster: OwnPlayground, tenant: Tenant, operator: Operator, tmp_path: Path
) -> None:
    files = await asyncio.to_thread(Files, devcluster, tmp_path)
    tenant.resource()
    async with operator(kubeconfig=str(files.kubeconfig)):
        await until(lambda: tenant.status("resource", "res").get("status") == "STOPPED")

        # The token becomes invalid, because its ServiceAccount is deleted and created again.
        devcluster.kubectl("delete", "serviceaccount", "booking-operator", "-n", SYSTEM)
        devcluster.kubectl("apply", "-k", str(MANIFESTS))
        await until(lambda: not files.admitted())
        tenant.booking("first", soon(-60), soon(600))
        # While the API server does not answer, the operator acts on its caches.
        await until(lambda: set(tenant.states()) == {"running"})
        assert tenant.status("booking", "first") == {}
        await asyncio.to_thread(files.renew_token)
        await until(lambda: tenant.status("booking", "first").get("status") == "IN PROGRESS")

        replace_serving_certificate(devcluster)
        tenant.booking("second", soon(3600), soon(7200))
        await asyncio.to_thread(files.renew_ca)
        await until(lambda: tenant.status("booking", "second").get("status") == "SCHEDULED")
        assert set(tenant.states()) == {"running"}

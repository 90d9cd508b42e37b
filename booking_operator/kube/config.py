"""Finds the cluster and the credentials the way kubectl does."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml
from kubernetes_asyncio import config
from kubernetes_asyncio.client.configuration import Configuration

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# kubernetes_asyncio meets a malformed kubeconfig with whatever Python raises first.
_UNUSABLE = (
    config.ConfigException,
    yaml.YAMLError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
)


class ConfigError(Exception):
    """There is no usable cluster configuration; the message says what is missing and where it was sought.

    Attributes:
        fatal: for the command line: the message says it all, a traceback says no more.
    """

    fatal = True


class ClusterConfig:
    """Loads credentials anew whenever it is asked to, so that rotated ones are found."""

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Choose the source: `kubeconfig`, `KUBECONFIG`, `~/.kube/config`, or the pod's ServiceAccount."""
        self._environ = os.environ if environ is None else environ
        self._explicit = kubeconfig or self._environ.get("KUBECONFIG") or ""
        self._context = context

    async def load(self) -> Configuration:
        """Read the configuration.

        Raises:
            ConfigError: there is none, or it cannot be used.
        """
        configuration = Configuration()
        default = Path.home() / ".kube" / "config"
        try:
            if self._explicit:
                self._require_file()
                await self._from_file(self._explicit, configuration)
            elif default.is_file():
                await self._from_file(str(default), configuration)
            elif _IN_CLUSTER in self._environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                raise ConfigError(
                    "no cluster to talk to: give --kubeconfig, set KUBECONFIG, create ~/.kube/config, "
                    "or run in a pod with a ServiceAccount"
                )
        except _UNUSABLE as error:
            raise ConfigError(f"cannot use {self._source(default)}: {error}") from error
        # kubernetes_asyncio reads token files as they are, and many end in a newline.
        configuration.api_key = {name: value.strip() for name, value in configuration.api_key.items()}
        configuration.refresh_api_key_hook = None
        return configuration

    def namespace(self) -> str:
        """The namespace that we are in: the pod's, or that of the kubeconfig's context; else `default`."""
        if pod := self._environ.get("POD_NAMESPACE"):
            return pod
        default = Path.home() / ".kube" / "config"
        if self._explicit or default.is_file():
            with suppress(*_UNUSABLE):
                contexts, current = config.list_kube_config_contexts(self._explicit or str(default))
                chosen = [item for item in contexts if item["name"] == self._context] or [current]
                return chosen[0]["context"].get("namespace") or "default"
        elif _NAMESPACE_FILE.is_file():
            return _NAMESPACE_FILE.read_text().strip()
        return "default"

    def _source(self, default: Path) -> str:
        if self._explicit:
            return f"kubeconfig {self._explicit}"
        return f"kubeconfig {default}" if default.is_file() else "the pod's ServiceAccount"

    def _require_file(self) -> None:
        files = [Path(part).expanduser() for part in self._explicit.split(os.pathsep) if part]
        if not any(file.is_file() for file in files):
            raise ConfigError(
                f"kubeconfig {self._explicit} does not exist; check --kubeconfig and KUBECONFIG"
            )

    async def _from_file(self, path: str, configuration: Configuration) -> None:
        await config.load_kube_config(
            config_file=path,
            context=self._context,
            client_configuration=configuration,
            persist_config=False,
        )

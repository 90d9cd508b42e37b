"""Finds the cluster and the credentials in the same way as kubectl."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio import config
from kubernetes_asyncio.client.configuration import Configuration
from kubernetes_asyncio.config.kube_config import KubeConfigLoader, KubeConfigMerger

from booking_operator.engine.yaml_errors import describe_yaml_error
from booking_operator.errors import UserError

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# kubernetes_asyncio does not validate a kubeconfig: a malformed one raises any of these.
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


class ConfigError(UserError):
    """There is no usable cluster configuration.

    The message names what is missing and where the operator looked.
    """


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How to reach the API server.

    Attributes:
        configuration: the address, the trusted CA and the credentials.
        token_file: the file that contains the token, if any. It may be replaced at any time.
    """

    configuration: Configuration
    token_file: Path | None = None


class ClusterConfig:
    """Loads the cluster configuration.

    Each call reads the files again, so that it finds rotated credentials.
    """

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        environ: Mapping[str, str] | None = None,
        service_account: Path = _SERVICE_ACCOUNT,
    ) -> None:
        """Choose the source: `kubeconfig`, `KUBECONFIG`, `~/.kube/config`, or the pod's ServiceAccount."""
        self._environ = os.environ if environ is None else environ
        self._service_account = service_account
        self._explicit = kubeconfig or self._environ.get("KUBECONFIG") or ""
        self._context = context

    async def load(self) -> ClusterAccess:
        """Read the configuration.

        Raises:
            ConfigError: there is no configuration, or it is unusable.
        """
        configuration = Configuration()
        default = self._default()
        try:
            if self._explicit:
                self._require_file()
                token_file = await self._from_file(self._explicit, configuration)
            elif default.is_file():
                token_file = await self._from_file(str(default), configuration)
            elif _IN_CLUSTER in self._environ:
                token_file = self._from_pod(configuration)
            else:
                raise ConfigError(
                    "no cluster configured: use --kubeconfig, set KUBECONFIG, create ~/.kube/config, "
                    "or run in a pod with a ServiceAccount"
                )
        except _UNUSABLE as error:
            why = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else error
            raise ConfigError(f"cannot use {self._source(default)}: {why}") from error
        # kubernetes_asyncio does not strip the contents of token files, and many end in a newline.
        configuration.api_key = {name: value.strip() for name, value in configuration.api_key.items()}
        return ClusterAccess(configuration, token_file)

    def namespace(self) -> str:
        """The current namespace: of the pod, or of the context in the kubeconfig; else `default`."""
        if pod := self._environ.get("POD_NAMESPACE"):
            return pod
        if context := self._active_context():
            return str((context.get("context") or {}).get("namespace") or "default")
        file = self._service_account / "namespace"
        return file.read_text().strip() if not self._has_file() and file.is_file() else "default"

    def context_namespace(self) -> str:
        """The namespace of the context in the kubeconfig, as kubectl uses it; that of the pod without one."""
        context = self._active_context()
        if context is None:
            return self.namespace()
        return str((context.get("context") or {}).get("namespace") or "default")

    def context_name(self) -> str:
        """The name of the context in the kubeconfig; empty without one, as in a pod."""
        context = self._active_context()
        return str(context.get("name", "")) if context else ""

    def _active_context(self) -> dict[str, Any] | None:
        """The context in the kubeconfig; None if there is no usable kubeconfig."""
        if self._has_file():
            with suppress(*_UNUSABLE):
                contexts, current = config.list_kube_config_contexts(self._explicit or str(self._default()))
                chosen = [item for item in contexts if item["name"] == self._context] or [current]
                found: dict[str, Any] = chosen[0]
                return found
        return None

    def _has_file(self) -> bool:
        return bool(self._explicit) or self._default().is_file()

    def _default(self) -> Path:
        """The path where kubectl looks. Only HOME is reliable: in a pod, the user has no passwd entry."""
        return Path(self._environ.get("HOME") or "/") / ".kube" / "config"

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

    async def _from_file(self, path: str, configuration: Configuration) -> Path | None:
        loader = _Loader(KubeConfigMerger(path).config, active_context=self._context, config_base_path=None)
        await loader.load_and_set(configuration)
        return loader.token_file

    def _from_pod(self, configuration: Configuration) -> Path:
        token_file = self._service_account / "token"
        config.load_incluster_config(
            client_configuration=configuration,
            try_refresh_token=False,
            token_filename=str(token_file),
            cert_filename=str(self._service_account / "ca.crt"),
            environ=self._environ,
        )
        return token_file


class _Loader(KubeConfigLoader):
    @property
    def token_file(self) -> Path | None:
        """The file that the token comes from, or None."""
        user = self._user
        if user is None or "tokenFile" not in user:
            return None
        if self.provider or "exec" in user or "token" in user:
            return None  # these take precedence
        return Path(self._get_base_path(user.path), str(user["tokenFile"]))

"""The operator's credentials for the API server and the CA that it trusts, kept up to date while it runs.

In a pod, both are files that change at run time. The kubelet renews the token when a fifth of its lifetime is
left, and replaces the CA certificates when they change. As in client-go, files are reread once a minute.
After a 401 or an untrusted server certificate, the store reloads all credentials immediately and runs the
exec plugins. Open connections stay open: new credentials apply to later requests only.
"""

import asyncio
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from kubernetes_asyncio.client.configuration import Configuration

from booking_operator.engine.clock import Clock
from booking_operator.kube.http_session import ssl_context
from booking_operator.kube.kubeconfig import ClusterAccess, ClusterConfig, ConfigError

RELOAD_INTERVAL_SECONDS = 60.0
LOAD_TIMEOUT_SECONDS = 30.0
"""Timeout of an exec plugin. It equals the timeout of a request, because a request waits for the plugin."""


@dataclass(frozen=True, slots=True, eq=False)
class Credentials:
    """The credentials of one request.

    Attributes:
        configuration: the address and the proxy settings of the API server.
        authorization: value of the Authorization header; empty to omit it.
        ssl_context: the TLS context for new connections.
        files: contents of the files from which these credentials were created.
    """

    configuration: Configuration
    authorization: str
    ssl_context: ssl.SSLContext
    files: Mapping[Path, bytes]

    def equivalent_to(self, other: "Credentials") -> bool:
        """Whether a request with the other credentials would have the same result."""
        return (self.configuration.host, self.authorization, self.files) == (
            other.configuration.host,
            other.authorization,
            other.files,
        )


class CredentialStore:
    """The credentials of one client."""

    def __init__(self, config: ClusterConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._access = ClusterAccess(Configuration())
        self._current: Credentials | None = None
        self._read_at = -math.inf
        self._attempts = 0
        self._renewing = asyncio.Lock()
        self._log = structlog.get_logger()

    async def open(self) -> Credentials:
        """Load the configuration and all credential files.

        Raises:
            ConfigError: there is no usable configuration, its certificates are unusable, or its exec plugin
                or OIDC provider does not respond in time.
        """
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                self._access = access = await self._config.load()
        except TimeoutError:
            text = "the exec plugin or OIDC provider of the kubeconfig returned no token"
            raise ConfigError(f"{text} within {LOAD_TIMEOUT_SECONDS:.0f} s") from None
        self._read_at = self._clock.monotonic()
        self._current = current = _credentials(access, _contents(access))
        return current

    def current(self) -> Credentials:
        """Return the credentials. Their files were read at most `RELOAD_INTERVAL_SECONDS` ago.

        If a file cannot be read, the last credentials stay in use.

        Raises:
            RuntimeError: `open` was not called.
        """
        current = self._current
        if current is None:
            raise RuntimeError("CredentialStore.open must be called first")
        if self._clock.monotonic() - self._read_at < RELOAD_INTERVAL_SECONDS:
            return current
        self._read_at = self._clock.monotonic()
        try:
            files = _contents(self._access)
            if files != current.files:
                self._current = current = _credentials(self._access, files, current)
                self._log.info("credentials_reloaded", reason="a file has changed")
        except ConfigError as error:
            self._log.warning("credentials_reload_failed", error=str(error))
        return current

    async def renew(self, refused: Credentials, why: str) -> Credentials:
        """Return newer credentials after the server refused `refused`; return `refused` if there are none.

        If several callers come at the same time, only one of them reloads.
        """
        before = self._attempts
        async with self._renewing:
            if self._current is not None and self._current is not refused:
                return self._current
            if self._attempts != before:
                return refused  # another caller has just reloaded, without a difference
            self._attempts += 1
            try:
                renewed = await self.open()
            except ConfigError as error:
                self._log.warning("credentials_reload_failed", error=str(error))
                return refused
            if renewed.equivalent_to(refused):
                self._current = refused
                return refused
            self._log.info("credentials_reloaded", reason=why)
            return renewed


def _contents(access: ClusterAccess) -> dict[Path, bytes]:
    """Read the files that may change.

    Raises:
        ConfigError: a file cannot be read.
    """
    configuration = access.configuration
    named = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file, access.token_file)
    try:
        return {Path(name): Path(name).read_bytes() for name in named if name}
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from error


def _credentials(
    access: ClusterAccess, files: Mapping[Path, bytes], before: Credentials | None = None
) -> Credentials:
    """Build the credentials from the configuration and the contents of its files.

    If only the token differs from `before`, its TLS context is reused, which keeps the connections open.

    Raises:
        ConfigError: the token file is empty, or the certificates are unusable.
    """
    authorization = access.configuration.api_key.get("BearerToken", "")
    if access.token_file is not None:
        token = files[access.token_file].decode("ascii", "replace").strip()
        if not token:
            raise ConfigError(f"the token file {access.token_file} is empty")
        authorization = f"Bearer {token}"
    if before is not None and _certificates(access, files) == _certificates(access, before.files):
        trusted = before.ssl_context
    else:
        trusted = ssl_context(access.configuration)
    return Credentials(access.configuration, authorization, trusted, files)


def _certificates(access: ClusterAccess, files: Mapping[Path, bytes]) -> dict[Path, bytes]:
    return {path: content for path, content in files.items() if path != access.token_file}

"""The operator's credentials for the API server and the CA that it trusts, kept up to date while it runs.

In a pod both are files that are replaced under way: the kubelet renews the token when a fifth of its life is
left, and the CA's certificates when they change. As client-go does it, files are read again once a minute.
When the API server refuses us, or shows a certificate that we do not trust, everything is read again at once,
and plugins are run. What is open stays open: only later requests are sent with what is new.
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

RELOAD_SECONDS = 60.0
LOAD_TIMEOUT_SECONDS = 30.0
"""How long a plugin may take: as long as a request, which waits for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Credentials:
    """What one request is sent with.

    Attributes:
        configuration: where the API server is, and which way leads there.
        authorization: value of the header; empty for none.
        ssl_context: for new connections.
        files: contents of the files that this was made from.
    """

    configuration: Configuration
    authorization: str
    ssl_context: ssl.SSLContext
    files: Mapping[Path, bytes]

    def equivalent_to(self, other: "Credentials") -> bool:
        """Whether the other one would have a request end in the same way."""
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
        """Read everything.

        Raises:
            ConfigError: there is no usable configuration, or it names certificates that are not, or what it
                runs or asks for a token does not answer.
        """
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                self._access = access = await self._config.load()
        except TimeoutError:
            text = "what the kubeconfig runs or asks for a token (exec, OIDC) does not answer"
            raise ConfigError(f"{text} within {LOAD_TIMEOUT_SECONDS:.0f} s") from None
        self._read_at = self._clock.monotonic()
        self._current = current = _credentials(access, _contents(access))
        return current

    def current(self) -> Credentials:
        """The credentials, from files as they were a minute ago at the longest.

        Raises:
            RuntimeError: they have not been opened.
        """
        current = self._current
        if current is None:
            raise RuntimeError("the credentials have not been opened")
        if self._clock.monotonic() - self._read_at < RELOAD_SECONDS:
            return current
        self._read_at = self._clock.monotonic()
        try:
            files = _contents(self._access)
            if files != current.files:
                self._current = current = _credentials(self._access, files, current)
                self._log.info("credentials_reloaded", because="a file has changed")
        except ConfigError as error:
            self._log.warning("credentials_unreadable", error=str(error))
        return current

    async def renew(self, refused: Credentials, why: str) -> Credentials:
        """What to try after `refused` did not do; that itself, where there is nothing else.

        However many are refused at a time, one of them reads.
        """
        before = self._attempts
        async with self._renewing:
            if self._current is not None and self._current is not refused:
                return self._current
            if self._attempts != before:
                return refused  # another one has just found nothing better
            self._attempts += 1
            try:
                renewed = await self.open()
            except ConfigError as error:
                self._log.warning("credentials_unreadable", error=str(error))
                return refused
            if renewed.equivalent_to(refused):
                self._current = refused
                return refused
            self._log.info("credentials_reloaded", because=why)
            return renewed


def _contents(access: ClusterAccess) -> dict[Path, bytes]:
    """What is in the files that may change.

    Raises:
        ConfigError: one cannot be read.
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
    """Put together what was read.

    Where only the token differs from what there was `before`, trust stays, and with it the connections.

    Raises:
        ConfigError: it cannot be used.
    """
    authorization = access.configuration.api_key.get("BearerToken", "")
    if access.token_file is not None:
        token = files[access.token_file].decode("ascii", "replace").strip()
        if not token:
            raise ConfigError(f"{access.token_file} is empty")
        authorization = f"Bearer {token}"
    if before is not None and _certificates(access, files) == _certificates(access, before.files):
        trusted = before.ssl_context
    else:
        trusted = ssl_context(access.configuration)
    return Credentials(access.configuration, authorization, trusted, files)


def _certificates(access: ClusterAccess, files: Mapping[Path, bytes]) -> dict[Path, bytes]:
    return {path: content for path, content in files.items() if path != access.token_file}

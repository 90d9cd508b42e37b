"""The HTTP session with one API server: connection pool, proxy and TLS context."""

import ssl
import sys

import aiohttp
from kubernetes_asyncio.client.configuration import Configuration

from booking_operator.engine.http_proxy import proxy_for
from booking_operator.kube.kubeconfig import ConfigError

CONNECTIONS = 100
# A cancelled request leaves a TLS connection that closes slowly. `enable_cleanup_closed` aborts such
# connections. aiohttp ignores the option, with a warning, on Python versions that have the fix:
# https://github.com/python/cpython/pull/118960. On 3.11.2, which Debian 12 has, an abort of a closed
# connection raises AttributeError.
_TLS_CLOSES_LATE = (3, 11, 7) <= sys.version_info < (3, 12, 7) or (3, 13, 0) <= sys.version_info < (3, 13, 1)
_MAX_LINE_BYTES = 2**21
"""In bytes. A watch event is one line, and an object has at most 1.5 MiB, which is the limit of etcd."""


def open_session(configuration: Configuration) -> aiohttp.ClientSession:
    """Open a session; the caller must close it.

    Each request passes its TLS context, because that may change.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, enable_cleanup_closed=_TLS_CLOSES_LATE),
        proxy=configuration.proxy or proxy_for(configuration.host or ""),
        read_bufsize=_MAX_LINE_BYTES,
    )


def ssl_context(configuration: Configuration) -> ssl.SSLContext:
    """Create the TLS context: the trusted CA and the client certificate.

    Raises:
        ConfigError: a certificate file of the configuration is unusable.
    """
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    except OSError as error:
        files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        named = ", ".join(filter(None, files))
        raise ConfigError(f"cannot load the certificates of the cluster ({named}): {error}") from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context

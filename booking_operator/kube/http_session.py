"""The HTTP session with one API server, as its configuration says: which way, and whom to trust."""

import ssl
import sys

import aiohttp
from kubernetes_asyncio.client.configuration import Configuration

from booking_operator.engine.http_proxy import proxy_for
from booking_operator.kube.kubeconfig import ConfigError

CONNECTIONS = 100
# Requests that are cancelled leave connections that close in their own time, unless they are cut with the
# rest; aiohttp refuses that where Python does it: https://github.com/python/cpython/pull/118960.
# Debian 12 has 3.11.2, where to cut what is closed already raises AttributeError.
_TLS_CLOSES_LATE = (3, 11, 7) <= sys.version_info < (3, 12, 7) or (3, 13, 0) <= sys.version_info < (3, 13, 1)
_LONGEST_LINE = 2**21
"""An object has 1.5 MiB at most, which is etcd's limit, and a watch event is one line."""


def open_session(configuration: Configuration) -> aiohttp.ClientSession:
    """Open a session; it must be closed. Each request brings its own trust, because that may change."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, enable_cleanup_closed=_TLS_CLOSES_LATE),
        proxy=configuration.proxy or proxy_for(configuration.host or ""),
        read_bufsize=_LONGEST_LINE,
    )


def ssl_context(configuration: Configuration) -> ssl.SSLContext:
    """Whom to trust, and which certificate to show.

    Raises:
        ConfigError: a certificate that the configuration names cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    except OSError as error:
        files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        named = ", ".join(filter(None, files))
        raise ConfigError(f"cannot use the certificates of the cluster ({named}): {error}") from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context

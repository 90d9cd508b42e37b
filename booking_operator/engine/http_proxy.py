"""Finds the HTTP proxy for a URL from the environment variables."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """Return the proxy for `url` by HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or None if there is none.

    Callers call it once per session. The `trust_env` option of aiohttp would do this lookup in a thread for
    each request, and read ~/.netrc each time.
    """
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    # curl, Go and botocore also take a proxy without a scheme as an HTTP proxy.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy

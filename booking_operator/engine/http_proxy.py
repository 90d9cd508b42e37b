"""Which HTTP proxy leads where, as the environment says."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """The proxy for `url`, by HTTPS_PROXY, HTTP_PROXY and NO_PROXY; None where they name none.

    To be asked once: aiohttp's own `trust_env` asks for each request, in a thread, and reads ~/.netrc then.
    """
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    # Without a scheme it is an HTTP proxy to curl, Go and botocore.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy

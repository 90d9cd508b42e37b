"""Finds the HTTP proxy for a URL from the environment variables, by the rules of client-go and kubectl.

The rules are those of https://pkg.go.dev/golang.org/x/net/http/httpproxy. An entry of NO_PROXY is a domain
(`example.com` also covers its subdomains, `.example.com` and `*.example.com` only these), an IP address, a
CIDR such as `10.0.0.0/8`, or `*`. A domain or an address may have a port. The standard library of Python has
other rules: for example, it does not know a CIDR.
"""

import os
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_MAPPED_BITS = 96  # an IPv4 address in IPv6 form, ::ffff:10.0.0.1, has so many fixed bits


def proxy_for(url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the proxy for `url` by HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or None if there is none.

    Callers call it once per session. The `trust_env` option of aiohttp would do this lookup in a thread for
    each request, and read ~/.netrc each time.
    """
    scheme = urlsplit(url).scheme
    proxy = _setting(environ, f"{scheme}_proxy") if scheme in _DEFAULT_PORTS else ""
    if not proxy or _bypasses(*_host_and_port(url, scheme), _setting(environ, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _setting(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name, "")


def _host_and_port(url: str, scheme: str) -> tuple[str, str]:
    address = urlsplit(url).netloc.rpartition("@")[2]
    host, port = _split_port(address) or (address.strip("[]"), "")
    return _ascii(host), port or _DEFAULT_PORTS[scheme]


def _bypasses(host: str, port: str, no_proxy: str) -> bool:
    """Whether a request to `host` and `port` goes to no proxy."""
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return "*" in entries or any(_matches(entry, host.strip().lower(), port, address) for entry in entries)


def _matches(entry: str, host: str, port: str, address: IPv4Address | IPv6Address | None) -> bool:
    """Whether one entry of NO_PROXY covers a host."""
    network = _network(entry)
    if network is not None:
        return address is not None and address in network
    name, entry_port = _split_port(entry) or (entry, "")
    if not name or entry_port not in {"", port}:
        return False
    if (entry_address := _address(name)) is not None:
        return entry_address == address
    domain = name.removeprefix("*") if name.startswith("*.") else name
    exact = not domain.startswith(".")
    suffix = f".{_ascii(domain.removeprefix('.'))}"
    return host.endswith(suffix) or (exact and host == suffix[1:])


def _split_port(text: str) -> tuple[str, str] | None:
    """Split `host:port` or `[host]:port`; return None if there is no port."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    return None if ":" in host or "[" in text or "]" in text else (host, port)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _network(text: str) -> IPv4Network | IPv6Network | None:
    if not text.rpartition("/")[2].isdecimal() or "/" not in text:
        return None
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(found, IPv6Network) and found.prefixlen >= _MAPPED_BITS:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, found.prefixlen - _MAPPED_BITS))
    return found


def _ascii(host: str) -> str:
    """Return an internationalized domain in ASCII; unchanged if that is not possible."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host

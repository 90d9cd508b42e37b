"""Addresses to listen on, in the notation of Go programs: `:8080`, `host:port`, `[::1]:8080` or `0`."""

import socket
from dataclasses import dataclass

_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class BindAddress:
    """An address to listen on.

    Attributes:
        host: the host name or IP address; empty for all addresses.
        port: the TCP port; 0 for any free port.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "BindAddress | None":
        """Parse an address. Returns None for `0`, which means not to listen.

        Raises:
            ValueError: `text` is neither an address nor `0`.
        """
        if text == "0":
            return None
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not _is_port(port) or (":" in host and not bracketed):
            example = "use a value like :8080, 127.0.0.1:8080 or [::1]:8080, or 0 to disable it"
            raise ValueError(f"{text!r} is not a valid address; {example}")
        return cls(host[1:-1] if bracketed else host, int(port))

    def listen(self) -> socket.socket:
        """Open a socket that listens. Without a host it accepts IPv4 and IPv6 on all addresses.

        Raises:
            OSError: the address is in use, or is not one of this machine.
        """
        if not self.host and socket.has_dualstack_ipv6():
            return socket.create_server(("", self.port), family=socket.AF_INET6, dualstack_ipv6=True)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server((self.host, self.port), family=family)

    def __str__(self) -> str:
        """Return the notation that `parse` reads."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= _MAX_PORT

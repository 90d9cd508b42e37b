"""Where to listen, in the notation of Go programs: `:8080`, `host:port`, `[::1]:8080`; `0` for nowhere."""

from dataclasses import dataclass

_HIGHEST = 65535


@dataclass(frozen=True, slots=True)
class BindAddress:
    """Where to listen; an empty host stands for all addresses, port 0 for any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "BindAddress | None":
        """Read it; None stands for nowhere.

        Raises:
            ValueError: it is neither.
        """
        if text == "0":
            return None
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not _is_port(port) or (":" in host and not bracketed):
            example = "write it like :8080, 127.0.0.1:8080 or [::1]:8080, or 0 for none"
            raise ValueError(f"{text!r} is no address to listen on; {example}")
        return cls(host[1:-1] if bracketed else host, int(port))

    def __str__(self) -> str:
        """As it is read."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= _HIGHEST

"""Decides which HTTP requests the local board answers: decisions about one HTTP request, as pure functions.

The board listens on loopback, where every program and every web page of the same machine can reach it. The
rules stop each of these attacks:

- A web page makes its own host name resolve to 127.0.0.1 (DNS rebinding). The header `Host` then has that
  name, and the answer is 421.
- A web page sends a request to the board (cross-site request forgery). It does not know the token. A browser
  also adds `Origin` and `Sec-Fetch-Site` to each write, and a page cannot change these headers.
- Another user of the machine connects to the port. That user does not know the token either.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

TOKEN_BYTES = 32
READS = frozenset({"GET", "HEAD"})
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""The headers of every answer."""


def new_token() -> str:
    """Return a token of 32 random bytes, in characters that need no quoting in a URL."""
    return secrets.token_urlsafe(TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused.

    Attributes:
        status: the HTTP status.
        reason: the reason, with the fix.
    """

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The rules of a board on loopback.

    Attributes:
        host: the only allowed value of the header `Host`, like `127.0.0.1:41234`.
        token: the token of the page.
        read_only: whether no change is allowed.
    """

    host: str
    token: str
    read_only: bool = False

    @property
    def address(self) -> str:
        """The address of the page. The token is in the fragment, which browsers do not send."""
        return f"http://{self.host}/#{self.token}"

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request is refused; None if it is allowed.

        Args:
            method: the HTTP method.
            path: the path of the URL.
            headers: the headers; the mapping ignores the case of names.
        """
        if headers.get("Host", "") != self.host:
            return Refusal(421, f"this board answers only to http://{self.host}")
        if not path.startswith("/api/"):
            return None if method in READS else Refusal(405, "only GET is allowed here")
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        # A header may have bytes that are no text.
        sent = token.encode(errors="surrogateescape")
        if scheme != "Bearer" or not secrets.compare_digest(sent, self.token.encode()):
            return Refusal(401, "the token is missing or wrong; open the address that the program printed")
        return None if method in READS else self._write_refusal(headers)

    def _write_refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a write is refused, besides the rules for each request."""
        if self.read_only:
            return Refusal(403, "this board is read-only; start it without --read-only to change bookings")
        if headers.get("Origin", "") != f"http://{self.host}":
            return Refusal(403, "the request comes from another page")
        if headers.get("Sec-Fetch-Site", "") != "same-origin":
            return Refusal(403, "the request comes from another site")
        if headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            return Refusal(415, "the body must be JSON")
        return None

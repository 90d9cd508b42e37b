"""oauth2-proxy, built from its published Go module, and configured as docs/board.md shows."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import yaml

from tests.support.code_blocks import blocks
from tools import go_programs

# The issuer does not exist, so nothing may be read from it.
_NO_ISSUER = (
    "--skip-oidc-discovery",
    "--login-url=https://id.example.com/authorize",
    "--redeem-url=https://id.example.com/token",
    "--oidc-jwks-url=https://id.example.com/keys",
)
ENVIRON = {
    "OAUTH2_PROXY_CLIENT_ID": "board",
    "OAUTH2_PROXY_CLIENT_SECRET": "secret",
    "OAUTH2_PROXY_COOKIE_SECRET": "0123456789abcdef0123456789abcdef",
}


def program() -> Path:
    """Return the program, which is built once into the cache."""
    return go_programs.program("oauth2-proxy", go_programs.OAUTH2_PROXY)


def documented() -> tuple[list[str], dict[str, Any]]:
    """Return the arguments of the board and the container of oauth2-proxy in docs/board.md."""
    [block] = [text for text in blocks("docs/board.md") if text.startswith("patches:")]
    board, container = yaml.safe_load(yaml.safe_load(block)["patches"][0]["patch"])
    return board["value"], container["value"]


def arguments(address: str, upstream: str, passwords: Path) -> list[str]:
    """Return the documented arguments, with users in a file in place of an identity provider.

    Args:
        address: the address to listen on.
        upstream: the address of the board.
        passwords: the file with the users.
    """
    own = {"--http-address": address, "--upstream": upstream}
    given = [argument.partition("=") for argument in documented()[1]["args"]]
    kept = [f"{name}={own.get(name, value)}" for name, _, value in given]
    return [*kept, *_NO_ISSUER, f"--htpasswd-file={passwords}"]


def write_passwords(path: Path, **users: str) -> None:
    """Write a file of users and passwords in the format of htpasswd."""
    lines = [
        f"{name}:{{SHA}}{base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()}"  # noqa: S324
        for name, password in users.items()
    ]
    path.write_text("\n".join([*lines, ""]))

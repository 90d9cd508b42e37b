"""oauth2-proxy, built from its published Go module, and configured as docs/board.md shows."""

import base64
import fcntl
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from booking_operator.devcluster.binaries import cache_directory
from booking_operator.devcluster.gobuild import environ
from booking_operator.devcluster.packages import GO
from tests.support.code_blocks import blocks

VERSION = "v7.15.6"
_MODULE = f"github.com/oauth2-proxy/oauth2-proxy/v7@{VERSION}"
_BUILD_SECONDS = 1200
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
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"oauth2-proxy-{VERSION}"
    with (cache / "oauth2-proxy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            go = GO.on_path(os.environ.get("PATH", ""), print) or GO.install(cache, print)
            with tempfile.TemporaryDirectory(dir=cache) as directory:
                subprocess.run(
                    [str(go), "install", "-trimpath", _MODULE],
                    env=environ(go) | {"GOBIN": directory},
                    check=True,
                    timeout=_BUILD_SECONDS,
                )
                (Path(directory) / "oauth2-proxy").replace(target)
    return target


def documented() -> tuple[list[str], dict[str, Any]]:
    """Return the arguments of the board and the container of oauth2-proxy in docs/board.md."""
    [block] = [text for text in blocks("docs/board.md") if "name: oauth2-proxy" in text]
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

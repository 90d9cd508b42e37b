"""The optional dependencies: of the operator itself, and of the demo.

The base installation is enough for `kubectl booking`. The command line calls `require` before it imports a
module that needs an extra, so that a missing one leads to an error message instead of a traceback.
"""

from importlib.util import find_spec

from booking_operator.errors import UserError

MODULES = {
    "operator": ("aioboto3", "aiosmtplib", "prometheus_client"),
    "demo": ("aioboto3", "aiosmtpd", "aiosmtplib", "boto3", "cryptography", "moto", "prometheus_client"),
}
"""The modules of each extra. A test compares them with pyproject.toml."""


class MissingExtraError(UserError):
    """A module of an extra is not installed."""


def require(extra: str) -> None:
    """Check that an extra is installed.

    Raises:
        MissingExtraError: a module is missing. The message names it and the command that installs the extra.
    """
    missing = [name for name in MODULES[extra] if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        raise MissingExtraError(
            f"this command needs the extra `{extra}`, which is not installed (missing: {names}). "
            f"Install it with: pip install 'booking-operator[{extra}]' "
            f"(in a checkout: pip install '.[{extra}]')"
        )

"""The optional dependencies of `booking-operator devcluster` and `booking-operator demo`.

A production installation does not need them. The command line calls `require` before it imports a module that
needs one of them, so that a missing one leads to an error message instead of a traceback.
"""

from importlib.util import find_spec

from booking_operator.devcluster.errors import DevclusterError

MODULES = ("aiosmtpd", "boto3", "cryptography", "moto")
"""The modules of the extra `demo`. A test compares them with pyproject.toml."""


def require() -> None:
    """Check that the extra `demo` is installed.

    Raises:
        DevclusterError: a module is missing. The message names it and the command that installs the extra.
    """
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        raise DevclusterError(
            f"this command needs the extra `demo`, which is not installed (missing: {', '.join(missing)}). "
            "Install it with: pip install 'booking-operator[demo]' (in a checkout: pip install '.[demo]')"
        )

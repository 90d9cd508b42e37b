"""The errors of a devcluster."""

from booking_operator.errors import UserError


class DevclusterError(UserError):
    """A program could not be found, built or started. The message contains the problem and its fix."""

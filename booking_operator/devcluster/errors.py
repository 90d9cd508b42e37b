"""The errors of a devcluster."""


class DevclusterError(Exception):
    """A program could not be found, built or started. The message contains the problem and its fix.

    Attributes:
        fatal: for the command line: the message is complete, so it prints no traceback.
    """

    fatal = True

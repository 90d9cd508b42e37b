"""What can go wrong before a devcluster stands."""


class DevclusterError(Exception):
    """Something could not be found, built or started; the message says what, and the fix.

    Attributes:
        fatal: for the command line: the message says it all, a traceback says no more.
    """

    fatal = True

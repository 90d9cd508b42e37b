"""The base class of errors that a user can fix."""


class UserError(Exception):
    """Wrong input or a missing prerequisite. The message names the field or program, the value, and the fix.

    The command line prints only the message, without a traceback.
    """

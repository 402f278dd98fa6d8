"""The one error that a person, not a programmer, is told about."""


class UserError(Exception):
    """A mistake in what the user gave; the message names the key or file, the value and the remedy.

    Several messages are several mistakes, one line each.
    """

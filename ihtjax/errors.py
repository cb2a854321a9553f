"""The error that a user can mend."""


class InputError(ValueError):
    """Something that the caller gave is wrong; the text says what was wrong, what was expected and what to do.

    The command line prints it as one line and exits with 2.
    """

"""The exception whose text is an error message for the user."""


class UserError(Exception):
    """An error that the user can correct: the text names the file or key, and the remedy, in one or two lines.

    The command line prints it without a stack trace and exits with status 1.
    """

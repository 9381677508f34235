"""The one exception that is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend: the text names the file or key, and the remedy, in one or two lines.

    The command line prints it without a stack trace and ends with exit status 1.
    """

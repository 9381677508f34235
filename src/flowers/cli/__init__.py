"""The command line: each command parses its arguments and calls one function; errors become one line."""

import sys

from flowers.cli.app import app
from flowers.common import console
from flowers.common.errors import UserError

# isort: off
from flowers.cli import stages, experiments, recipes, inference, maintenance  # noqa: F401 - registers, in this order
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line. A UserError or OSError becomes one line (with --debug a stack trace) and exit status 1."""
    try:
        app()
    except (UserError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            console.fail(f"{place}{error.strerror or error} (flowers --debug ... shows where)")
        else:
            console.fail(str(error))
        sys.exit(1)

"""The command line: one command a stage and a task. It parses arguments, calls one function, and explains errors."""

import sys

from flowers.cli.app import app
from flowers.common import console
from flowers.common.errors import UserError

# isort: off
from flowers.cli import stages, experiments, recipes, inference, maintenance  # noqa: F401 - registers, in this order
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; a UserError, and a folder or disk that cannot be used, become a line and exit status 1."""
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

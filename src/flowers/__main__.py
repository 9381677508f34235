"""`python -m flowers`: how a stage runs the code of its own checkout."""

from flowers.cli import main

main()

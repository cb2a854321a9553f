"""``python -m ihtjax`` is the command line."""

from ihtjax.cli import main

main()

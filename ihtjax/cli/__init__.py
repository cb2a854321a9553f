"""The command line, made from the configuration's fields."""

from ihtjax.cli.commands import main as main

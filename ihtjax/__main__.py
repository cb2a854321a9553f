"""``ihtjax`` and ``python -m ihtjax``: Ctrl-C is watched before anything else is imported."""

from ihtjax import interrupts


def main() -> None:
    """Run the command line."""
    interrupts.watch()
    from ihtjax import cli

    cli.main()


if __name__ == "__main__":
    main()

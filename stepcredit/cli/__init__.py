"""Command line: each verb is one call into `stepcredit.recipes`; errors become one line and an exit code."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The `stepcredit` command.

    Args:
        arguments: words after `stepcredit`; `None` reads those of the process.

    Raises:
        SystemExit: always; the code is one of `DESIGN.md` 6.
    """
    from stepcredit.cli.exits import run_and_exit  # noqa: PLC0415 -- `import stepcredit.cli` costs nothing

    run_and_exit(arguments)

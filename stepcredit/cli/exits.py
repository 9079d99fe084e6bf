"""Exits: every way in which a verb can end, as one line on standard error and the exit code of `DESIGN.md` 6."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from stepcredit.core.errors import DrainedError, StepcreditError
from stepcredit.recipes.command import COMMAND, raised, typed

BUG, USAGE, MACHINE, BUDGET, PARTIAL, INTERRUPTED = 1, 2, 3, 4, 5, 130
RESUMED = ("demo", "judge", "run", "train", "evaluate")
"""Verbs that go on where they stopped when they are given again."""
TRACEBACK = "STEPCREDIT_TRACEBACK"


def run_and_exit(arguments: Sequence[str] | None) -> NoReturn:
    """Run a verb and leave the process with its code."""
    from stepcredit.cli.app import app  # noqa: PLC0415 -- typer is loaded when a verb runs

    words = tuple(sys.argv[1:] if arguments is None else arguments)
    COMMAND.set(words)
    try:
        code = app(args=list(words), prog_name="stepcredit", standalone_mode=False)
        if code == INTERRUPTED:  # typer swallows the interrupt itself and returns its code
            code = report_error(KeyboardInterrupt(), words)
    except BrokenPipeError:
        _close_output()
        sys.exit(0)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 -- the one place that answers for all
        code = report_error(error, words)
    sys.exit(code if isinstance(code, int) else 0)


def report_error(error: BaseException, words: Sequence[str] = ()) -> int:
    """Say what went wrong in one line, how to go on in another where that can be said, and return the exit code.

    Args:
        error: what a verb raised.
        words: of the command, after `stepcredit`.

    Returns:
        Exit code: of our errors their own, 2 for a misused command line, 3 for the operating system, 130 for an
        interrupt, 1 for a bug (with a hint how to see the traceback).
    """
    code, line = explain(error)
    print(line, file=sys.stderr)  # noqa: T201 -- the one line
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    elif code == BUG:
        print(f"this is a bug; {TRACEBACK}=1 in front of the same command shows where", file=sys.stderr)  # noqa: T201
    elif code in (BUDGET, PARTIAL, INTERRUPTED) and words and words[0] in RESUMED:
        again = raised(tuple(words), line) if code == BUDGET else tuple(words)
        print(f"go on with: {typed(again)}", file=sys.stderr)  # noqa: T201
    return code


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and line of an error.

    >>> explain(KeyboardInterrupt())
    (130, 'interrupted; the same command goes on where it stopped')
    >>> explain(PermissionError(13, "Permission denied", "/out"))
    (3, 'error: /out: Permission denied')
    """
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return INTERRUPTED, "interrupted; the same command goes on where it stopped"
    if isinstance(error, DrainedError):
        return INTERRUPTED, f"interrupted: {_one_line(str(error))}"
    if isinstance(error, StepcreditError):
        return error.exit_code, f"error: {_one_line(str(error))}"
    if hasattr(error, "format_message"):
        return USAGE, f"error: {_one_line(error.format_message())} (--help shows what is understood)"  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return MACHINE, f"error: {place}{error.strerror or _one_line(str(error))}"
    return BUG, f"error: {type(error).__name__}: {_one_line(str(error))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _close_output() -> None:
    """The reader of our output went away (`| head`): keep Python from complaining when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

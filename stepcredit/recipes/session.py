"""Sessions: what the last command on a run folder did and how it ended, for `status` and for the next command."""

import os
import socket
from asyncio import CancelledError
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

from stepcredit.core.errors import BudgetError, DrainedError, PartialError, StepcreditError
from stepcredit.recipes.command import COMMAND, raised, typed
from stepcredit.store.run_folder import RunFolder, read_json

SESSION = "session.json"

Ending = Literal["running", "complete", "interrupted", "budget", "partial", "failed"]


@final
@dataclass(frozen=True)
class SessionNote:
    """The last session on a run folder.

    Args:
        ending: how it ended; `running` as long as it has not, so a session that nobody runs any more crashed.
        pid: its process.
        host: its machine.
        command: words after `stepcredit`; empty where a program called the library.
        why: the error's line, empty for a session that is complete or runs.
        coverage: what became of the items: asked, answered, unknown, failed, quarantined.
    """

    ending: Ending
    pid: int
    host: str
    command: tuple[str, ...] = ()
    why: str = ""
    coverage: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def next_command(self) -> str:
        """The command that goes on, with a limit that was reached doubled; empty where no command was given.

        >>> words = ("judge", "my file.jsonl", "--max-calls", "100")
        >>> SessionNote("budget", 1, "h", words, "--max-calls 100 is reached").next_command
        "stepcredit judge 'my file.jsonl' --max-calls 200"
        """
        words = raised(self.command, self.why) if self.ending == "budget" else self.command
        return typed(words) if words else ""


def read_session(run: Path) -> SessionNote | None:
    """The last session of a run folder, `None` if it had none."""
    found: dict[str, Any] | None = read_json(run, SESSION)
    return None if found is None else replace(SessionNote(**found), command=tuple(found["command"]))


@final
class Session:
    """A session that runs.

    Args:
        folder: where it runs.
        note: what is written down of it.
    """

    def __init__(self, folder: RunFolder, note: SessionNote) -> None:
        self._folder, self._note = folder, note
        self.write()

    def cover(self, coverage: Mapping[str, int]) -> None:
        """Keep what became of the items, for the note at the end."""
        self._note = replace(self._note, coverage=dict(coverage))

    def end(self, ending: Ending, why: str = "") -> None:
        """Write down how it ended."""
        self._note = replace(self._note, ending=ending, why=" ".join(why.split()))
        self.write()

    def write(self) -> None:
        """Write the note."""
        self._folder.write_json(SESSION, asdict(self._note))


@contextmanager
def session(folder: RunFolder) -> Generator[Session]:
    """Write down that a session runs, and at the end of the block how it ended.

    A disk that is full keeps the note from being written: the session then looks like one that crashed, and it can be
    resumed as well.
    """
    found = Session(folder, SessionNote("running", os.getpid(), socket.gethostname(), COMMAND.get()))
    try:
        yield found
    except BaseException as error:
        try:
            found.end(*_ending(error))
        except StepcreditError as second:
            error.add_note(f"and the session's end could not be written: {second}")
        raise
    found.end("complete")


def _ending(error: BaseException) -> tuple[Ending, str]:
    if isinstance(error, DrainedError | KeyboardInterrupt | CancelledError):
        return "interrupted", ""
    if isinstance(error, BudgetError):
        return "budget", str(error)
    if isinstance(error, PartialError):
        return "partial", str(error)
    return "failed", str(error) if isinstance(error, StepcreditError) else f"{type(error).__name__}: {error}"

"""Progress: how programs tell a person what they are doing; the command line shows it, libraries stay silent."""

from typing import Protocol, final


class Task(Protocol):
    """One counted piece of work on the screen."""

    def advance(self, amount: int = 1, *, unknown: int = 0, cost: float = 0.0, note: str = "") -> None:
        """So much more is done.

        Args:
            amount: units done since the last call.
            unknown: of these, how many ended unknown.
            cost: money spent on them, in the server's currency.
            note: a few words that stand beside the bar, such as the accuracy now.
        """
        ...

    def finish(self, note: str = "") -> None:
        """The work is done; the bar is closed, with a last note."""
        ...


class Progress(Protocol):
    """What programs report to; every method may be called from any thread."""

    def say(self, line: str) -> None:
        """One line that stays on the screen."""
        ...

    def start(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        """Begin a counted piece of work; several may run side by side.

        Args:
            name: what is done, unique among the pieces that run.
            total: how many units there are, `None` if that is unknown.
            unit: what is counted: rollouts, updates, steps.
        """
        ...


@final
class SilentTask:
    """Counts for nobody."""

    def advance(self, amount: int = 1, *, unknown: int = 0, cost: float = 0.0, note: str = "") -> None:
        """Shows nothing."""

    def finish(self, note: str = "") -> None:
        """Shows nothing."""


@final
class SilentProgress:
    """The progress of a library call that nobody watches.

    >>> SilentProgress().start("sampling", total=3).advance(3)
    """

    def say(self, line: str) -> None:
        """Shows nothing."""

    def start(self, name: str, *, total: int | None = None, unit: str = "") -> SilentTask:  # noqa: ARG002
        """A task that shows nothing."""
        return SilentTask()

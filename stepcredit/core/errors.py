"""Errors of every arrow of the path; each says what was got, what was wanted, and how to mend it.

`exit_code` is what the command line returns for the error (`DESIGN.md` 6): 1 bug, 2 usage, 3 environment,
4 budget, 5 partial, 130 interrupted.
"""

from typing import ClassVar, final


class StepcreditError(Exception):
    """Base of all errors that stepcredit raises on purpose.

    Args:
        message: one line: what was got, what was wanted, the mend.
        item: id of the record concerned (rollout, problem, file and line), if there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, item: str | None = None) -> None:
        super().__init__(message if item is None else f"{item}: {message}")
        self.item = item


@final
class UsageError(StepcreditError):
    """Bad input or settings: the user can mend it."""

    exit_code = 2


@final
class MachineError(StepcreditError):
    """The machine lacks something: a package, a permission, space, a server."""

    exit_code = 3


@final
class BudgetError(StepcreditError):
    """A limit on cost, calls or time was reached; the run can be resumed."""

    exit_code = 4


@final
class PartialError(StepcreditError):
    """The run ended with something left out; the report says what."""

    exit_code = 5


@final
class DrainedError(StepcreditError):
    """The run was asked to stop (Ctrl-C, SIGTERM), finished what was under way and saved it; it can be resumed."""

    exit_code = 130


@final
class LayoutError(StepcreditError):
    """Index columns do not form a partition, or columns disagree in length."""


@final
class CreditError(StepcreditError):
    """A credit rule met a signal that it cannot use."""


@final
class StepsError(StepcreditError):
    """A text could not be cut, or proposed steps are not a tiling."""


@final
class JudgeError(StepcreditError):
    """The judge itself failed (not: could not decide); carries the rollout id."""


@final
class EngineError(StepcreditError):
    """An engine (sampler, scorer, learner, server) failed or answered what it should not."""

    exit_code = 3


@final
class ChangedModelError(StepcreditError):
    """Another model answers than before, under the same name or another: what both said must not be mixed."""

    exit_code = 3


@final
class StoreError(StepcreditError):
    """The run folder is damaged, locked or not writable."""

    exit_code = 3

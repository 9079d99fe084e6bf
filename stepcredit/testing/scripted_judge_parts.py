"""Doubles of `core.judge_parts`: a token classifier, an outcome judge and a critique rater."""

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError
from stepcredit.core.judge_parts import ClassLogits
from stepcredit.core.records import Group, Verdict

ClassScript = Callable[[Int32[np.ndarray, " X"]], Sequence[float]]
"""Logits of the classes, from the tokens up to and with the place."""


@final
class ScriptedClassifier:
    """Implements `core.judge_parts.TokenClassifier` from a function, and keeps what it was asked in `asked`.

    Args:
        script: see `ClassScript`; may raise EngineError.
        classes: C.
        context: most tokens that it reads.
        name: part of the fingerprint.
    """

    def __init__(
        self, script: ClassScript, *, classes: int = 2, context: int | None = None, name: str = "scripted"
    ) -> None:
        self._script, self._classes, self._context, self._name = script, classes, context, name
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    @property
    def fingerprint(self) -> str:
        """Digest of the name."""
        return digest("ScriptedClassifier", self._name)

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self._classes

    async def context(self) -> int | None:
        """Most tokens that it reads."""
        return self._context

    async def classify(self, ids: Int32[np.ndarray, " X"], places: Int32[np.ndarray, " P"]) -> ClassLogits:
        """The script's rows.

        Raises:
            EngineError: if the text is longer than the context, or the script gives another number of classes.
        """
        if self._context is not None and len(ids) > self._context:
            raise EngineError(f"{len(ids)} tokens do not fit the script's {self._context}")
        self.asked.append((tuple(np.asarray(ids).tolist()), tuple(np.asarray(places).tolist())))
        rows = [list(self._script(ids[: place + 1])) for place in np.asarray(places).tolist()]
        wrong = next((len(row) for row in rows if len(row) != self._classes), None)
        if wrong is not None:
            raise EngineError(f"the script gave {wrong} logits for {self._classes} classes")
        return ClassLogits(np.array(rows, np.float32).reshape(len(rows), self._classes), (f"call-{len(self.asked)}",))


@final
class ScriptedOutcomeJudge:
    """Implements `core.judge_parts.OutcomeJudge` from a function of the group.

    Args:
        script: gives one verdict an outcome; may raise JudgeError.
        name: part of the fingerprint.
    """

    def __init__(self, script: Callable[[Group], Sequence[Verdict]], *, name: str = "scripted") -> None:
        self._script, self._name = script, name

    @property
    def fingerprint(self) -> str:
        """Digest of the name."""
        return digest("ScriptedOutcomeJudge", self._name)

    async def rate(self, group: Group) -> tuple[Verdict, ...]:
        """[N] verdicts.

        Raises:
            JudgeError: if the script gives another number of verdicts than there are outcomes, or raises it.
        """
        verdicts = tuple(self._script(group))
        if len(verdicts) != len(group.outcomes):
            got, want = len(verdicts), len(group.outcomes)
            raise JudgeError(f"the script gave {got} verdicts for {want} outcomes", item=group.id)
        return verdicts


@final
class ScriptedCritiqueRater:
    """Implements `core.judge_parts.CritiqueRater` from a function of the critique.

    Args:
        script: score of a critique, `None` for unknown.
        name: part of the fingerprint.
    """

    def __init__(self, script: Callable[[str], float | None], *, name: str = "scripted") -> None:
        self._script, self._name = script, name

    @property
    def fingerprint(self) -> str:
        """Digest of the name."""
        return digest("ScriptedCritiqueRater", self._name)

    async def rate_critique(self, problem: str, solutions: Sequence[str], critique: str) -> Verdict:
        """The script's score."""
        del problem, solutions
        score = self._script(critique)
        return Verdict(score, reason="" if score is not None else "the script has no score")

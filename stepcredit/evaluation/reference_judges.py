"""Judges of which theory knows what every metric must give: perfect, constant and random; for evaluation only."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal, final, get_args

from stepcredit.core.errors import JudgeError, UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Steps, Verdict
from stepcredit.core.seeds import derive

ReferenceKind = Literal["perfect", "constant-right", "constant-wrong", "random"]
"""What the judge says: the labels; every step right; every step wrong; a number drawn for each step."""

REFERENCE_KINDS: tuple[ReferenceKind, ...] = get_args(ReferenceKind)

UNLABELLED = "nobody labelled this step"
"""Reason of a step on which the perfect judge has no label to repeat."""


@final
class ReferenceJudge:
    """Repeats labels, says one thing always, or draws.

    `perfect` scores a step 1 or 0 as it is labelled and leaves unlabelled ones unknown; `constant-right` scores 1,
    `constant-wrong` 0; `random` draws a probability of being right for each step, uniform in [0, 1).

    Args:
        kind: which.
        truth: what is labelled of each step of a solution; read by `perfect` only.
        seed: of `random`, whose draws depend on it, the solution's id and the step only.

    Raises:
        UsageError: for an unknown kind.

    Source: own. Differs: none.
    """

    def __init__(self, kind: ReferenceKind, truth: Callable[[Steps], Sequence[bool | None]], *, seed: int = 0) -> None:
        if kind not in REFERENCE_KINDS:
            raise UsageError(f"a reference judge is one of {', '.join(REFERENCE_KINDS)}, got {kind!r}")
        self._kind, self._truth, self._seed = kind, truth, seed

    @property
    def fingerprint(self) -> str:
        """`reference:`, the kind and, where it draws, the seed."""
        return f"reference:{self._kind}" + (f":{self._seed}" if self._kind == "random" else "")

    @property
    def scale(self) -> Scale:
        """Probabilities where it draws, else 0 and 1."""
        return Scale.PROBABILITY if self._kind == "random" else Scale.BINARY

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the truth has not one entry a step.
        """
        if self._kind == "perfect":
            return self._perfect(steps)
        if self._kind == "random":
            draw = Random(derive(self._seed, "random judge", steps.rollout.id))
            return tuple(Verdict(draw.random()) for _ in range(len(steps)))
        return (Verdict(float(self._kind == "constant-right")),) * len(steps)

    def _perfect(self, steps: Steps) -> tuple[Verdict, ...]:
        truth = self._truth(steps)
        if len(truth) != len(steps):
            raise JudgeError(f"{len(truth)} labels for {len(steps)} steps", item=steps.rollout.id)
        return tuple(Verdict(reason=UNLABELLED) if right is None else Verdict(float(right)) for right in truth)

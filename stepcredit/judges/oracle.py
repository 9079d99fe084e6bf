"""The oracle: exact step truth from outside, put in the labels of the intrinsic protocols. Not a judge one can have.

It exists to measure judges against and for the arms of an experiment that say that they use true step labels.
"""

from collections.abc import Callable, Sequence
from typing import final

from stepcredit.core.errors import JudgeError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Label, Steps, Verdict
from stepcredit.judges.verdicts import UNSCORABLE

Truth = Callable[[Steps], Sequence[bool | None]]
"""Maps cut rollouts to the truth of each step: right, wrong, or `None` where there is none to know."""


@final
class OracleJudge:
    """Gives the injected truth of every step as a score (1 right, 0 wrong) and as a protocol label.

    Labels of think steps: right outcome: right -> `correct`, wrong -> `incorrect`. Wrong outcome: wrong -> `matched`
    (it is blamed), right -> `mismatched` (it is freed). The answer block is `correct` or `matched`, as in the
    protocols, whatever its truth. Labels need an outcome: where it is unscorable all steps are unknown.

    Args:
        truth: the truth, one entry a step.
        name: what the truth is, for the fingerprint, e.g. `world-e`.

    Source: tp_grpo.md 1.3-1.4 for the labels; own otherwise. Differs: n/a.
    """

    scale = Scale.BINARY

    def __init__(self, truth: Truth, name: str) -> None:
        self._truth = truth
        self._name = name

    @property
    def fingerprint(self) -> str:
        """`oracle:` and the name of the truth."""
        return f"oracle:{self._name}"

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts; a step without truth has no score, and no label unless it is in the answer block.

        Raises:
            JudgeError: if the truth has not one entry a step.
        """
        truth = self._truth(steps)
        if len(truth) != len(steps):
            raise JudgeError(f"the truth has {len(truth)} entries for {len(steps)} steps", item=steps.rollout.id)
        inside = steps.in_answer.tolist()
        return tuple(self._verdict(steps, right, in_answer) for right, in_answer in zip(truth, inside, strict=True))

    def _verdict(self, steps: Steps, right: bool | None, in_answer: bool) -> Verdict:  # noqa: FBT001 -- private
        score = None if right is None else float(right)
        status = steps.outcome.status
        if status == "unscorable":
            return Verdict(reason=f"{UNSCORABLE}: {steps.outcome.reason or 'no reason given'}")
        if in_answer:
            return Verdict(score, Label.CORRECT if status == "right" else Label.MATCHED)
        if right is None:
            return Verdict(reason="the truth of this step is not known")
        if status == "right":
            return Verdict(score, Label.CORRECT if right else Label.INCORRECT)
        return Verdict(score, Label.MISMATCHED if right else Label.MATCHED)

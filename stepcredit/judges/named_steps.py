"""Steps that a judge names: the runs of finer steps to which its verdicts give one label (Steps -> ranges)."""

from typing import final

from stepcredit.core.protocols import Judge
from stepcredit.core.records import Label, Steps


@final
class NamedSteps:
    """Proposes a judge's own steps in place of finer ones: cut where its verdict changes, nowhere else.

    With the intrinsic judge these are TP-GRPO's thoughts: what is taken back, and what is not. Any rule can be paid in
    them, also one that reads no verdicts.

    Args:
        judge: gives labelled verdicts on the finer steps.

    Source: credit.md 3.4 (Segment: judge-proposed); tp_grpo.md 1.5. Differs: PRL has no such step; the answer block
    keeps the finer steps, and never joins a think step.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    @property
    def fingerprint(self) -> str:
        """That of the judge, and what is made of its verdicts."""
        return f"named-steps:{self._judge.fingerprint}"

    async def propose(self, steps: Steps) -> tuple[tuple[int, int], ...] | None:
        """Half-open ranges that tile the think block's steps; `None` if a think step has no label.

        Raises:
            JudgeError: if the judge failed; carries the rollout id.
        """
        think = int((~steps.in_answer).sum())
        if not think:
            return ()
        verdicts = await self._judge.judge(steps)
        labels: list[Label] = [v.label for v in verdicts[:think] if v.label is not None]
        if len(labels) < think:
            return None
        firsts = [k for k in range(think) if k == 0 or labels[k] is not labels[k - 1]]
        return tuple(zip(firsts, [*firsts[1:], think], strict=True))

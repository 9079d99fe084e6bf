"""Outcome checker of the embedded worlds: the last answer line against the true end of the chain."""

from dataclasses import dataclass
from typing import final

from stepcredit.core.records import Outcome, Rollout
from stepcredit.tasks.world_text import answer_lines, read_prompt


@final
@dataclass(frozen=True)
class WorldChecker:
    """Right if the answer block is whole and its last line gives the reference answer.

    In these worlds the token cap and the format are part of the task: a completion that was cut, has no answer block,
    or whose block is not the lines Step1 .. StepL in order (one line StepL in the chain world) is a failed attempt:
    `wrong` with a reason. Only an open completion, or a problem without reference, is `unscorable`.

    Args:
        whole_block: the block restates every step; False: it is the one line of the last step.

    Source: embedded_world.md 8.1. Differs: none.
    """

    whole_block: bool = True

    @property
    def fingerprint(self) -> str:
        """Name and settings."""
        return f"world/{'lines' if self.whole_block else 'line'}/1"

    async def check(self, rollout: Rollout) -> Outcome:
        """Right, wrong or unscorable."""
        return self.outcome(rollout)

    def outcome(self, rollout: Rollout) -> Outcome:
        """`check` without waiting."""
        if rollout.problem.answer is None:
            return Outcome(rollout, "unscorable", reason="no reference")
        if rollout.finish == "open":
            return Outcome(rollout, "unscorable", reason="open completion")
        if rollout.finish == "length":
            return Outcome(rollout, "wrong", reason="cut at the token limit")
        lines = answer_lines(rollout.text)
        if lines is None:
            return Outcome(rollout, "wrong", reason="no readable answer block")
        length = len(read_prompt(rollout.problem.text)[1])
        wanted = list(range(1, length + 1)) if self.whole_block else [length]
        if [number for number, _ in lines] != wanted:
            return Outcome(rollout, "wrong", reason="answer block does not restate the steps")
        answer = str(lines[-1][1])
        return Outcome(rollout, "right" if answer == rollout.problem.answer else "wrong", answer=answer)

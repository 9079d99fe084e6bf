"""Steps that a judge names: cut where its labels change, inside the think block, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import JudgeError
from stepcredit.core.records import Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.judges.intrinsic.judge import IntrinsicJudge
from stepcredit.judges.intrinsic.markers import world_markers
from stepcredit.judges.named_steps import NamedSteps
from stepcredit.steps import Delimiter, apply_ranges, merge
from stepcredit.testing import ScriptedJudge

LABEL = {"C": Label.CORRECT, "I": Label.INCORRECT, "?": None}


def cut(think: int, answer: int = 0) -> Steps:
    """Steps of one token."""
    size = think + answer
    rollout = Rollout("r", Problem("p", "?", "1"), "g", 0, "x" * size, np.array([0]), np.arange(size), np.arange(size))
    inside = np.arange(size) >= think
    return Steps(Outcome(rollout, "right"), np.arange(size), "step", inside, closed=answer > 0)


def judge_of(letters: str) -> ScriptedJudge:
    def said(steps: Steps) -> list[Verdict]:
        found = [Verdict(label=label) if (label := LABEL[x]) else Verdict(reason="no reply") for x in letters]
        return found + [Verdict(label=Label.CORRECT)] * (len(steps) - len(letters))

    return ScriptedJudge(said)


@pytest.mark.parametrize(
    ("letters", "want"),
    [
        ("CCIC", ((0, 2), (2, 3), (3, 4))),
        ("CCCC", ((0, 4),)),
        ("ICIC", ((0, 1), (1, 2), (2, 3), (3, 4))),
        ("", ()),
        ("C?CC", None),
    ],
)
async def test_a_step_is_named_wherever_the_verdict_changes(letters: str, want) -> None:
    assert await NamedSteps(judge_of(letters)).propose(cut(len(letters), 2)) == want


async def test_a_judge_that_failed_names_nothing_and_says_so() -> None:
    class Broken:
        scale, fingerprint = ScriptedJudge.scale, "broken"

        async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
            raise JudgeError("gone", item=steps.rollout.id)

    with pytest.raises(JudgeError, match="r: gone"):
        await NamedSteps(Broken()).propose(cut(2))


@given(letters=st.text("CI", max_size=12), answer=st.integers(0, 3))
async def test_what_is_named_tiles_the_think_block_and_is_its_thoughts(letters: str, answer: int) -> None:
    steps = cut(len(letters), answer)
    ranges = await NamedSteps(judge_of(letters)).propose(steps)
    assert ranges is not None
    joined = apply_ranges(steps, ranges)
    assert joined.unit == "proposed"
    assert [t for a, b in joined.spans for t in range(a, b)] == list(range(len(letters) + answer))
    think = cut(len(letters))
    merged, _ = merge(think, [LABEL[letter] for letter in letters])
    assert joined.starts[~joined.in_answer].tolist() == merged.starts.tolist()


async def test_markers_name_what_a_solution_of_the_world_takes_back() -> None:
    text = (
        "; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 ; check 10 *15 14 ok ; Step2 10 *10 15"
        " </think> answer ; Step1 10 ; Step2 15 <eos>"
    )
    words = text.split(" ")
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    problem = Problem("p", "Q 14 ; Step1 /15 ; Step2 *10 ?", "15")
    rollout = Rollout("r", problem, "g", 0, text, np.array([0]), np.arange(len(words)), starts)
    steps = Delimiter(";", form="world").split(Outcome(rollout, "right"))
    ranges = await NamedSteps(IntrinsicJudge(world_markers())).propose(steps)
    assert ranges is not None
    assert ranges == ((0, 1), (1, 5))
    assert apply_ranges(steps, ranges).texts[0] == "; Step1 14 /15 4 "

"""Reference judges: the labels, one thing always, or a draw that depends on seed, solution and step only."""

import numpy as np
import pytest

from stepcredit.core.errors import JudgeError, UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.evaluation.reference_judges import UNLABELLED, ReferenceJudge

TRUTH = (True, False, None)


def cut(name: str = "r", size: int = 3) -> Steps:
    ids = np.arange(size)
    rollout = Rollout(name, Problem("p", "2 + 2?", None), "g", 0, "x" * size, np.zeros(1), ids, ids)
    return Steps(Outcome(rollout, "unscorable", reason="none"), ids, "step", np.zeros(size, np.bool_), closed=False)


async def test_the_perfect_judge_repeats_the_labels_and_says_where_there_are_none() -> None:
    verdicts = await ReferenceJudge("perfect", lambda _: TRUTH).judge(cut())
    assert [verdict.score for verdict in verdicts] == [1.0, 0.0, None]
    assert verdicts[2].reason == UNLABELLED


@pytest.mark.parametrize(("kind", "score"), [("constant-right", 1.0), ("constant-wrong", 0.0)])
async def test_a_constant_judge_says_one_thing(kind, score) -> None:
    judge = ReferenceJudge(kind, lambda _: TRUTH)
    assert [verdict.score for verdict in await judge.judge(cut())] == [score] * 3
    assert judge.scale is Scale.BINARY


async def test_a_random_judge_draws_by_seed_solution_and_step() -> None:
    drawn = {}
    for seed, name in ((0, "r"), (0, "s"), (1, "r")):
        verdicts = await ReferenceJudge("random", lambda _: TRUTH, seed=seed).judge(cut(name, 500))
        drawn[seed, name] = [verdict.score for verdict in verdicts]
        assert abs(float(np.mean(drawn[seed, name])) - 0.5) < 4 / np.sqrt(12 * 500)
        assert len(set(drawn[seed, name])) == 500
    assert len({tuple(scores) for scores in drawn.values()}) == 3
    again = await ReferenceJudge("random", lambda _: TRUTH).judge(cut("r", 500))
    assert [verdict.score for verdict in again] == drawn[0, "r"]
    judges = [ReferenceJudge("random", lambda _: TRUTH, seed=seed) for seed in (0, 1)]
    assert judges[0].fingerprint != judges[1].fingerprint


async def test_what_a_reference_judge_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="one of perfect, constant-right, constant-wrong, random, got 'best'"):
        ReferenceJudge("best", lambda _: TRUTH)  # type: ignore[arg-type]
    with pytest.raises(JudgeError, match="r: 3 labels for 2 steps"):
        await ReferenceJudge("perfect", lambda _: TRUTH).judge(cut(size=2))

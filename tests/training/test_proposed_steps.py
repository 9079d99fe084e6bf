"""Steps that a judge proposes, in training: the rule is paid in them, and nobody is asked twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stepcredit.core.errors import JudgeError, StepsError
from stepcredit.core.records import Credit, Steps
from stepcredit.training.parts import Proposer
from stepcredit.training.rounds import Watcher
from tests.training.test_rounds import SETTINGS, make_world, walk

ONE = replace(SETTINGS, rounds=1)


class Asked:
    """Proposes the whole think block as one step; fails, or has nothing to say, on some samples."""

    def __init__(self, *, broken: int = -1, silent: int = -1, wrong: int = -1) -> None:
        self.calls, self._broken, self._silent, self._wrong = 0, broken, silent, wrong

    async def propose(self, steps: Steps) -> tuple[tuple[int, int], ...] | None:
        self.calls += 1
        think = int((~steps.in_answer).sum())
        if steps.rollout.sample == self._broken:
            raise JudgeError("gone", item=steps.rollout.id)
        if steps.rollout.sample == self._silent:
            return None
        return ((0, think + 1),) if steps.rollout.sample == self._wrong else ((0, think),) if think else ()


def credited_in(path: Path, asked: Asked) -> list[Credit]:
    world, kept = make_world(), list[Credit]()

    def seen(_index: int, credited: Sequence[Credit]) -> None:
        kept.extend(credited)

    world.parts = replace(world.parts, proposer=Proposer("asked", asked.propose))
    walk(world, path, ONE, Watcher(on_credit=seen))
    return kept


def test_the_rule_is_paid_in_the_steps_that_are_proposed(tmp_path: Path) -> None:
    kept = credited_in(tmp_path, Asked())
    assert {credit.steps.unit for credit in kept} == {"proposed"}
    assert {int((~credit.steps.in_answer).sum()) for credit in kept} <= {0, 1}


@pytest.mark.parametrize("how", ["broken", "silent"])
def test_where_nothing_is_proposed_the_finer_steps_stay(tmp_path: Path, how: str) -> None:
    kept = credited_in(tmp_path, Asked(**{how: 3}))
    left = [credit for credit in kept if credit.steps.rollout.sample == 3]
    assert {credit.steps.unit for credit in kept} == {"proposed"}
    assert len(left) == SETTINGS.problems
    for credit in left:
        assert len(credit.steps) == len(credit.steps.rollout.completion_ids)


def test_what_was_proposed_is_kept_and_only_those_that_failed_are_asked_again(tmp_path: Path) -> None:
    class Cut(Exception):  # noqa: N818 -- stands for a kill
        pass

    def stop(*_told: object) -> None:
        raise Cut

    first, second = Asked(broken=3), Asked()
    world = make_world()
    world.parts = replace(world.parts, proposer=Proposer("asked", first.propose))
    with pytest.raises(Cut):
        walk(world, tmp_path, ONE, Watcher(on_update=stop))
    kept = credited_in(tmp_path, second)
    assert first.calls == len(kept) == SETTINGS.problems * SETTINGS.group_size
    assert second.calls == SETTINGS.problems


def test_ranges_that_are_no_tiling_are_an_error_with_the_rollout(tmp_path: Path) -> None:
    with pytest.raises(StepsError, match="-s2: proposed range 0"):
        credited_in(tmp_path, Asked(wrong=2))

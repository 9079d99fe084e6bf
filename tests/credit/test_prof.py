"""The process consistency filter: who stays, in numbers and as properties."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Group, Judgement, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.credit.batch import assign
from stepcredit.credit.grpo import GrpoSettings
from stepcredit.credit.prof import ProfSettings, consistency, drop_inconsistent, keep_consistent

HALF = ProfSettings()


def one_step_each(size: int, groups: int = 1) -> Layout:
    return Layout(np.arange(size * groups), np.arange(size * groups), np.repeat(np.arange(groups), size))


def kept_of(rewards: list[float], scores: list[float], settings: ProfSettings = HALF) -> list[int]:
    kept = keep_consistent(one_step_each(len(rewards)), np.array(rewards), np.array(scores), settings=settings)
    return np.flatnonzero(kept.mask).tolist()


@pytest.mark.parametrize(
    ("rewards", "scores", "kept"),
    [
        # two of each: the right one with the best steps, the wrong one with the worst
        ([1, 1, -1, -1], [0.9, 0.1, 0.8, 0.2], [0, 3]),
        # five right, three wrong: two of each
        ([1, 1, 1, 1, 1, -1, -1, -1], [0.5, 0.9, 0.7, 0.1, 0.3, 0.9, 0.1, 0.5], [1, 2, 6, 7]),
        # seven right, one wrong: the wrong one and the best three
        ([1, 1, 1, 1, 1, 1, 1, -1], [0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.9], [0, 1, 2, 7]),
        # all wrong: the half with the worst steps
        ([-1, -1, -1, -1], [0.4, 0.3, 0.2, 0.1], [2, 3]),
        # three in all, two stay
        ([1, 1, -1], [0.2, 0.4, 0.3], [1, 2]),
        # five in all, three stay, the odd one of the larger side
        ([1, 1, 1, -1, -1], [0.1, 0.2, 0.3, 0.1, 0.2], [1, 2, 3]),
    ],
)
def test_by_hand(rewards, scores, kept) -> None:
    assert kept_of(rewards, scores) == kept


def test_everything_stays_with_share_one() -> None:
    assert kept_of([1, -1, 1], [0.1, 0.9, 0.5], ProfSettings(share=1.0)) == [0, 1, 2]


def test_means_are_taken_over_known_steps_and_odd_rollouts_pay() -> None:
    layout = Layout(np.arange(6), np.array([0, 0, 1, 2, 2, 2]), np.zeros(3))
    scores = np.array([0.4, np.nan, 0.9, 0.6, 0.9, 0.9])
    rewards = np.array([1.0, 1.0, -1.0])
    assert consistency(layout, rewards, scores, settings=HALF).tolist() == pytest.approx([0.4, 0.9, -0.8])
    strict = ProfSettings(penalty=0.5, long_steps=3)
    assert consistency(layout, rewards, scores, settings=strict).tolist() == pytest.approx([0.4, 0.4, -0.3])


def test_unknown_outcomes_and_unjudged_rollouts_never_stay_and_do_not_count() -> None:
    rewards, scores = np.array([1.0, np.nan, -1.0, 1.0, -1.0]), np.array([0.9, 0.5, np.nan, 0.3, 0.2])
    kept = keep_consistent(one_step_each(5), rewards, scores, settings=HALF)
    assert kept.mask.tolist() == [True, False, False, False, True]
    assert kept.counts == {"inconsistent process": 1, "unknown": 2}


@st.composite
def batches(draw: st.DrawFn) -> tuple[Layout, np.ndarray, np.ndarray]:
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    counts = random.integers(1, 4, len(groups))
    layout = Layout(np.arange(counts.sum()), np.repeat(np.arange(len(groups)), counts), groups)
    rewards = random.choice([1.0, -1.0, np.nan], len(groups), p=[0.45, 0.45, 0.1])
    return layout, rewards, random.normal(size=layout.steps)


@given(batches(), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
@settings(deadline=None)
def test_so_many_stay_as_balanced_as_the_group_allows_and_the_best_of_each_side(batch, share) -> None:
    layout, rewards, scores = batch
    settings = ProfSettings(share=share)
    kept = keep_consistent(layout, rewards, scores, settings=settings)
    agreement = consistency(layout, rewards, scores, settings=settings)
    for group in range(layout.groups):
        members = layout.group_of_rollout == group
        sides = [members & (rewards == reward) for reward in (1.0, -1.0)]
        given_sizes = [int(side.sum()) for side in sides]
        stay = [int(kept.mask[side].sum()) for side in sides]
        assert sum(stay) == int(np.ceil(share * sum(given_sizes)))
        if abs(stay[0] - stay[1]) > 1:
            short = int(np.argmin(stay))
            assert stay[short] == given_sizes[short]
        for side in sides:
            inside, outside = agreement[side & kept.mask], agreement[side & ~kept.mask]
            assert not len(inside) or not len(outside) or inside.min() >= outside.max()
    assert not kept.mask[np.isnan(rewards)].any()


@given(batches(), st.integers(0, 2**31))
@settings(deadline=None)
def test_groups_do_not_see_each_other(batch, seed) -> None:
    layout, rewards, scores = batch
    whole = keep_consistent(layout, rewards, scores, settings=HALF).mask
    other = np.where((layout.group_of_step == 0), scores, np.random.default_rng(seed).normal(size=layout.steps))
    first = layout.group_of_rollout == 0
    assert (keep_consistent(layout, rewards, other, settings=HALF).mask[first] == whole[first]).all()


def test_refused() -> None:
    with pytest.raises(CreditError, match="scores: got 2 entries, the layout has 3"):
        keep_consistent(one_step_each(3), np.ones(3), np.ones(2), settings=HALF)
    with pytest.raises(CreditError, match=r"got 0\.5"):
        keep_consistent(one_step_each(2), np.array([0.5, 1.0]), np.ones(2), settings=HALF)
    for values in ({"share": 0.0}, {"share": 1.5}, {"penalty": -1.0}, {"long_steps": 1}):
        with pytest.raises(UsageError, match=f"{next(iter(values))} must be"):
            ProfSettings(**values)


def group_of(statuses: list[str], name: str = "g") -> Group:
    outcomes = []
    for index, status in enumerate(statuses):
        ids = np.arange(4)
        rollout = Rollout(f"{name}{index}", Problem(name, "?", "1"), name, index, "abcd", np.zeros(1), ids, ids)
        outcomes.append(Outcome(rollout, status))
    return Group(name, tuple(outcomes))


def judged(group: Group, scores: list[float | None]) -> list[Judgement]:
    found = []
    for outcome, score in zip(group.outcomes, scores, strict=True):
        steps = Steps(outcome, np.array([0, 2]), "line", np.zeros(2), closed=False)
        found.append(Judgement(steps, (Verdict(score, reason="?"),) * 2, "judge"))
    return found


def test_behind_an_outcome_only_rule_it_drops_credits_and_pays_no_token_differently() -> None:
    group = group_of(["right", "right", "wrong", "wrong"])
    credited, _ = assign([group], [], rule="grpo", settings=GrpoSettings())
    found = drop_inconsistent(credited, judged(group, [0.9, 0.1, 0.8, None]), settings=ProfSettings())
    assert [(credit.kept, credit.note) for credit in found] == [
        (True, ""), (False, "inconsistent process"), (True, ""), (False, "unknown")
    ]  # fmt: skip
    for credit, before in zip(found, credited, strict=True):
        np.testing.assert_array_equal(credit.advantages, before.advantages)


def test_a_solution_of_one_think_step_is_one_whatever_follows_in_its_answer() -> None:
    group = group_of(["right", "right", "wrong"])
    credited, _ = assign([group], [], rule="grpo", settings=GrpoSettings())
    one, two, wrong = judged(group, [0.9, 0.8, 0.1])
    one = replace(one, steps=replace(one.steps, in_answer=np.array([False, True])))
    found = drop_inconsistent(credited, [one, two, wrong], settings=ProfSettings(share=0.5, penalty=0.5))
    assert [credit.kept for credit in found] == [False, True, True]
    alone = replace(one, steps=replace(one.steps, in_answer=np.array([True, True])))
    found = drop_inconsistent(credited, [alone, two, wrong], settings=ProfSettings(share=1.0))
    assert [credit.note for credit in found] == ["unknown", "", ""]


def test_what_was_dropped_before_counts_in_no_share() -> None:
    groups = [group_of(["right", "right"], "a"), group_of(["right", "wrong", "unscorable"], "b")]
    credited, _ = assign(groups, [], rule="grpo", settings=GrpoSettings())
    scores = judged(groups[0], [0.9, 0.1]) + judged(groups[1], [0.3, 0.3, 0.3])
    found = drop_inconsistent(credited, scores, settings=ProfSettings(share=1.0))
    assert [credit.kept for credit in found] == [False, False, True, True, False]
    assert [credit.note for credit in found] == [credit.note for credit in credited]


def test_a_judge_without_scores_is_refused() -> None:
    group = group_of(["right", "wrong"])
    credited, _ = assign([group], [], rule="grpo", settings=GrpoSettings())
    with pytest.raises(CreditError, match="reads step scores, and no kept rollout has one"):
        drop_inconsistent(credited, [], settings=ProfSettings())
    with pytest.raises(CreditError, match="judged twice"):
        drop_inconsistent(credited, judged(group, [0.5, 0.5]) * 2, settings=ProfSettings())
    assert drop_inconsistent((), [], settings=ProfSettings()) == ()

"""Records to views: cuts, labels, several rules side by side; views to bytes and back."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_views import report, scored, solution

from stepcredit.core.errors import StoreError, UsageError
from stepcredit.core.records import Credit, Judgement, Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.report import dump_report, load_report, rollout_view, thoughts_of

TEXT = "8 né 9 9"


def steps_of(starts: tuple[int, ...] = (0, 2), name: str = "r0") -> Steps:
    ids = np.array([5, 6, 7, 8])
    rollout = Rollout(name, Problem("p", "2 + 7 ?", "9"), "g", 0, TEXT, np.array([1]), ids, np.array([0, 2, 5, 7]))
    outcome = Outcome(rollout, "right", "9")
    return Steps(outcome, np.array(starts), "line", np.arange(len(starts)) == len(starts) - 1, closed=True)


def credit_of(
    steps: Steps, advantages: list[float], *, rule: str = "tp_grpo", judgement: Judgement | None = None
) -> Credit:
    return Credit(steps, judgement, np.array(advantages, np.float32), rule, ("outcome",), "digest")


def test_pieces_are_cut_where_a_step_or_an_advantage_changes() -> None:
    steps = steps_of()
    judgement = Judgement(steps, (Verdict(label=Label.INCORRECT), Verdict(reason="no reply")), "markers")
    view = rollout_view(credit_of(steps, [0.5, 0.5, -1.0, 2.0], judgement=judgement), method="TP", round=3)
    assert [[(p.text, p.tokens, p.advantages) for p in step.pieces] for step in view.steps] == [
        [("8 né ", 2, (0.5,))],
        [("9 ", 1, (-1.0,)), ("9", 1, (2.0,))],
    ]
    assert (view.steps[0].label, view.steps[1].unknown, view.unknown) == (Label.INCORRECT, True, 1)
    assert (view.steps[0].in_answer, view.steps[1].in_answer) == (False, True)
    assert (view.method, view.round, view.tokens, view.answer, view.reference) == ("TP", 3, 4, "9", "9")


def test_rules_stand_side_by_side_and_unknown_is_none() -> None:
    steps = steps_of((0,))
    first, second = credit_of(steps, [1, 1, 1, 1]), credit_of(steps, [np.nan, np.nan, 0, 0], rule="prime")
    view = rollout_view(first, beside=[second])
    assert [rule.name for rule in view.rules] == ["tp_grpo", "prime"]
    assert [(p.text, p.advantages) for p in view.steps[0].pieces] == [("8 né ", (1.0, None)), ("9 9", (1.0, 0.0))]


def test_thought_credit_shows_the_steps_that_were_judged() -> None:
    fine, coarse = steps_of((0, 2)), steps_of((0,))
    judgement = Judgement(fine, (Verdict(label=Label.CORRECT),) * 2, "markers")
    view = rollout_view(credit_of(coarse, [1, 1, 1, 1], judgement=judgement))
    assert len(view.steps) == 2
    assert [(t.first, t.last) for t in thoughts_of(view.steps)] == [(0, 2)]


def test_without_a_judge_nothing_is_unknown() -> None:
    view = rollout_view(steps_of())
    assert view.unknown == 0
    assert [step.text for step in view.steps] == ["8 né ", "9 9"]


def test_a_credit_of_another_rollout_is_refused() -> None:
    with pytest.raises(UsageError, match="r0: a view shows one rollout, got a credit of r1"):
        rollout_view(steps_of(), beside=[credit_of(steps_of(name="r1"), [0, 0, 0, 0])])


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, float("nan")]), min_size=4, max_size=4), st.sets(st.integers(1, 3)))
def test_pieces_join_to_the_text_and_count_every_token(advantages: list[float], cuts: set[int]) -> None:
    view = rollout_view(credit_of(steps_of((0, *sorted(cuts))), advantages))
    assert "".join(step.text for step in view.steps) == TEXT
    assert sum(piece.tokens for step in view.steps for piece in step.pieces) == 4
    flat = [piece.advantages[0] for step in view.steps for piece in step.pieces for _ in range(piece.tokens)]
    assert [np.nan if value is None else value for value in flat] == pytest.approx(advantages, nan_ok=True)


def test_thoughts_merge_equal_labels_and_never_unknown_steps() -> None:
    found = thoughts_of(solution(1).steps)
    assert [(t.label, t.last - t.first) for t in found] == [
        (Label.MATCHED, 1),
        (Label.MISMATCHED, 1),
        (None, 1),
        (Label.MATCHED, 1),
    ]
    assert len(thoughts_of(scored(0).steps)) == 4


def test_saved_views_come_back_equal() -> None:
    data = report(5)
    assert load_report(dump_report(data)) == data


@pytest.mark.parametrize("saved", [b"", b"not a save", dump_report(report(0))[:-9]])
def test_a_damaged_save_is_named(saved: bytes) -> None:
    with pytest.raises(StoreError, match="the saved report cannot be read"):
        load_report(saved)


def test_tokens_that_are_the_bytes_of_the_text_are_told_from_those_of_a_tokenizer() -> None:
    text = TEXT.encode()
    rollout = dataclasses.replace(
        steps_of().rollout,
        completion_ids=np.frombuffer(text, np.uint8).astype(np.int32),
        char_starts=np.array([len(text[:k].decode(errors="ignore")) for k in range(len(text))]),
        retokenised=True,
    )
    cut = Steps(Outcome(rollout, "right", "9"), np.array([0]), "line", np.array([True]), closed=True)
    assert (rollout_view(cut).size_unit, rollout_view(cut).tokens) == ("byte", 9)
    assert rollout_view(steps_of()).size_unit == "token"

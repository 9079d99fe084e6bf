"""Merging steps into thoughts."""

from collections.abc import Callable
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import StepsError
from stepcredit.core.records import Judgement, Label, Outcome, Steps, Verdict
from stepcredit.steps import merge, splitter, thoughts

OutcomeOf = Callable[..., Outcome]
C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED
LABELS = st.lists(st.sampled_from([C, X, M, U, None]), max_size=12)


def cut(outcome_of: OutcomeOf, think: int, answer: int = 0) -> Steps:
    text = "\n".join("x" for _ in range(think)) + (
        "</think>\n" + "\n".join("y" for _ in range(answer)) if answer else ""
    )
    steps = splitter("newline", form="r1").split(outcome_of(text))
    assert steps.in_answer.tolist() == [False] * think + [True] * answer
    return steps


def test_runs_become_thoughts_and_the_answer_block_joins_the_last(outcome_of: OutcomeOf):
    steps = cut(outcome_of, 5, 1)
    merged, labels = merge(steps, [C, C, X, X, C, C])
    assert labels == (C, X, C)
    assert merged.starts.tolist() == steps.starts[[0, 2, 4]].tolist()
    assert (merged.unit, merged.in_answer.tolist(), merged.closed) == ("thought", [False, False, False], True)


def test_an_answer_block_of_another_label_is_a_thought_of_its_own(outcome_of: OutcomeOf):
    merged, labels = merge(cut(outcome_of, 2, 2), [U, U, M, M])
    assert (labels, merged.in_answer.tolist()) == ((U, M), [False, True])


def test_unknown_steps_merge_with_one_another_only(outcome_of: OutcomeOf):
    _, labels = merge(cut(outcome_of, 5), [C, None, None, C, X])
    assert labels == (C, None, C, X)


def test_a_label_for_each_step_is_required(outcome_of: OutcomeOf):
    with pytest.raises(StepsError, match="r: got 2 labels for 3 steps"):
        merge(cut(outcome_of, 3), [C, C])


@given(LABELS)
def test_thoughts_partition_alternate_and_stay(outcome_of: OutcomeOf, labels: list[Label | None]):
    steps = cut(outcome_of, len(labels))
    merged, found = merge(steps, labels)
    assert list(found) == [label for label, _ in groupby(labels)]
    assert all(a != b for a, b in pairwise(found))
    assert set(merged.starts.tolist()) <= set(steps.starts.tolist())
    assert "".join(merged.texts) == "".join(steps.texts)
    by_token = np.repeat(np.arange(len(labels)), [b - a for a, b in steps.spans])
    for (first, last), label in zip(merged.spans, found, strict=True):
        assert {labels[step] for step in by_token[first:last]} == {label}
    again, same = merge(merged, found)
    assert (again.starts.tolist(), same) == (merged.starts.tolist(), found)


@given(LABELS)
def test_judgements_merge_like_labels(outcome_of: OutcomeOf, labels: list[Label | None]):
    verdicts = tuple(Verdict(None, label, "" if label else "unread", (f"c{k}",)) for k, label in enumerate(labels))
    judgement = Judgement(cut(outcome_of, len(labels)), verdicts, "judge")
    merged = thoughts(judgement)
    assert [verdict.label for verdict in merged.verdicts] == [label for label, _ in groupby(labels)]
    assert [call for verdict in merged.verdicts for call in verdict.calls] == [f"c{k}" for k in range(len(labels))]
    assert merged.judge == "judge"
    assert thoughts(merged).verdicts == merged.verdicts


def test_scores_are_kept_only_where_all_agree(outcome_of: OutcomeOf):
    verdicts = (Verdict(0.5, C, "a", ("1",)), Verdict(0.5, C, "b", ("1", "2")), Verdict(0.1, X), Verdict(0.2, X))
    merged = thoughts(Judgement(cut(outcome_of, 4), verdicts, "judge"))
    assert merged.verdicts == (Verdict(0.5, C, "a; b", ("1", "2")), Verdict(None, X))


def test_scores_without_labels_are_refused(outcome_of: OutcomeOf):
    judgement = Judgement(cut(outcome_of, 2), (Verdict(0.5, C), Verdict(0.5)), "prm")
    with pytest.raises(StepsError, match="r: verdict 1 of judge prm has a score but no label; thoughts need labels"):
        thoughts(judgement)

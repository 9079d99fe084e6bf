import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_solutions import solution

from stepcredit.core.errors import JudgeError
from stepcredit.core.records import Judgement, Label
from stepcredit.judges.agreement import boundary_f1, changed_share, kappa
from stepcredit.judges.intrinsic.gaming import Shape, gaming_alarm, shape_of
from stepcredit.judges.intrinsic.text_markers import TextGrammar
from stepcredit.judges.verdicts import labelled, unknown

C, X, M = Label.CORRECT, Label.INCORRECT, Label.MATCHED
LABELS = st.lists(st.sampled_from([C, X, None]), max_size=12)


def test_kappa_by_hand():
    # observed 3/4; expected 1/2 * 3/4 + 1/2 * 1/4 = 1/2; kappa (3/4 - 1/2) / (1/2)
    assert kappa([C, C, X, X], [C, C, C, X]) == 0.5
    assert kappa([C, X], [X, C]) == -1.0
    assert kappa([C, None], [None, X]) is None


@settings(deadline=None)
@given(LABELS)
def test_a_deterministic_judge_agrees_with_itself(labels):
    assert kappa(labels, labels) in (1.0, None)
    assert boundary_f1(labels, labels) == 1.0
    advantages = np.linspace(-1, 1, len(labels)).astype(np.float32)
    assert changed_share(advantages, advantages) == 0.0


@given(LABELS, st.data())
def test_agreement_is_symmetric(first, data):
    second = data.draw(st.lists(st.sampled_from([C, X, None]), min_size=len(first), max_size=len(first)))
    assert kappa(first, second) == kappa(second, first)
    assert boundary_f1(first, second) == boundary_f1(second, first)


def test_lengths_must_agree():
    with pytest.raises(JudgeError, match="2 and 1 entries"):
        kappa([C, X], [C])


def judged(texts, labels, *, status="right", answer=("so 3",)):
    steps = solution(texts, answer, status=status)
    verdicts = tuple(labelled(label) for label in labels) if labels else unknown(len(steps), "cut")
    return Judgement(steps, verdicts, "j")


def count(texts):
    return len(TextGrammar().reflections(texts))


def test_shape_of_a_round_by_hand():
    batch = [
        judged(("a 1", "Wait, no.", "b"), (X, C, C, C)),
        judged(("a", "b"), (C, C, C)),
        judged(("Oops.",), None, status="wrong"),
    ]
    shape = shape_of(batch, count)
    assert shape.solutions == 3
    assert shape.reflections_per_1k == pytest.approx(1000 * 2 / 9)
    assert shape.thoughts == 1.5
    assert shape.tokens == 3.0
    assert (shape.truncated, shape.answer_tokens) == (0.0, 1.0)
    assert shape.silent_right == 0.5
    with pytest.raises(JudgeError, match="no solutions"):
        shape_of([], count)


def test_the_alarm_needs_a_sharp_fall_and_flat_accuracy():
    def shape(rate):
        return Shape(8, rate, 2.0, 50.0, 0.0, 5.0, None)

    assert "from 10 to 4" in gaming_alarm(shape(10.0), shape(4.0), gain=0.01)
    assert not gaming_alarm(shape(10.0), shape(4.0), gain=0.1)
    assert not gaming_alarm(shape(10.0), shape(6.0), gain=0.0)
    assert not gaming_alarm(shape(0.0), shape(0.0), gain=0.0)
    assert not gaming_alarm(shape(None), shape(1.0), gain=0.0)

"""Step labels of ThinkPRM's critiques (thinkprm.md 4.5; 9, item 3), and chains compared by them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import JudgeError
from stepcredit.judges.thinkprm.labels import StepLabels, compare_labels, contradicts, label_places, read_labels

GOOD, BAD = "\\boxed{correct}", "\\boxed{incorrect}"


@pytest.mark.parametrize(
    ("critique", "labels", "first"),
    [
        (f"Step 1: {GOOD} Step 2: {GOOD} Step 3: {GOOD}", (True, True, True), None),
        ("\\boxed{\\text{correct}} \\boxed{ correct } \\boxed{\\text{ incorrect }}", (True, True, False), 2),
        (f"{GOOD}{BAD}", (True, False, False), 1),
        (f"{BAD}", (False, False, False), 0),
        (f"{GOOD}{BAD}{GOOD}{GOOD}{BAD}{GOOD}", (True, False, True), 1),
        (f"so \\boxed{{12}} {GOOD} \\boxed{{Correct}} {GOOD}{GOOD}", (True, True, True), None),
    ],
)
def test_boxes_are_read_in_order_and_filled_after_the_first_error(critique, labels, first):
    found = read_labels(critique, 3)
    assert found is not None
    assert (found.labels, found.first_error) == (labels, first)


@pytest.mark.parametrize(
    "critique", ["", "all is correct", GOOD, f"{GOOD}{GOOD}", "\\boxed{correct", "\\boxed{42}" * 3]
)
def test_missing_labels_without_an_error_are_no_verdict(critique):
    assert read_labels(critique, 3) is None


def test_repeated_verdicts_at_the_end_do_not_count():
    assert read_labels(f"{GOOD}{GOOD} In short: {GOOD}{BAD}", 2) == StepLabels((True, True), 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([GOOD, BAD, "\\boxed{", "}", "\\text{", "correct", " x\n"])), st.integers(1, 5))
def test_any_text_gives_labels_of_all_steps_or_none(parts, steps):
    found = read_labels("".join(parts), steps)
    assert found is None or len(found.labels) == len(found.own) == steps


def test_places_point_at_the_words():
    text = f"{GOOD} and \\boxed{{ \\text{{incorrect}} }}"
    assert [text[place : place + 9] for place in label_places(text, 9)] == ["correct} ", "incorrect"]


def test_labels_and_answer_contradict_in_both_directions():
    right, wrong = StepLabels((True,), 1), StepLabels((False,), 1)
    assert [contradicts(right, 0.9), contradicts(right, 0.4), contradicts(wrong, 0.9), contradicts(wrong, 0.4)] == [
        False,
        True,
        True,
        False,
    ]


def test_an_early_wrong_error_that_sinks_later_steps_shows_as_interference():
    seen = compare_labels(
        [StepLabels((True, True, False), 3), StepLabels((True, True, False), 3), StepLabels((False,), 3)]
    )
    assert [step.interference for step in seen] == [0.0, pytest.approx(1 / 3), 0.0]
    assert (seen[1].correct, seen[1].incorrect, seen[1].sunk) == (2, 0, 1)


def test_a_step_that_no_chain_looked_at_has_no_interference():
    assert compare_labels([StepLabels((False,), 2)])[1].interference is None


def test_chains_over_different_steps_are_not_compared():
    with pytest.raises(JudgeError, match="got 2 chains over"):
        compare_labels([StepLabels((True,), 1), StepLabels((True, True), 2)])
    with pytest.raises(JudgeError, match="got 0 chains"):
        compare_labels([])

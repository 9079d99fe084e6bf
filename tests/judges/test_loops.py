"""The repetition detector."""

import random

import pytest

from stepcredit.judges.loops import is_looping


@pytest.mark.parametrize("unit", ["Wait, let me check step 3 again. ", "no ", ".", "A long passage; " * 12 + "end. "])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_passage_repeated_to_the_end_is_a_loop_wherever_it_is_cut(unit, cut):
    text = "Step 1 is fine. " + unit * (10 + 300 // len(unit))
    assert is_looping(text[: len(text) - cut])


def test_lists_and_plain_text_are_no_loop():
    steps = "".join(f"Step {number}: this follows. The step is \\boxed{{correct}}.\n" for number in range(60))
    assert not is_looping(steps)
    assert not is_looping("")
    assert not is_looping("ha" * 50)
    assert not is_looping("".join(random.Random(0).choices("abc ", k=30_000)))


def test_the_detector_is_linear_on_long_texts():
    assert is_looping("a" * 1_000_000)

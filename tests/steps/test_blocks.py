"""Think and answer block of every format, also open, cut, nested."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import UsageError
from stepcredit.steps import find_blocks
from stepcredit.steps.blocks import FORMS

CLOSED = {
    "r1 with opening tag": ("<think>\nHmm.\n</think>\n\nIt is 3.", "r1", "Hmm.", "It is 3."),
    "r1 as recorded, without opening tag": ("Hmm.</think>It is 3.", "r1", "Hmm.", "It is 3."),
    "r1 with an end token": ("<think>\nHmm.\n</think>\n\nIt is 3.<|im_end|>", "r1", "Hmm.", "It is 3."),
    "r1 zero": ("<think>Hmm.</think> <answer>3</answer>", "r1", "Hmm.", "3"),
    "qwen3 without thinking": ("<think>\n\n</think>\n\nIt is 3.", "r1", "", "It is 3."),
    "s1": ("think\nHmm.\n\\boxed{3}\nanswer\nAnswer: 3", "s1", "Hmm.\n\\boxed{3}", "Answer: 3"),
    "s1 with chat marks": ("<|im_start|>think\nHmm.\n<|im_start|>answer\n3<|im_end|>", "s1", "Hmm.", "3"),
    "skyt1": (
        "<|begin_of_thought|>\n\nHmm.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nIt is 3.<|end_of_solution|>",
        "skyt1",
        "Hmm.",
        "It is 3.",
    ),
    "skyt1 with a cut solution": ("<|begin_of_thought|>Hmm.<|end_of_thought|> So", "skyt1", "Hmm.", "So"),
    "world": ("; Step1 3 *2 6 </think> answer ; Step1 6 <eos>", "world", "; Step1 3 *2 6", "; Step1 6"),
    "none": ("First 1 + 2.\n\nThe answer is 3.", "none", "First 1 + 2.", "The answer is 3."),
    "nested": ("<think>a<think>b</think>c</think>3", "r1", "a<think>b</think>c", "3"),
    "closed twice": ("a</think>b</think>3", "r1", "a</think>b", "3"),
    "opened twice, closed once": ("<think>\n<think>\na</think>3", "r1", "<think>\na", "3"),
    "an empty second answer": ("<think>a</think>3</think>", "r1", "a", "3</think>"),
    "the word answer inside the thoughts": ("think\nanswer\nno\nanswer\n3", "s1", "answer\nno", "3"),
}

OPEN = {
    "cut while thinking": ("<think>\nHmm, so", "auto", "r1", "Hmm, so"),
    "no marker at all, but the form is known": ("Hmm. The answer is 3.", "r1", "r1", "Hmm. The answer is 3."),
    "nothing behind the closing tag": ("<think>Hmm.</think>\n", "auto", "r1", "Hmm."),
    "only an end token behind it": ("<think>Hmm.</think><|im_end|>", "auto", "r1", "Hmm."),
    "opened again": ("<think>a</think>b<think>c", "auto", "r1", "a</think>b<think>c"),
    "nested and empty": ("<think>a<think>b</think>c</think>", "auto", "r1", "a<think>b</think>c"),
    "s1 without answer": ("think\nHmm, the answer", "auto", "s1", "Hmm, the answer"),
    "skyt1 loops": ("<|begin_of_thought|>\n\nWait, wait", "auto", "skyt1", "Wait, wait"),
    "world cut": ("; Step1 3 *2 6 ; check", "world", "world", "; Step1 3 *2 6 ; check"),
    "world with an empty answer": ("; Step1 3 *2 6 </think> answer <eos>", "auto", "world", "; Step1 3 *2 6"),
    "none without an answer": ("Let me see. First", "auto", "none", "Let me see. First"),
    "empty": ("", "auto", "none", ""),
    "white space": (" \n", "auto", "none", ""),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed(name):
    text, form, think, answer = CLOSED[name]
    blocks = find_blocks(text)
    assert blocks.form == form
    assert blocks.closed
    assert blocks.answer is not None
    assert text[slice(*blocks.think)] == think
    assert text[slice(*blocks.answer)] == answer
    assert blocks.think[1] <= blocks.border <= blocks.answer[0]


@pytest.mark.parametrize("name", OPEN)
def test_open(name):
    text, form, found, think = OPEN[name]
    blocks = find_blocks(text, form=form)
    assert (blocks.form, blocks.closed, blocks.answer, blocks.border) == (found, False, None, len(text))
    assert text[slice(*blocks.think)] == think


def test_a_marker_goes_with_its_block():
    text = "<think>a</think> <answer>3</answer>"
    assert text[find_blocks(text).border :] == " <answer>3</answer>"


def test_a_short_chain_that_was_cut_has_no_answer_block():
    assert not find_blocks("One.\n\nSo the answer is 3.", cut=True).closed


def test_unknown_form_names_the_known_ones():
    with pytest.raises(UsageError, match="unknown block format 'r2'; known: auto, skyt1, world, s1, r1, none"):
        find_blocks("", form="r2")


PARTS = [
    "<think>",
    "</think>",
    "think\n",
    "\nanswer\n",
    "<|begin_of_thought|>",
    "<|end_of_thought|>",
    " answer ",
    "\n\n",
    "x. ",
    "<eos>",
]


@given(st.lists(st.sampled_from(PARTS)).map("".join), st.sampled_from(FORMS))
def test_ranges_are_in_order_whatever_the_markers(text: str, form: str):
    blocks = find_blocks(text, form=form)
    assert 0 <= blocks.think[0] <= blocks.think[1] <= blocks.border <= len(text)
    if blocks.answer is not None:
        assert blocks.border <= blocks.answer[0] < blocks.answer[1] <= len(text)

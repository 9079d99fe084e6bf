"""The ending of a short chain of thought."""

import pytest

from stepcredit.steps.final_answer import final_answer

ENDINGS = {
    "boxed paragraph": ("Add.\n\nSo it is \\(\\boxed{3}\\).", "So it is \\(\\boxed{3}\\)."),
    "heading before a display": (
        "Add.\n\n**Final Answer**\n\n\\[ \\boxed{3} \\]",
        "**Final Answer**\n\n\\[ \\boxed{3} \\]",
    ),
    "colon before a display": ("Add.\n\nHence:\n\n\\[\n\\boxed{3}\n\\]", "Hence:\n\n\\[\n\\boxed{3}\n\\]"),
    "heading and plain number": ("Add.\n\n**Final Answer**\n10", "**Final Answer**\n10"),
    "line of a text without blank lines": ("1 + 1 = 2\n2 + 1 = 3\nA: 3", "A: 3"),
    "hashes": ("1 + 1 = 2\n#### 2", "#### 2"),
    "sentence of a text in one line": ("Add 1 and 2. The answer is 3.", " The answer is 3."),
    "conclusion without a mark": ("Add.\n\nTherefore, Ann has 3 apples.", "Therefore, Ann has 3 apples."),
    "confirmation with what it confirms": (
        "A.\n\nSo it is 3.\n\nI think that's the answer.",
        "So it is 3.\n\nI think that's the answer.",
    ),
    "a remark behind the answer": ("Add.\n\n\\boxed{3}\n\nThis fits.", "\\boxed{3}\n\nThis fits."),
    "the last of several": ("\\boxed{1}\n\nNo.\n\n\\boxed{3}", "\\boxed{3}"),
    "a display is kept whole": ("Add one.\nThis gives\n\\[\n\\boxed{3}\n\\]", "\\[\n\\boxed{3}\n\\]"),
    "answer alone": ("The answer is 3.", "The answer is 3."),
    "chinese": ("加。\n\n因此，最终答案是3。", "因此，最终答案是3。"),
}

NONE = {
    "thinking": "Let me think about it.",
    "cut in a sentence": "Add.\n\nMaybe the answer is that G can be expressed in terms of",
    "cut in a conclusion": "Add.\n\nTherefore, the sum of the two",
    "empty boxes": "Add.\n\n" + "\\boxed{}. " * 9,
    "far from the end": "\\boxed{3}\n\n" + "Let me go on thinking. " * 40,
    "empty": "",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_ending_is_found(name):
    text, ending = ENDINGS[name]
    start = final_answer(text)
    assert start is not None
    assert text[start:] == ending


@pytest.mark.parametrize("name", NONE)
def test_no_answer_is_stated(name):
    assert final_answer(NONE[name]) is None


def test_a_long_last_paragraph_is_narrowed_to_its_sentence():
    text = "Add.\n\n" + "Then we go on here. " * 40 + "So it is \\boxed{3}."
    start = final_answer(text)
    assert start is not None
    assert text[start:] == " So it is \\boxed{3}."

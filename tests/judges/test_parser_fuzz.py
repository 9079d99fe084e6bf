"""Bodies by the thousand through every parser of the judges: none raises, and no verdict is there that no text gave.

BODIES=1000000 python -m pytest tests/judges/test_parser_fuzz.py
"""

import os
import random
import re

import pytest

from stepcredit.judges.critic import last_boxed, verdicts_of
from stepcredit.judges.genprm.execution import all_code, last_code
from stepcredit.judges.genprm.reward import find_verdict
from stepcredit.judges.intrinsic import tasks
from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.replies import Reject
from stepcredit.judges.stated import read_stated
from stepcredit.judges.thinkprm.labels import label_places, read_labels

BODIES = int(os.environ.get("BODIES", "20000"))
STEPS = ("We add: 2 + 3 = 5.", "Wait, that is wrong: 6.", "So 6.")
TASKS = (
    tasks.SplitTask("2 + 4?", STEPS),
    tasks.ReflectTask("2 + 4?", STEPS),
    tasks.TraceTask("2 + 4?", STEPS[:2]),
    tasks.VerifyTask("2 + 4?", STEPS, 0, "a slip"),
    tasks.TraceVerifyTask("2 + 4?", STEPS),
    tasks.MatchTask("2 + 4?", STEPS[:2], STEPS[2:]),
)
PIECES = (
    "\\boxed{correct}", "\\boxed{incorrect}", "\\boxed{\\text{correct}}", "\\boxed{ incorrect }", "\\boxed{", "}", "{",
    "correct", "incorrect", "Yes", "No", "$", "\\boxed{Yes}", "\\boxed{No}", "\\boxed{2}", "\\boxed{-1}", "\\boxed{٣}",
    "\\boxed{99999999999}", "\\boxed{1e3}", "<output>", "</output>\n", "**Judgement**: ", "Judgement: ", "<analyze>",
    "</analyze>\n", "```python\n", "\n```\n", "```", "print(1)", "[Code Output]", "Final Judgement: ", "wrong", "right",
    "\nFirst Error Step: ", "Step 2", "2", "-1", "N/A", "The solution is ", "The first error step number: ", "\n", " ",
    '{"reflections": [', '{"step": 1, "kind": "error"}', "]}", '{"source": ', "null", '"evidence": ', '"Wait"', ", ",
    '{"matches": [', '{"step": 0, "verdict": "match"}', '{"steps": [[0, 1], [1, 3]]}', '{"verdict": "correct"}', '"',
    "true", "NaN", "Infinity", "1e999", "0.5", "\\u0000", "\x00", "\ud800", "\U0001f600", "é", "\u202e", "\r", "\u2028",
    "9" * 5000, "[" * 200, "<|im_end|>", "<think>", "</think>", "-", "0", "00", "+1", "²", "\\", "\t",
)  # fmt: skip


def body(draws: random.Random) -> str:
    """Pieces of replies put together at random, now and then with a character changed, doubled or cut out."""
    text = "".join(draws.choices(PIECES, k=draws.randint(0, 14)))
    for _ in range(draws.choice((0, 0, 1, 3))):
        place = draws.randrange(len(text) + 1)
        cut = draws.randint(0, 3)
        text = text[:place] + draws.choice(("", chr(draws.randrange(1, 0x3000)), text[:8])) + text[place + cut :]
    return text


def check(text: str, k: int) -> int:
    """All parsers on one text; gives the number of verdicts that were read."""
    size = 1 + k % 5
    read = 0
    labels = read_labels(text, size)
    if labels is not None:
        read += 1
        wrong, right = text.count("incorrect"), len(re.findall(r"(?<!in)correct", text))
        assert 1 <= len(labels.read) <= size
        assert labels.read.count(True) <= right
        assert labels.read.count(False) <= wrong
        assert (False in labels.read) or len(labels.read) == size
        assert [text[place:].startswith("correct") for place in label_places(text, len(labels.read))] == [*labels.read]
    verdict = find_verdict(text)
    if verdict is not None:
        read += 1
        assert text[verdict[1] :].startswith(verdict[0])
        assert "<output>" in text[: verdict[1]]
        assert "<output>" not in text[verdict[1] :]
    code = last_code(text)
    assert (code is None) == (not all_code(text))
    assert code is None or code in text
    boxed = last_boxed(text)
    if boxed is not None:
        assert boxed in text
        scores = [one.score for one in verdicts_of(boxed, size)]
        assert len(scores) == size
        assert all(score in (None, 0.0, 1.0) for score in scores)
        if any(score is not None for score in scores):
            read += 1
            assert boxed == "-1" or (boxed.isascii() and boxed.isdigit() and int(boxed) < size)
    stated = read_stated(text, size)
    if stated is not None:
        read += 1
        assert stated.correct == (stated.first_error is None)
        assert stated.first_error is None or (stated.first_error < size and str(stated.first_error + 1) in text)
    task = TASKS[k % len(TASKS)]
    answer = parse(task, text)
    if not isinstance(answer, Reject):
        read += 1
        assert text.strip().startswith("{")
    return read


@pytest.mark.parametrize("part", range(4))
def test_no_body_raises_and_no_score_is_invented(part):
    draws, read = random.Random(part), 0
    for k in range(BODIES // 4):
        text = body(draws)
        try:
            read += check(text, k)
        except Exception as error:
            raise AssertionError(f"{text[:300]!r} with {k}") from error
    assert read > BODIES // 4000, "the bodies are not such as a parser could ever read"

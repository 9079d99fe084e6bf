"""Splitters: each one's rule, and what they all owe."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Outcome, Problem, Rollout
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import SPLITTERS, splitter

OutcomeOf = Callable[..., Outcome]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SPLITTERS),
    ("paragraph", {"short": 0, "long": 8}),
    ("paragraph", {"short": 5, "long": 20, "lines": False}),
    ("fixed", {"size": 3}),
    ("whole", {"by_block": True}),
    ("numbered", {"word": "x"}),
]
PARTS = [
    "Wait, no. ",
    "x",
    "3 ",
    "\n",
    "\n\n",
    " \n \n",
    "答案。",
    "😀",
    "e\u0301",
    "é",
    ".",
    " ;",
    " ; ",
    "Step 2: ",
    "\\[",
    "\\]",
    "$",
]
PARTS += [
    "<think>",
    "</think>",
    "</think> answer",
    "think\n",
    "\nanswer\n",
    "<|begin_of_thought|>",
    "<|end_of_thought|>",
    "\\boxed{3}",
]
TEXTS = st.lists(
    st.one_of(st.sampled_from(PARTS), st.text(max_size=3, alphabet=st.characters(exclude_categories=["Cs"])))
).map("".join)


def check(outcome: Outcome, name: str, arguments: dict[str, Any]) -> None:
    made = splitter(name, **arguments)
    steps, rollout = made.split(outcome), outcome.rollout
    assert steps.unit == made.unit
    assert "".join(steps.texts) == rollout.text
    assert [t for a, b in steps.spans for t in range(a, b)] == list(range(len(rollout.completion_ids)))
    assert (np.diff(steps.in_answer.astype(int)) >= 0).all(), "the answer block comes last"
    if (name, arguments) != ("whole", {}):
        assert steps.closed == bool(steps.in_answer.any())
    assert made.split(outcome).starts.tolist() == steps.starts.tolist()


@pytest.mark.parametrize(("name", "arguments"), SETTINGS)
@settings(max_examples=60)
@given(text=TEXTS)
def test_steps_partition_any_text(outcome_of: OutcomeOf, name: str, arguments: dict[str, Any], text: str):
    check(outcome_of(text), name, arguments)


@pytest.mark.parametrize("name", SPLITTERS)
@settings(max_examples=30)
@given(numbers=st.lists(st.integers(0, 255)))
def test_steps_partition_any_ids(small: FileTokenizer, name: str, numbers: list[int]):
    from stepcredit.steps import align

    ids = np.array(numbers, np.int32)
    text, starts = align(ids, small)
    rollout = Rollout("r", Problem("p", "?", None), "g", 0, text, np.zeros(0), ids, starts)
    check(Outcome(rollout, "wrong"), name, {})


@pytest.mark.data
@pytest.mark.parametrize("folder", ["tokenizer_gpt2", "tokenizer_qwen2_5"])
def test_steps_partition_on_real_vocabularies(data, outcome_of: OutcomeOf, folder: str):
    tokenizer = FileTokenizer.load(data / folder)

    @settings(max_examples=40, deadline=None)
    @given(text=TEXTS)
    def run(text: str) -> None:
        for name, arguments in SETTINGS:
            check(outcome_of(text, tokenizer), name, arguments)

    run()


@pytest.mark.parametrize("name", SPLITTERS)
def test_no_tokens_no_steps(outcome_of: OutcomeOf, name: str):
    steps = splitter(name).split(outcome_of(""))
    assert (len(steps), steps.closed, steps.texts) == (0, False, ())


def test_paragraphs_merge_and_cut(outcome_of: OutcomeOf):
    text = "Short.\n\n" + "This one is a good deal longer than forty characters.\n\n" + "Tiny.\n\n" + "Also tiny."
    steps = splitter("paragraph").split(outcome_of(text))
    assert steps.texts == (text,)
    text = "A" * 40 + ".\n\n" + "Tiny.\n\n" + "B" * 40 + ".\n\n" + "C" * 40 + ".\n\nEnd."
    steps = splitter("paragraph").split(outcome_of(text))
    assert steps.texts == ("A" * 40 + ".\n\n", "Tiny.\n\n" + "B" * 40 + ".\n\n", "C" * 40 + ".\n\nEnd.")


def test_long_paragraphs_are_cut_evenly_at_sentence_ends(outcome_of: OutcomeOf):
    sentence = "Here is a sentence of fifty characters, no more. "
    steps = splitter("paragraph").split(outcome_of((sentence * 60).strip()))
    lengths = [len(text) for text in steps.texts]
    assert len(lengths) == 3
    assert max(lengths) <= 1200
    assert max(lengths) - min(lengths) <= len(sentence)
    assert all(text.strip().startswith("Here") for text in steps.texts)


def test_a_sentence_that_is_too_long_is_cut_at_lines_then_spaces(outcome_of: OutcomeOf):
    made = splitter("paragraph", short=0, long=30)
    assert made.split(outcome_of("a formula \\[ x + \ny + z + u + v + w \\]")).texts[0].endswith("\n")
    assert max(map(len, made.split(outcome_of("word " * 30)).texts)) <= 31
    assert made.split(outcome_of("x" * 100)).texts == ("x" * 100,)


def test_a_block_without_blank_lines_is_cut_at_lines(outcome_of: OutcomeOf):
    lines = "First she bakes 4 trays of 12 cakes each, 48.\nThen she sells half of all the cakes, leaving 24.\n"
    outcome = outcome_of(lines + "A: 24")
    assert splitter("paragraph").split(outcome).texts == (*lines.splitlines(keepends=True), "A: 24")
    assert splitter("paragraph", lines=False).split(outcome).texts == (lines, "A: 24")


def test_each_step_lies_in_one_block_and_markers_go_along(outcome_of: OutcomeOf):
    text = "<think>\nOne.\n\nTwo.\n</think>\n\nIt is 3."
    for name in ("newline", "sentence", "fixed"):
        steps = splitter(name).split(outcome_of(text))
        think = "".join(t for t, a in zip(steps.texts, steps.in_answer, strict=True) if not a)
        assert think.rstrip() == "<think>\nOne.\n\nTwo.\n</think>"
        assert (steps.closed, steps.form) == (True, "r1")
    assert splitter("newline").split(outcome_of(text)).texts[0].startswith("<think>\nOne.")


def test_whole_is_one_step_or_one_a_block(outcome_of: OutcomeOf):
    outcome = outcome_of("<think>a</think>It is 3.")
    whole = splitter("whole").split(outcome)
    assert (len(whole), whole.in_answer.tolist(), whole.closed) == (1, [False], True)
    assert splitter("whole", by_block=True).split(outcome).in_answer.tolist() == [False, True]


def test_numbered_headings(outcome_of: OutcomeOf):
    parts = ("Plan.\n", "Step 1: add 1 and step 9: no.\n", "**Step 2.** Multiply.\n", "### Step 3 - Done")
    assert splitter("numbered").split(outcome_of("".join(parts))).texts == parts


def test_the_embedded_world(outcome_of: OutcomeOf):
    words = ["</think>", "answer", ";", "check", "Step1", "Step2", "no-wait", "ok", *map(str, range(17)), "/15", "*15"]
    tokenizer = FileTokenizer.from_words(words)
    text = "; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 12 </think> answer ; Step1 12 ; Step2 3 <eos>"
    steps = splitter("delimiter").split(outcome_of(text, tokenizer))
    assert steps.texts == (
        "; Step1 14 /15 4",
        " ; check 4 *15 9 no-wait",
        " ; Step1 14 /15 12 </think>",
        " answer ; Step1 12",
        " ; Step2 3 <eos>",
    )
    assert steps.in_answer.tolist() == [False, False, False, True, True]
    assert (steps.form, steps.closed) == ("world", True)
    assert not splitter("delimiter", form="world").split(outcome_of("; Step1 14 /15 4 ; check 4", tokenizer)).closed


def test_a_cut_completion_is_not_closed(outcome_of: OutcomeOf):
    text = "Add 1 and 2.\n\nThe answer is 3."
    assert splitter("paragraph").split(outcome_of(text)).closed
    assert not splitter("paragraph").split(outcome_of(text, finish="length")).closed


def test_an_answer_block_inside_the_last_think_token_is_none():
    words = FileTokenizer.from_words(["x</think>3"])
    ids = words.encode("x</think>3")
    rollout = Rollout("r", Problem("p", "?", None), "g", 0, "x</think>3", np.zeros(0), ids, np.zeros(1))
    steps = splitter("paragraph").split(Outcome(rollout, "right"))
    assert (len(steps), steps.closed, steps.in_answer.tolist()) == (1, False, [False])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("paragraf", {}, "unknown splitter 'paragraf'; did you mean 'paragraph'?"),
        ("zzz", {}, "unknown splitter 'zzz'; known: delimiter, fixed"),
        ("fixed", {"sizes": 3}, "splitter 'fixed' has no setting 'sizes'; did you mean 'size'?"),
        ("fixed", {"unit": "x"}, "splitter 'fixed' has no setting 'unit'"),
        ("fixed", {"size": 0}, "fixed needs a size of at least 1 token, got 0"),
        ("paragraph", {"short": 9, "long": 5}, "paragraph needs 0 <= short <= long, got short 9, long 5"),
        ("paragraph", {"form": "r2"}, "unknown block format 'r2'"),
        ("token", {"form": "r2"}, "unknown block format 'r2'"),
        ("delimiter", {"word": "a b"}, "delimiter needs one word without white space, got 'a b'"),
        ("numbered", {"word": " "}, "numbered needs the word"),
    ],
)
def test_bad_settings_are_named(name, arguments, message):
    with pytest.raises(UsageError) as caught:
        splitter(name, **arguments)
    assert message in str(caught.value)

"""Witnesses: who is heard of which step, worked by hand, and what holds of any group."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import JudgeError, UsageError
from stepcredit.core.records import Outcome, OutcomeStatus, Problem, Rollout, Steps
from stepcredit.judges.intrinsic.claims import text_claims, world_claims
from stepcredit.judges.witness import Claim, Remark, WitnessSettings, witnessed

RIGHT_ONLY = WitnessSettings(own_word=False, confirmed="no", remarks="none")
OWN_WORD = WitnessSettings(confirmed="no", remarks="none")
CONFIRMED = WitnessSettings(confirmed="all", remarks="none")


def said(line: str) -> tuple[Claim | Remark | None, ...]:
    """`a1` claims 1 of a; `+` confirms the step before it, `-` denies it; `.` is neither."""
    return tuple(
        Remark(k - 1, word == "-") if word in "+-" else None if word == "." else Claim(word[0], word[1:])
        for k, word in enumerate(line.split())
    )


def solution(index: int, status: OutcomeStatus, line: str, *, group: str = "g") -> Steps:
    """A solution of one token a word, and an answer block of one token that repeats the first."""
    words = [*line.split(), line.split(maxsplit=1)[0]]
    starts = np.cumsum([0, *(len(word) for word in words)])[:-1]
    ids = np.arange(len(words))
    name = f"{group}/{index}"
    rollout = Rollout(name, Problem(group, "?", "1"), group, index, "".join(words), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, status, reason="cut"), ids, "word", ids == len(ids) - 1, closed=True)


def heard(*lines: str, how: WitnessSettings = CONFIRMED) -> list[str]:
    """Of each line `right: a1 ...` its think steps as `+` borne out, `-` refuted, `?` nobody."""
    cut = [solution(i, *_parted(line)) for i, line in enumerate(lines)]
    columns = witnessed(cut, lambda _problem, texts: said(" ".join(texts)), settings=how)
    assert all(np.isnan(column[-1]) for column in columns)
    return ["".join("?" if np.isnan(u) else "+" if u > 0 else "-" for u in column[:-1]) for column in columns]


def _parted(line: str) -> tuple[OutcomeStatus, str]:
    status, _, words = line.partition(": ")
    return status, words  # type: ignore[return-value]


def test_a_right_solution_bears_witness_for_its_siblings():
    assert heard("right: a1 b2", "wrong: a1 b3", "wrong: a4 c5") == ["++", "+-", "-?"]


def test_what_a_right_solution_took_back_is_refuted_in_all_of_them():
    assert heard("right: a3 - a1 +", "wrong: a3 + b1") == ["-?+?", "-??"]


def test_most_right_solutions_decide_and_a_tie_says_nothing():
    assert heard("right: a1", "right: a1", "right: a2", "wrong: a2") == ["+", "+", "-", "-"]
    assert heard("right: a1", "right: a2", "wrong: a1") == ["?", "?", "?"]


def test_the_outcome_weighs_more_than_any_number_of_wrong_solutions():
    assert heard("right: a1", *["wrong: a2 +"] * 7) == ["+", *["-?"] * 7]


def test_without_a_right_solution_what_most_took_back_is_refuted_wherever_it_stands():
    assert heard("wrong: a3 - a1", "wrong: a3 - a2", "wrong: a3") == ["-??", "-??", "-"]
    assert heard("wrong: a3 - a1", "wrong: a3") == ["???", "?"]
    assert heard("wrong: a3 -", how=OWN_WORD) == ["-?"], "denied, and left to stand"
    assert heard("wrong: a3 - a1", how=RIGHT_ONLY) == ["???"]


def test_a_value_said_again_after_it_was_denied_stands():
    assert heard("wrong: a3 - a3", how=OWN_WORD) == ["???"]


def test_a_confirmed_value_is_borne_out_unless_another_is_confirmed_as_often():
    assert heard("wrong: a1 +", "wrong: a1", "wrong: a2") == ["+?", "+", "?"]
    assert heard("wrong: a1 +", "wrong: a2 +") == ["??", "??"]
    assert heard("wrong: a1 +", "wrong: a1 - a2") == ["??", "???"]
    assert heard("wrong: a1 +", how=OWN_WORD) == ["??"]


def test_only_what_starts_from_what_was_found_is_borne_out_by_its_writers():
    lines = ("; Step1 14 /15 4", "; check 4 *15 14 ok", "; Step2 9 *2 1", "; check 1 *2 9 ok")
    cut = [replace_texts(solution(0, "wrong", "a b c d"), lines)]
    for how, want in (("no", [np.nan] * 4), ("grounded", [1.0, *[np.nan] * 3]), ("all", [1.0, np.nan, 1.0, np.nan])):
        told = witnessed(cut, world_claims, settings=WitnessSettings(confirmed=how))  # type: ignore[arg-type]
        np.testing.assert_array_equal(told[0][:4], want)


def replace_texts(steps: Steps, lines: tuple[str, ...]) -> Steps:
    """The solution with other think steps, to a problem of the reflection world."""
    texts = [*lines, "answer"]
    starts = np.cumsum([0, *(len(text) for text in texts)])[:-1]
    problem = Problem("p", "Q 14 ; Step1 /15 ; Step2 *2 ?", "1")
    rollout = replace(steps.rollout, problem=problem, text="".join(texts), char_starts=starts)
    return replace(steps, outcome=replace(steps.outcome, rollout=rollout))


def test_a_false_alarm_does_not_refute_what_a_right_solution_holds_to():
    assert heard("right: a1", "wrong: a1 - a2") == ["+", "+?-"]


def test_remarks_are_judged_by_the_right_solutions_alone():
    lines = ("right: a1 +", "wrong: a1 -", "wrong: a2 +", "wrong: a2 -", "wrong: b1 +")
    everything = WitnessSettings(confirmed="all", remarks="all")
    assert heard(*lines, how=everything) == ["++", "+-", "--", "-+", "+?"]
    assert heard(*lines, how=WitnessSettings(confirmed="all", remarks="false")) == ["+?", "+-", "--", "-?", "+?"]


def test_an_unscorable_solution_is_heard_like_a_wrong_one_and_other_groups_are_not():
    assert heard("unscorable: a3 - a1", "wrong: a4") == ["-??", "?"]
    cut = [solution(0, "right", "a1", group="g"), solution(0, "wrong", "a2", group="h")]
    columns = witnessed(cut, lambda _problem, texts: said(" ".join(texts)), settings=CONFIRMED)
    assert (columns[0][0], np.isnan(columns[1][0])) == (1.0, True)


WORDS = st.lists(st.sampled_from(["a1", "a2", "b1", "b2", "+", "-", "."]), min_size=1, max_size=6)
LINES = st.lists(st.tuples(st.sampled_from(["right", "wrong"]), WORDS), min_size=1, max_size=5)


@given(lines=LINES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_solutions_changes_nothing_that_is_said_of_a_step(lines, data):
    texts = [f"{status}: {' '.join(('.', *words))}" for status, words in lines]
    order = data.draw(st.permutations(range(len(texts))))
    assert [heard(*texts)[i] for i in order] == heard(*(texts[i] for i in order))


@given(lines=LINES)
@settings(max_examples=60, deadline=None)
def test_equal_claims_of_a_group_get_equal_words(lines):
    texts = [f"{status}: {' '.join(('.', *words))}" for status, words in lines]
    found: dict[str, set[str]] = {}
    for text, told in zip(texts, heard(*texts), strict=True):
        for word, mark in zip(text.split()[1:], told, strict=True):
            if word[0] in "ab":
                found.setdefault(word, set()).add(mark)
    assert all(len(marks) == 1 for marks in found.values())


def test_a_reader_that_miscounts_or_looks_ahead_is_named():
    cut = [solution(0, "right", "a1 b2")]
    with pytest.raises(JudgeError, match="gave 1 entries for 2 steps"):
        witnessed(cut, lambda _problem, _texts: (None,), settings=CONFIRMED)
    with pytest.raises(JudgeError, match="a remark at step 0 is about step 1"):
        witnessed(cut, lambda _problem, _texts: (Remark(1, denies=True), None), settings=CONFIRMED)


def test_settings_that_do_nothing_are_refused():
    with pytest.raises(UsageError, match="remarks must be none, false or all, got 'some'"):
        WitnessSettings(remarks="some")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="set confirmed to no, or switch own_word on"):
        WitnessSettings(own_word=False, confirmed="all")


def test_the_worlds_are_read_unit_by_unit():
    steps = ("; Step1 14 /15 4", " ; check 4 *15 9 no-wait", " ; Step1 14 /15 10", " ; Step2 3 /2 </think>")
    assert world_claims("Q 14", steps) == (Claim("14 /15", "4"), Remark(0, denies=True), Claim("14 /15", "10"), None)
    chain = ("; Step1 14 +13 10", " ; wait,", " ; wait,", " ; Step1 14 +13 3 </think>")
    assert world_claims("Q 14", chain) == (Claim("14 +13", "10"), Remark(0, denies=True), None, Claim("14 +13", "3"))


def test_written_steps_are_read_as_their_only_equation():
    steps = ("So 7 * 8 = 54 apples.", "We buy 3 + 4 = 7 and 5 + 5 = 10.", "Hmm, that's wrong.", "Then 7 × 8 = 56.")
    assert text_claims("", steps)[0] == Claim("7*8", "54")
    assert text_claims("", steps)[1] is None
    assert text_claims("", steps)[3] == Claim("7*8", "56")

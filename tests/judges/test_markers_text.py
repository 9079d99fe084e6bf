import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_solutions import solution

from stepcredit.core.records import Label, Outcome, Problem, Rollout, Steps
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.markers import text_markers
from stepcredit.judges.intrinsic.text_features import concludes_alike, conflicts, features, overlap, rarity
from stepcredit.judges.intrinsic.text_markers import TextGrammar

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED


def kind(text, *, after=()):
    found = TextGrammar().reflections(("We start with 3 boxes.", text, *after))
    return next((item.kind for item in found if item.step == 1), None)


@pytest.mark.parametrize(
    "text",
    [
        "No wait, I forgot the second box.",
        "That's not right, since 7 * 8 is 56.",
        "Hmm. That doesn't add up.",
        "I made a mistake in the second line.",
        "Oops, 45 minus 9 is 36.",
        "I misread the problem.",
        "Let me recalculate the total.",
        "But wait, the problem says per week, not per day.",
        "Hold on. The boxes come in pairs.",
        "However, the problem speaks of three friends.",
    ],
)
def test_admissions_and_unanswered_halts_are_errors(text):
    assert kind(text) == "error"


@pytest.mark.parametrize(
    "text",
    [
        "Wait, let me double-check. 3 times 4 is 12. Yes, that's right.",
        "Let me verify this: 3 * 4 = 12.",
        "Wait, is that correct? It checks out.",
        "Hold on, 3 boxes of 4. Yep, 12.",
        "I don't think I made any mistakes. Let me make sure.",
        "Let me check again in case I made a mistake.",
    ],
)
def test_rechecks_that_confirm_are_confirmations(text):
    assert kind(text) == "confirm"


@pytest.mark.parametrize(
    "text", ["So 3 * 4 = 12.", "The waiter brings 12 cups.", "Two of them are incorrectly filled.", ""]
)
def test_plain_reasoning_is_no_reflection(text):
    assert kind(text) is None


def test_a_halt_is_answered_by_the_next_step_or_by_coming_back_to_the_same_number():
    assert kind("Wait, is it per week?", after=("Some other thought about 9 cups.",)) == "error"
    assert kind("Wait, is it per week?", after=("Yes, per week.",)) == "confirm"
    assert kind("So 12 cups. Wait, 4 cups for each of 3, so 12.") == "confirm"
    assert kind("So 12 cups. Wait, 4 cups for each of 4, so 16.") == "error"


async def test_right_solution_the_step_whose_result_is_replaced_and_what_rests_on_it_are_incorrect():
    think = (
        "There are 7 rows of 8 trees.\n",
        "7 * 8 = 54, so there are 54 trees.\n",
        "The park has 3 gates.\n",
        "Half of the 54 trees are oaks, 27 oaks.\n",
        "Wait, that's not right: 7 * 8 = 56.\n",
        "So 28 oaks.\n",
    )
    judge = IntrinsicJudge(text_markers())
    assert [v.label for v in await judge.judge(solution(think, ("28",)))] == [C, X, C, X, C, C, C]
    apart = IntrinsicJudge(text_markers(), IntrinsicSettings(merged=False))
    assert [v.label for v in await apart.judge(solution(think, ("28",)))] == [C, X, C, X, C, C, C]


async def test_wrong_solution_what_the_answer_says_is_matched():
    think = (
        "Maybe the area is 12 * 30 = 360.\n",
        "Or the perimeter counts: 12 + 30 = 42, twice 84.\n",
        "Guessing now.\n",
    )
    answer = ("The perimeter is twice 12 + 30 = 42, so the answer is 84.",)
    verdicts = await IntrinsicJudge(text_markers()).judge(solution(think, answer, status="wrong"))
    assert [v.label for v in verdicts] == [U, M, U, M]


async def test_a_bare_final_number_is_matched_with_the_steps_that_hold_it():
    think = ("He has 48 coins.\n", "Half of them: 24.\n", "So 48 + 24 = 72 coins.\n")
    verdicts = await IntrinsicJudge(text_markers()).judge(solution(think, ("#### 72",), status="wrong"))
    assert [v.label for v in verdicts] == [U, U, M, M]


def test_an_error_inside_the_reflections_own_step_is_not_traced_to_another():
    steps = ("We need 645 + 864.", "I get 12 + 30 = 43. Wait, no, 12 + 30 = 42.")
    assert TextGrammar().trace("", steps).source is None


def test_a_source_does_not_depend_on_the_order_of_a_set():
    """`7 * 8` came to 54 and to 56: either result is known, whichever a set names last."""
    text = "7 * 8 = 54 or 7 * 8 = 56"
    assert [conflicts(features(text), features(f"7 * 8 = {said}")) for said in (54, 56, 58)] == [0, 0, 1]


def test_a_bare_admission_speaks_of_the_step_before_it():
    trace = TextGrammar().trace("", ("Some words here.", "Then 5 cups.", "No, that's wrong."))
    assert (trace.source, trace.evidence) == (1, "Then 5 cups.")


def test_numbers_of_the_problem_taint_nothing():
    steps = ("The 60 downloads triple to 170.", "In month one there were 60.", "170 minus 30% is 119.", "Wait, no.")
    assert TextGrammar().wrong("60 downloads, then three times as many", steps, source=0) == (True, False, True)


def test_features_meet_in_the_middle_of_different_spellings():
    plain, latex = features("so 3/4 * 1,200 = 900"), features(r"so \frac{3}{4} \times 1200 = 900.0")
    assert plain.numbers == latex.numbers
    assert plain.equations == latex.equations == {("3/4*1200", "900")}
    assert features("x = 5").equations == {("x", "5")}
    assert features("").weights == {}


def test_rare_items_weigh_more():
    texts = [features("7 and 9"), features("7 and 11"), features("7")]
    weights = rarity(texts)
    assert weights["7"] == pytest.approx(0.2877, abs=1e-4)  # ln(4 / 3)
    assert weights["9"] == weights["11"] == pytest.approx(1.3863, abs=1e-4)  # ln 4
    assert overlap(["7", "9"], texts[0], weights) == pytest.approx(1.6740, abs=1e-4)
    assert not concludes_alike("no number", "5")


SENTENCES = st.sampled_from(
    ["Wait, no.", "3 + 4 = 7.", "3 + 4 = 8.", "That's right.", "\\frac{1}{2}", "((((", "hmm", " ", "\n", "x^2=9", "🙂"]
)


@settings(deadline=None)
@given(
    st.lists(st.one_of(SENTENCES, st.text(min_size=1, max_size=40)), max_size=8), st.sampled_from(["right", "wrong"])
)
async def test_any_text_is_judged_and_the_reader_is_always_read(texts, status):
    judge = IntrinsicJudge(text_markers())
    verdicts = await judge.judge(solution(texts, ("so 7",), status=status))
    assert len(verdicts) == len(texts) + 1
    assert all(v.known for v in verdicts)
    assert not judge.statistics.rejected


def recorded(path: Path, limit: int) -> list[Steps]:
    """Finished, graded R1-style responses, a paragraph a step."""
    found: list[Steps] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            think, mark, answer = row["response"].partition("</think>")
            if mark and answer.strip() and row["correct"] is not None:
                found.append(paragraphs(row, think + mark, answer))
            if len(found) == limit:
                break
    return found


def paragraphs(row: dict[str, object], think: str, answer: str) -> Steps:
    texts = [part + "\n\n" for part in think.split("\n\n")]
    text = "".join(texts) + answer
    starts = np.cumsum([0, *map(len, texts)])
    problem = Problem(str(row["id"]), str(row["problem"]), str(row["gold"]))
    rollout = Rollout(problem.id, problem, "g", 0, text, np.zeros(1), np.arange(len(starts)), starts, retokenised=True)
    outcome = Outcome(rollout, "right" if row["correct"] else "wrong")
    inside = np.arange(len(starts)) == len(texts)
    return Steps(outcome, np.arange(len(starts)), "paragraph", inside, closed=True)


@pytest.mark.data
@pytest.mark.parametrize("name", ["gsm8k", "math"])
async def test_recorded_reasoning_is_judged_whole_and_not_with_one_label_throughout(name):
    path = DATA / "long_cot_mip" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip("needs ../shared/data/long_cot_mip")
    judge = IntrinsicJudge(text_markers())
    batch = recorded(path, 120)
    varied = 0
    for steps in batch:
        verdicts = await judge.judge(steps)
        assert all(verdict.known for verdict in verdicts)
        varied += len({verdict.label for verdict in verdicts}) > 1
    assert judge.statistics.solutions == {"judged": len(batch)}
    assert not judge.statistics.rejected
    assert varied >= 0.3 * len(batch)

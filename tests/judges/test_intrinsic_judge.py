import json
from dataclasses import replace

import pytest
from judged_solutions import ScriptedReader, solution

from stepcredit.core.errors import BudgetError, EngineError, JudgeError, UsageError
from stepcredit.core.records import Label
from stepcredit.judges.intrinsic.judge import UNTRACEABLE, IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.replies import Matches, Reflection, Reflections, TracedVerification
from stepcredit.judges.intrinsic.tasks import MatchTask, ReflectTask, TraceTask, TraceVerifyTask, VerifyTask
from stepcredit.steps import apply_ranges

C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED
THINK = ("a = 1", "b = 2", "c = 3", "wait, b = 4", "hm no", "fine")
ONE_ERROR = Reflections((Reflection(3, "error"), Reflection(5, "confirm"))).write()


def labels(verdicts):
    return [verdict.label for verdict in verdicts]


async def test_right_solution_steps_of_a_confirmed_interval_are_incorrect_and_the_rest_correct():
    reader = ScriptedReader(P1=[ONE_ERROR], P23=[TracedVerification(1, "b = 2", (True, False)).write()])
    verdicts = await IntrinsicJudge(reader).judge(solution(THINK, ("4",)))
    assert labels(verdicts) == [C, X, C, C, C, C, C]
    assert [v.score for v in verdicts] == [1, 0, 1, 1, 1, 1, 1]
    assert verdicts[1].reason == "taken back at step 3: b = 2"
    assert verdicts[1].calls == ("call-1", "call-2")
    assert verdicts[0].calls == ("call-1",)
    assert verdicts[6].calls == ()
    assert reader.asked[0][0] == ReflectTask("How many?", THINK)
    assert reader.asked[1][0] == TraceVerifyTask("How many?", THINK[:4])
    assert reader.asked[1][0].reflection == 3


async def test_overlapping_intervals_are_united_and_a_later_one_may_hold_an_earlier_reflection():
    found = Reflections((Reflection(3, "error"), Reflection(4, "error")))
    both = [
        TracedVerification(1, "b = 2", (True, True)).write(),
        TracedVerification(2, "c = 3", (False, True)).write(),
    ]
    verdicts = await IntrinsicJudge(ScriptedReader(P1=[found.write()], P23=both)).judge(solution(THINK))
    assert labels(verdicts) == [C, X, X, X, C, C]


async def test_a_reflection_without_a_traceable_source_changes_nothing():
    reader = ScriptedReader(P1=[ONE_ERROR], P23=[TracedVerification(None, "", ()).write()])
    judge = IntrinsicJudge(reader)
    verdicts = await judge.judge(solution(THINK, ("4",)))
    assert labels(verdicts) == [C] * 7
    assert [v.reason for v in verdicts] == ["", "", "", UNTRACEABLE, "", "", ""]
    assert verdicts[3].calls == ("call-1", "call-2")
    assert judge.statistics.counts["P23", "right"].untraceable == 1


async def test_an_error_admitted_in_the_first_step_has_nothing_before_it_to_trace():
    reader = ScriptedReader(P1=[Reflections((Reflection(0, "error"),)).write()])
    judge = IntrinsicJudge(reader)
    verdicts = await judge.judge(solution(THINK))
    assert labels(verdicts) == [C] * 6
    assert verdicts[0].reason == UNTRACEABLE
    counts = judge.statistics.counts["P23", "right"]
    assert (counts.untraceable, counts.asked) == (1, 0)


async def test_an_untraceable_reflection_that_another_one_takes_back_says_so_and_is_counted():
    found = Reflections((Reflection(3, "error"), Reflection(4, "error"))).write()
    both = [TracedVerification(None, "", ()).write(), TracedVerification(3, "b = 4", (True,)).write()]
    judge = IntrinsicJudge(ScriptedReader(P1=[found], P23=both))
    verdicts = await judge.judge(solution(THINK))
    assert labels(verdicts) == [C, C, C, X, C, C]
    assert verdicts[3].reason == "taken back at step 4: b = 4"
    assert judge.statistics.counts["P23", "right"].untraceable == 1


async def test_separate_calls_trace_then_verify_the_interval():
    reader = ScriptedReader(
        P1=[ONE_ERROR],
        P2=['{"source": 1, "evidence": "b = 2"}'],
        P3=['{"verdicts": ["wrong", "wrong"]}'],
    )
    judge = IntrinsicJudge(reader, IntrinsicSettings(merged=False))
    verdicts = await judge.judge(solution(THINK))
    assert labels(verdicts) == [C, X, X, C, C, C]
    assert reader.asked[1][0] == TraceTask("How many?", THINK[:4])
    assert reader.asked[2][0] == VerifyTask("How many?", THINK[:4], 1, "b = 2")
    assert verdicts[1].calls == ("call-1", "call-2", "call-3")


async def test_separate_calls_ask_no_verification_without_a_source():
    reader = ScriptedReader(P1=[ONE_ERROR], P2=['{"source": null, "evidence": ""}'])
    judge = IntrinsicJudge(reader, IntrinsicSettings(merged=False))
    assert labels(await judge.judge(solution(THINK))) == [C] * 6
    assert judge.statistics.counts["P2", "right"].untraceable == 1


async def test_wrong_solution_is_matched_with_its_answer_block():
    reader = ScriptedReader(P4=[Matches((True, False, False, True, False, False)).write()])
    verdicts = await IntrinsicJudge(reader).judge(solution(THINK, ("so", "4"), status="wrong"))
    assert labels(verdicts) == [M, U, U, M, U, U, M, M]
    assert [v.score for v in verdicts] == [0, None, None, 0, None, None, 0, 0]
    assert all(v.known for v in verdicts)
    assert reader.asked == [(MatchTask("How many?", THINK, ("so", "4")), 0, "")]


@pytest.mark.parametrize(
    ("closed", "form", "finish", "reason"),
    [
        (True, "r1", "stop", ""),
        (False, "r1", "stop", "think block never closed: "),
        (False, "r1", "length", "cut by length: "),
        (False, "none", "stop", "no think tags, and no ending that states the answer: "),
    ],
)
async def test_wrong_solution_without_answer_block_cannot_be_matched(closed, form, finish, reason):
    judge = IntrinsicJudge(ScriptedReader())
    cut = solution(THINK, status="wrong", closed=closed)
    rollout = replace(cut.rollout, finish=finish)
    verdicts = await judge.judge(replace(cut, outcome=replace(cut.outcome, rollout=rollout), form=form))
    assert not any(v.known for v in verdicts)
    assert {v.reason for v in verdicts} == {f"{reason}no answer block to match"}
    assert judge.statistics.solutions == {"unmatchable": 1}


async def test_unscorable_outcome_is_unknown_with_its_reason():
    judge = IntrinsicJudge(ScriptedReader())
    verdicts = await judge.judge(solution(THINK, ("4",), status="unscorable"))
    assert {v.reason for v in verdicts} == {"the outcome is unscorable: no answer found"}
    assert judge.statistics.solutions == {"unscorable": 1}


async def test_solutions_without_think_steps_need_no_call():
    judge = IntrinsicJudge(ScriptedReader())
    assert labels(await judge.judge(solution((), ("4",)))) == [C]
    assert labels(await judge.judge(solution((), ("4",), status="wrong"))) == [M]
    assert await judge.judge(solution(())) == ()


async def test_a_rejected_reply_is_asked_again_with_what_was_wrong():
    good = Matches((False,) * 6).write()
    reader = ScriptedReader(P4=[Matches((False,)).write(), "no idea", good])
    judge = IntrinsicJudge(reader)
    verdicts = await judge.judge(solution(THINK, ("4",), status="wrong"))
    assert labels(verdicts) == [U] * 6 + [M]
    assert verdicts[0].calls == ("call-1", "call-2", "call-3")
    assert [attempt for _, attempt, _ in reader.asked] == [0, 1, 2]
    assert reader.asked[1][2] == "wrong count: 1 matches for 6 steps"
    assert reader.asked[2][2].startswith("not JSON: ")
    counts = judge.statistics.counts["P4", "wrong"]
    assert (counts.asked, counts.calls, counts.first_try, counts.after_retry, counts.failed) == (1, 3, 0, 1, 0)
    assert counts.rejects == {"not JSON": 1, "wrong count": 1}
    assert (counts.input_tokens, counts.output_tokens, counts.unmetered) == (30, 9, 0)


async def test_after_the_retries_all_steps_are_unknown_and_every_raw_reply_is_kept():
    reader = ScriptedReader(P1=[ONE_ERROR], P23=["a", "b", "c"])
    judge = IntrinsicJudge(reader)
    verdicts = await judge.judge(solution(THINK, ("4",), name="r7"))
    assert not any(v.known for v in verdicts)
    assert verdicts[0].reason.startswith("P23 unreadable after 3 replies: not JSON: ")
    assert judge.statistics.solutions == {"failed": 1}
    assert [(r.rollout, r.task, r.attempt, r.raw) for r in judge.statistics.rejected] == [
        ("r7", "P23", 0, "a"),
        ("r7", "P23", 1, "b"),
        ("r7", "P23", 2, "c"),
    ]
    assert judge.statistics.below(0.9) == ("P23 (right)",)
    assert judge.statistics.parse_rate == 0.0


async def test_statistics_add_up():
    judge = IntrinsicJudge(
        ScriptedReader(
            P1=[ONE_ERROR, "?", "?", "?", EngineError("gone")],
            P23=[TracedVerification(0, "a = 1", (True, False, False)).write()],
            P4=["?", Matches((True,) * 6).write()],
        )
    )
    await judge.judge(solution(THINK))
    await judge.judge(solution(THINK))
    with pytest.raises(JudgeError, match="r9: the reader broke: gone"):
        await judge.judge(solution(THINK, name="r9"))
    await judge.judge(solution(THINK, ("4",), status="wrong"))
    await judge.judge(solution(THINK, status="wrong"))
    for counts in judge.statistics.counts.values():
        assert counts.asked == counts.first_try + counts.after_retry + counts.failed + counts.broken
        assert counts.calls == counts.first_try + counts.after_retry + sum(counts.rejects.values())
    assert judge.statistics.solutions == {"judged": 2, "failed": 1, "broken": 1, "unmatchable": 1}
    assert judge.statistics.parse_rate == 0.5


async def test_one_failing_trace_stops_the_others_and_a_limit_on_cost_passes_through():
    found = Reflections((Reflection(3, "error"), Reflection(4, "error"))).write()
    reader = ScriptedReader(P1=[found], P23=[BudgetError("0 calls left"), BudgetError("0 calls left")])
    with pytest.raises(BudgetError, match="0 calls left"):
        await IntrinsicJudge(reader).judge(solution(THINK))


async def test_proposed_ranges_tile_the_think_block():
    judge = IntrinsicJudge(ScriptedReader(P0=['{"steps": [[0, 2], [3, 5]]}', *["?"] * 3]))
    assert await judge.propose(solution(THINK, ("4",))) == ((0, 3), (3, 6))
    assert await judge.propose(solution(THINK, ("4",))) is None
    broken = IntrinsicJudge(ScriptedReader(P0=[EngineError("gone")]))
    with pytest.raises(JudgeError, match="r0: the reader broke"):
        await broken.propose(solution(THINK))


async def test_what_the_judge_proposes_is_what_the_steps_are_joined_by():
    judge, steps = IntrinsicJudge(ScriptedReader(P0=['{"steps": [[0, 2], [3, 5]]}'])), solution(THINK, ("4",))
    joined = apply_ranges(steps, await judge.propose(steps) or ())
    assert joined.texts == ("".join(steps.texts[:3]), "".join(steps.texts[3:6]), steps.texts[6])
    assert joined.in_answer.tolist() == [False, False, True]


async def test_fuzzed_replies_give_whole_judgements_and_never_a_made_up_score():
    bodies = ["", "null", "{}", "[]", '{"choices": []}', "<html>502</html>", '{"matches": null}', "NaN", "�"]
    bodies += [
        json.dumps({"matches": [{"step": k, "verdict": word} for k in range(n)]})
        for word in ("match", "maybe", 0.5, None)
        for n in (0, 5, 7)
    ]
    for body in bodies:
        judge = IntrinsicJudge(ScriptedReader(P4=[body] * 3))
        verdicts = await judge.judge(solution(THINK, ("4",), status="wrong"))
        assert len(verdicts) == 7
        assert all(v.score is None and v.label is None and v.reason for v in verdicts)


def test_fingerprint_depends_on_settings_and_negative_retries_are_refused():
    reader = ScriptedReader()
    prints = {IntrinsicJudge(reader, s).fingerprint for s in (None, IntrinsicSettings(merged=False))}
    assert len(prints) == 2
    with pytest.raises(UsageError, match="retries must be at least 0, got -1"):
        IntrinsicJudge(reader, IntrinsicSettings(retries=-1))

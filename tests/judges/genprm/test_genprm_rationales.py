"""What GenPRM's passes tell: analysis, code with what running it gave, the verdict, and all that was dropped."""

from typing import Any

import pytest
from genprm_doubles import judge_of, solution

from stepcredit.core.code import Executed
from stepcredit.core.rationales import Rationale, hearing
from stepcredit.judges.genprm.rationales import DROPPED, IMAGINED
from stepcredit.testing import ScriptedRunner

ANALYSIS = "I look.\n</analyze>\n"
CODE = "print(1 + 1)\n```\n"
END = "Right.\n</verify>\n"
YES = {"Yes": 0.8, "No": 0.1}


async def told(script, following=None, *, texts=("One.",), **more) -> list[Rationale]:
    judge, _ = judge_of(script, following or YES, **more)
    with hearing() as said:
        await judge.judge(solution(list(texts)))
    return said


def parts(said: Rationale) -> list[tuple[str, str, str]]:
    return [(part.kind, part.text, part.status) for part in said.passages]


async def test_code_stands_with_what_running_it_really_gave():
    runner = ScriptedRunner([Executed("error", "lost", "NameError: name 'x' is not defined"), "2"])
    again = "Once more.\n```python\nprint(2)\n```\n"
    [said] = await told([ANALYSIS, CODE, again, END], runner=runner)
    shown = [part for part in parts(said) if part[0] in ("code", "output")]
    assert shown == [
        ("code", "print(1 + 1)", ""),
        ("output", "Code execute Error: NameError: name 'x' is not defined", "error"),
        ("code", "print(2)", ""),
        ("output", "2", "ok"),
    ]
    assert parts(said)[1] == ("written", ANALYSIS, "")
    assert ("written", END, "") in parts(said)
    assert parts(said)[-1][:2] == ("forced", "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n")
    assert said.verdict == "Yes: probability of Yes 0.800, of No 0.100"
    assert (said.name, said.first, {part.step for part in said.passages}) == ("pass 1", 0, {0})


async def test_code_that_the_fallback_dropped_is_told_with_its_output():
    runner = ScriptedRunner(["2", "2", "2"])
    [said] = await told([ANALYSIS, CODE, CODE, CODE, "{No}$\n</output>\n"], runner=runner, reward_source="hard")
    assert next(part for part in parts(said) if part[0] == "code") == ("code", "print(1 + 1)", DROPPED)
    assert sum(part[0] == "output" for part in parts(said)) == 3
    assert (said.scores, said.verdict, said.status) == ((0.0,), "No", "code dropped")


async def test_a_verdict_that_cannot_be_read_is_told():
    [said] = await told([ANALYSIS, "{Oui}$\n</output>\n"], reward_source="hard")
    assert said.scores == (None,)
    assert ("written", "{Oui}$\n</output>\n", DROPPED) in parts(said)
    assert (said.verdict, said.status) == ("", "no verdict")


async def test_a_verdict_of_the_models_own_that_the_forced_one_stood_in_for_is_told():
    own = "Right.\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n"
    [said] = await told([ANALYSIS, CODE, own], runner=ScriptedRunner(["2"]))
    assert any(kind == "written" and "{No}" in text and how == DROPPED for kind, text, how in parts(said))
    assert (said.verdict[:3], said.status) == ("Yes", "contradicts")


async def test_code_that_is_never_run_says_so():
    wrote = CODE + "[Code Output]\n\n```\n3\n```\n" + END
    [said] = await told([ANALYSIS, wrote], mode="full", execute=False)
    assert ("code", "print(1 + 1)", IMAGINED) in parts(said)
    assert not [part for part in parts(said) if part[0] == "output"]
    assert any("[Code Output]\n\n```\n3" in text for kind, text, _ in parts(said) if kind == "written")


async def test_code_that_no_engine_can_run_says_why():
    runner = ScriptedRunner([Executed("refused", "", "no engine has sympy")])
    [said] = await told([ANALYSIS, CODE], runner=runner)
    assert parts(said)[-1] == ("output", "no engine has sympy", "refused")
    assert said.status == "sandbox unavailable"


@pytest.mark.parametrize(
    ("script", "settings"),
    [
        ([ANALYSIS, CODE, END], {}),
        ([ANALYSIS, CODE, CODE, CODE, "{No}$\n</output>\n"], {"reward_source": "hard"}),
        ([ANALYSIS, "x = 1  # cut " * 200], {"step_tokens": 800}),
        ([ANALYSIS, CODE, "hm </output>\n", "{Oui}"], {"reward_source": "hard"}),
    ],
)
async def test_nothing_that_the_model_wrote_is_lost(script: list[str], settings: dict[str, Any]):
    [said] = await told(script, runner=ScriptedRunner(["2"] * 3), **settings)
    shown = "".join(part.text for part in said.passages if part.kind in ("written", "code")).replace("\n", "")
    for text in script:
        assert text.replace("```", "").replace("\n", "")[:200] in shown


async def test_steps_and_passes_are_told_apart():
    said = await told(lambda *_: ANALYSIS, texts=("One.", "Two."), passes=2)
    assert [(one.name, one.first) for one in said] == [("pass 1", 0), ("pass 1", 1), ("pass 2", 0), ("pass 2", 1)]

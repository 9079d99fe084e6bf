"""Scripted judges that fail in one way each are counted under that name and no other; over-confidence is calibrated."""

import asyncio
import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

sys.path += [str(Path(__file__).parent / name) for name in ("thinkprm", "genprm")]

import genprm_doubles
import thinkprm_parts
from thinkprm_parts import BAD, GOOD, NO, YES, endless

from stepcredit.evaluation.calibration import calibration, fit_temperature
from stepcredit.judges import GenPrmJudge, GenPrmSettings, ThinkPRMJudge, ThinkPRMSettings
from stepcredit.testing import ScriptedWriter

TEXTS = ("Let x = 2.\n\n", "Then x + 3 = 6.\n\n", "So 6.")
LOOP = "Wait, let me look at that again. " * 60
NAMES = {"ok", "no_verdict", "stopped_early", "loop", "over_long", "contradicts", "truncated", "leaks", "resampled"}

THINKPRM = {
    "ok": (GOOD * 3, YES, {"ok": 1}),
    "loops": (LOOP, YES, {"loop": 1}),
    "over-long": (endless, YES, {"over_long": 1}),
    "contradicts itself": (GOOD * 3, NO, {"contradicts": 1}),
    "contradicts itself the other way": (GOOD + BAD, YES, {"contradicts": 1}),
    "stops early": (GOOD * 2, YES, {"stopped_early": 1}),
    "solves the problem again": ("So x + 3 = 5.", YES, {"no_verdict": 1}),
    "answers with other words": (GOOD * 3, {}, {"no_verdict": 1}),
    "leaks chat tokens": (GOOD * 3 + "<|im_end|>\n<|im_start|>user\n", YES, {"ok": 1, "leaks": 1}),
    "names one answer only": (GOOD * 3, {" Yes": 0.9, "maybe": 0.01}, {"truncated": 1}),
}


def counted(judge: ThinkPRMJudge | GenPrmJudge, texts: tuple[str, ...] = TEXTS, times: int = 1) -> Mapping[str, int]:
    """Names of what happened, counted; the callback tells the same as the judge."""
    for number in range(times):
        asyncio.run(judge.judge(thinkprm_parts.solution(texts, name=f"r{number}")))
    found = judge.counts.tally() if isinstance(judge, ThinkPRMJudge) else judge.statistics.tally()
    return {name: count for name, count in found.items() if count and name in NAMES | {"no_room", "code_dropped"}}


def thinkprm(script, following, **settings) -> tuple[ThinkPRMJudge, list[Mapping[str, int]]]:
    told: list[Mapping[str, int]] = []
    tokenizer = thinkprm_parts.small_tokenizer()
    writer = ScriptedWriter(tokenizer, script if callable(script) else lambda *_: script, following)
    chosen = ThinkPRMSettings(**{"resample": False, "max_tokens": 900, **settings})
    template = thinkprm_parts.small_template()
    return ThinkPRMJudge(writer, tokenizer, template, chosen, on_tally=lambda _, tally: told.append(tally)), told


@pytest.mark.parametrize("name", THINKPRM)
def test_what_thinkprm_does_wrong_is_counted_under_its_name(name):
    script, following, wanted = THINKPRM[name]
    judge, told = thinkprm(script, following)
    assert counted(judge) == wanted
    assert told == [judge.counts.tally()]


def test_a_chain_that_was_resampled_is_counted_as_such():
    answers = iter([GOOD * 2, GOOD * 3])
    judge, _ = thinkprm(lambda *_: next(answers), YES, resample=True)
    assert counted(judge) == {"ok": 1, "resampled": 1}


GENPRM = {
    "ok": ("fine.\n</analyze>\n", {"Yes": 0.8, "No": 0.1}, {}),
    "loops": (LOOP, {"Yes": 0.8, "No": 0.1}, {"loop": 1, "over_long": 1}),
    "over-long": (endless, {"Yes": 0.8, "No": 0.1}, {"over_long": 1}),
    "stops early": ("fine so far", {"Yes": 0.8, "No": 0.1}, {"stopped_early": 1}),
    "contradicts itself": (
        "wrong.\n</analyze> <output>\n**Judgement**: $\\boxed{No}$\n</analyze>\n",
        {"Yes": 0.8, "No": 0.1},
        {"contradicts": 1},
    ),
    "leaks chat tokens": ("fine.<｜User｜>and now?\n</analyze>\n", {"Yes": 0.8, "No": 0.1}, {"leaks": 1}),
    "answers with other words": ("fine.\n</analyze>\n", {}, {"no_verdict": 1}),
    "names one answer only": ("fine.\n</analyze>\n", {"Yes": 0.9, "maybe": 0.01}, {"truncated": 1}),
}


@pytest.mark.parametrize("name", GENPRM)
def test_what_genprm_does_wrong_is_counted_under_its_name(name):
    script, following, wanted = GENPRM[name]
    writer = ScriptedWriter(genprm_doubles.LITTLE, script if callable(script) else lambda *_: script, following)
    told: list[Mapping[str, int]] = []
    judge = GenPrmJudge(
        writer,
        genprm_doubles.LITTLE,
        genprm_doubles.CHAT,
        GenPrmSettings(step_tokens=900),
        on_tally=lambda _, tally: told.append(tally),
    )
    assert counted(judge, ("So 2.",)) == wanted
    assert told == [judge.statistics.tally()]


def test_scores_piled_up_at_the_ends_are_counted():
    sure = {" Yes": 0.999, " No": 1e-6}
    judge, _ = thinkprm(GOOD * 3, sure)
    counted(judge, times=20)
    assert (judge.counts.at_one, judge.counts.at_zero, judge.counts.saturated) == (20, 0, True)
    writer = ScriptedWriter(genprm_doubles.LITTLE, lambda *_: "x\n</analyze>\n", {"Yes": 1e-6, "No": 0.999})
    genprm = GenPrmJudge(writer, genprm_doubles.LITTLE, genprm_doubles.CHAT)
    counted(genprm)
    assert (genprm.statistics.tally()["at_zero"], genprm.statistics.tally()["scores"]) == (3, 3)


def test_interference_is_measured_between_chains_and_judging_step_by_step_cures_it():
    """One of three chains calls the first step wrong; with it the two right steps behind it are lost."""
    seen: list[str] = []

    def early(prompt: str, _) -> str:
        seen.append(prompt)
        steps = prompt.partition("[Solution]")[2].partition("Review")[0].count("\nStep ")
        return BAD if len(seen) % 3 == 0 else GOOD * steps

    def next_one(prompt: str) -> dict[str, float]:
        return NO if "{incorrect}" in prompt else YES

    settings = {"votes": 3, "temperature": 0.6}
    judge, told = thinkprm(early, next_one, **settings)
    verdicts = asyncio.run(judge.judge(thinkprm_parts.solution(TEXTS)))
    assert [verdict.score for verdict in verdicts] == [pytest.approx(2 / 3)] * 3
    assert (told[0]["sunk"], told[0]["compared"], judge.counts.interference) == (2, 9, 2 / 9)
    seen.clear()
    cured, told = thinkprm(early, next_one, mode="independent", **settings)
    verdicts = asyncio.run(cured.judge(thinkprm_parts.solution(TEXTS)))
    assert [verdict.score for verdict in verdicts] == [pytest.approx(2 / 3), 1.0, 1.0]
    assert told[0]["sunk"] == 0


def overconfident(count: int, *, factor: float, seed: int) -> tuple[np.ndarray, list[dict[str, float]]]:
    """[n] outcomes, and what a judge says whose log odds are `factor` times too large."""
    draws = random.Random(seed)
    true = [draws.uniform(0.05, 0.95) for _ in range(count)]
    outcomes = np.array([draws.random() < p for p in true])
    said = [1 / (1 + math.exp(-factor * math.log(p / (1 - p)))) for p in true]
    return outcomes, [{" Yes": 0.9 * p, " No": 0.9 * (1 - p)} for p in said]


def scores_of(said: list[dict[str, float]], *, votes: int = 1, noise: float = 0.0, **settings) -> np.ndarray:
    """[n] the judge's scores of one-step solutions, asked one after another."""
    draws = random.Random(1)

    def following(prompt: str) -> dict[str, float]:
        pair = said[int(prompt.partition("number ")[2].partition(".")[0])]
        odds = math.log(pair[" Yes"] / pair[" No"]) + draws.gauss(0, noise)
        return {" Yes": 1 / (1 + math.exp(-odds)), " No": 1 / (1 + math.exp(odds))}

    more = {"votes": votes, "temperature": 0.6} if votes > 1 else {}
    judge, _ = thinkprm(GOOD, following, mode="prefixes", **more, **settings)

    async def ask() -> list[float | None]:
        found = [await judge.judge(thinkprm_parts.solution((f"number {k}.",), name=f"r{k}")) for k in range(len(said))]
        return [verdicts[0].score for verdicts in found]

    return np.array(asyncio.run(ask()), float)


def error(scores: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error."""
    return calibration(scores, right, seed=0, resamples=20).ece.value


def test_a_fitted_temperature_calibrates_an_over_confident_judge_on_others():
    right, said = overconfident(240, factor=4.0, seed=3)
    fitted = fit_temperature(scores_of(said[:120]), right[:120]).value
    assert fitted == pytest.approx(4.0, rel=0.35)
    before = error(scores_of(said[120:]), right[120:])
    after = error(scores_of(said[120:], decision_temperature=fitted), right[120:])
    assert before > 0.12
    assert after < 0.7 * before


def test_averaging_votes_calibrates_a_judge_whose_chains_disagree():
    right, said = overconfident(60, factor=1.0, seed=4)
    assert error(scores_of(said, votes=6, noise=3.0), right) < 0.8 * error(scores_of(said, noise=3.0), right)

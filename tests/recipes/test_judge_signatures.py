"""What a judge's model does wrong stands under its name in `summary.json`, of `judge` and `evaluate`; calibration."""

import json
import math
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_cases import solution, write_set
from recorded_cases import RIGHT, call, row, write_rows
from writing_cases import genprm_reply, model_folder, served, thinkprm_reply

from stepcredit.core.protocols import Writing
from stepcredit.evaluation.calibration import fit_temperature
from stepcredit.store.run_folder import read_json

VERBS = {"judge": 4, "evaluate": 3}
"""Verb -> steps of the solution that it is given here."""

LOOP = "Wait, let me look at that again. " * 60
YES, NO = {" Yes": 0.6, " No": 0.2}, {" Yes": 0.1, " No": 0.8}
NAMES = ("no_verdict", "stopped_early", "loop", "over_long", "contradicts", "truncated", "leaks")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"))


def told(
    verb: str, judge: str, folder: Path, model: Path, reply: Any, following: Any, *more: str, count: int = 1
) -> Mapping[str, Any]:
    """The summary of a run on `count` solutions, each judged in one session of the command."""
    file = folder / "x.jsonl"
    if verb == "judge":
        rows = (row(RIGHT, name=f"s{k}") for k in range(count))
        write_rows(file, *({**one, "problem": f"{one['problem']} ({k})"} for k, one in enumerate(rows)))
    else:
        write_set(file, *(solution(f"s{k}", -1 if k else 0) for k in range(count)))
    quick = ("checker.mode=string",) if verb == "judge" else ("metrics.resamples=20",)
    settings = [word for one in (*quick, *more) for word in ("--set", one)]
    said = following if callable(following) else lambda _prompt: following
    with served(model, judge, reply=reply, following=said) as server:
        words = ("--judge", judge, "--server", server.url, "--model", "scripted", "--tokenizer", model, *settings)
        assert call(verb, file, *words, "--out", folder / "run") == 0
    return read_json(folder / "run", "summary.json")


def wrong(summary: Mapping[str, Any]) -> dict[str, int]:
    """Signatures of failure that were counted at all."""
    return {name: count for name, count in summary["signatures"].items() if count and name in NAMES}


def first_line(prompt: str, writing: Writing) -> str:
    return thinkprm_reply(prompt, writing).partition("\n")[0]


def leaking(prompt: str, writing: Writing) -> str:
    return thinkprm_reply(prompt, writing) + "\n<|im_end|>\n<|im_start|>user\n"


THINKPRM = {
    "all is well": (thinkprm_reply, YES, ()),
    "loops": (lambda *_: LOOP, YES, ("loop",)),
    "contradicts itself": (thinkprm_reply, NO, ("contradicts",)),
    "stops early": (first_line, YES, ("stopped_early",)),
    "leaks chat tokens": (leaking, YES, ("leaks",)),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", THINKPRM)
def test_thinkprm_end_to_end(name: str, verb: str, tmp_path: Path, model: Path) -> None:
    reply, following, wanted = THINKPRM[name]
    more = ("thinkprm.resample=false", "thinkprm.max_tokens=900")
    summary = told(verb, "thinkprm", tmp_path, model, reply, following, *more, "limits.stop_unknown=1")
    assert wrong(summary) == dict.fromkeys(wanted, 1)
    assert summary["signatures"]["chains"] == 1
    assert summary["signatures"]["ok"] == (0 if wanted and wanted != ("leaks",) else 1)


GENPRM = {
    "all is well": (genprm_reply, ()),
    "loops": (lambda *_: LOOP, ("loop", "over_long")),
    "contradicts itself": (
        lambda *_: "wrong.\n</analyze> <output>\n**Judgement**: $\\boxed{No}$\n</analyze>\n",
        ("contradicts",),
    ),
    "stops early": (lambda *_: "fine so far", ("stopped_early",)),
    "leaks chat tokens": (lambda *_: "fine.<｜User｜>and now?\n</analyze>\n", ("leaks",)),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", GENPRM)
def test_genprm_end_to_end_counts_every_step(name: str, verb: str, tmp_path: Path, model: Path) -> None:
    reply, wanted = GENPRM[name]
    yes = {"Yes": 0.8, "No": 0.1}
    summary = told(verb, "genprm", tmp_path, model, reply, yes, "genprm.step_tokens=900", "limits.stop_unknown=1")
    assert wrong(summary) == dict.fromkeys(wanted, VERBS[verb])


@pytest.mark.parametrize("verb", VERBS)
def test_scores_piled_up_at_the_ends_are_counted_and_said(
    verb: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sure = {" Yes": 0.999, " No": 1e-6}
    summary = told(verb, "thinkprm", tmp_path, model, thinkprm_reply, sure, count=20)
    figures = summary["signatures"]
    assert (figures["at_one"], figures["at_zero"], figures["saturation"]) == (figures["scores"], 0, 1.0)
    assert figures["scores"] >= 20
    assert "100% of the scores are within 0.01 of 0 or 1" in capsys.readouterr().err


def overconfident(folder: Path, count: int, seed: int) -> tuple[Path, list[float]]:
    """Solutions of one step with labels drawn by their probabilities, and what a judge says: log odds times four."""
    draws = random.Random(seed)
    true = [draws.uniform(0.05, 0.95) for _ in range(count)]
    rows = (solution(f"s{k}", -1 if draws.random() < p else 0, steps=1) for k, p in enumerate(true))
    said = [1 / (1 + (1 / p - 1) ** 4) for p in true]
    return write_set(folder / f"{seed}.jsonl", *rows), said


def evaluated(
    file: Path, said: list[float], out: Path, model: Path, *more: str
) -> tuple[float, np.ndarray, np.ndarray]:
    """ECE by the summary, and scores and labels of all steps by `predictions.jsonl`."""

    def following(prompt: str) -> dict[str, float]:
        found = re.findall(r"problem of s(\d+)", prompt)
        p = said[int(found[-1])] if found else 0.5  # the look at what the server can do names no problem
        return {" Yes": 0.9 * p, " No": 0.9 * (1 - p)}

    settings = [word for one in ("metrics.resamples=20", "thinkprm.mode=prefixes", *more) for word in ("--set", one)]
    with served(model, "thinkprm", following=following) as server:
        words = ("--judge", "thinkprm", "--server", server.url, "--model", "scripted", "--tokenizer", model, *settings)
        assert call("evaluate", file, *words, "--out", out) == 0
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text("utf-8").splitlines()]
    scores = np.array([one["scores"][0] for one in rows])
    return (
        read_json(out, "summary.json")["calibration"]["ece"]["value"],
        scores,
        np.array([one["label"] for one in rows]),
    )


def test_a_fitted_temperature_brings_the_calibration_error_of_an_over_confident_judge_down(
    tmp_path: Path, model: Path
) -> None:
    """Fitted on one file of 80 steps, applied to another: T = 3.53 where 4 is true; ECE falls from 0.22 to 0.08."""
    file, said = overconfident(tmp_path, 80, 5)
    ece, scores, labels = evaluated(file, said, tmp_path / "fit", model)
    assert scores == pytest.approx(said, abs=1e-6)
    fitted = fit_temperature(scores, labels == -1).value
    assert (fitted, ece) == (pytest.approx(3.53, abs=0.01), pytest.approx(0.196, abs=0.002))
    file, said = overconfident(tmp_path, 80, 6)
    before, _, _ = evaluated(file, said, tmp_path / "before", model)
    after, softer, _ = evaluated(file, said, tmp_path / "after", model, f"thinkprm.decision_temperature={fitted}")
    assert math.log(softer[0] / (1 - softer[0])) == pytest.approx(math.log(said[0] / (1 - said[0])) / fitted, rel=1e-3)
    assert (before, after) == (pytest.approx(0.217, abs=0.002), pytest.approx(0.079, abs=0.002))

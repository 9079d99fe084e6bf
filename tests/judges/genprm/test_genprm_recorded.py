import json

import pytest
from genprm_doubles import BOS, DATA, USER

from stepcredit.judges.genprm.execution import last_code
from stepcredit.judges.genprm.prompt import SYSTEM, VERIFY_OPEN, first_turn
from stepcredit.judges.genprm.reward import read_verdict


@pytest.fixture(scope="module")
def transcripts():
    path = DATA / "judge_genprm" / "transcripts.jsonl"
    if not path.is_file():
        pytest.skip("needs ../shared/data/judge_genprm")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.data
def test_every_recorded_verdict_is_parsed_and_agrees_with_the_upstream_one(transcripts):
    judged = [row for row in transcripts if "verdict" in row]
    assert (
        [read_verdict(row["response"]) for row in judged] == [row["verdict"] for row in judged] == ["No", "Yes", "No"]
    )


@pytest.mark.data
def test_transcripts_that_were_cut_before_their_verdict_have_none(transcripts):
    cut = [row for row in transcripts if row.get("cut_before_output")]
    assert len(cut) == 10
    assert [read_verdict(row["response"]) for row in cut] == [None] * 10


@pytest.mark.data
def test_the_code_of_every_recorded_demonstration_is_found(transcripts):
    cut = [row for row in transcripts if row.get("cut_before_output")]
    assert all("print(" in (last_code(row["response"]) or "") for row in cut)
    assert all(VERIFY_OPEN in row["response"] for row in cut)


@pytest.mark.data
def test_the_recorded_prompt_is_made_as_ours(transcripts):
    prompt = transcripts[0]["prompt"]
    head = f"{BOS}{SYSTEM}{USER}"
    assert prompt.startswith(head)
    problem, _, step = prompt.removeprefix(head).removeprefix("Question: ").partition("\n\n")
    assert prompt == head + first_turn(problem, step, "question")

"""Retro-credit: logs of TRL and verl are read, paid by every rule that they allow, and compared."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepcredit.adapters.logged import OutcomeCounts, read_log, retro_credit
from stepcredit.core.errors import UsageError
from stepcredit.core.records import Steps
from stepcredit.judges.oracle import OracleJudge
from stepcredit.steps import Newline


def write(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def trl_row(prompt: Any, completion: Any, reward: float | None, **more: Any) -> dict[str, Any]:
    return {"step": 3, "prompt": prompt, "completion": completion, "right": reward, "advantage": 0.0, **more}


def verl_row(asked: str, written: str, score: float, *, step: int = 7) -> dict[str, Any]:
    return {"input": asked, "output": written, "gts": "4", "score": score, "step": step, "acc": score > 0}


ROWS = [
    verl_row("2+2?", "try 5\nno, 4", 1.0),
    verl_row("3+3?", "6", 1.0),
    verl_row("2+2?", "it is 5", 0.0),
    verl_row("3+3?", "6", 1.0),
]


def truth(steps: Steps) -> list[bool]:
    return ["5" not in text for text in steps.texts]


def test_verl_groups_are_the_equal_inputs_of_a_step(tmp_path: Path) -> None:
    rows = read_log(write(tmp_path / "7.jsonl", ROWS), group_size=2)
    assert [row.group for row in rows] == ["7/0", "7/0", "7/1", "7/1"]
    assert [row.completion for row in rows[:2]] == ["try 5\nno, 4", "it is 5"]
    assert rows[0].answer == "4"
    assert rows[0].advantage is None
    with pytest.raises(UsageError, match=r"7\.jsonl:1: step 7 has 2 equal inputs, wanted 3"):
        read_log(tmp_path / "7.jsonl", group_size=3)


def test_groups_of_the_trainer_of_verl_09_are_the_prompts_of_its_uids(tmp_path: Path) -> None:
    """Two prompts of equal text, as its `_log_rollout_data` writes them: sorted by PROMPT_ROLLOUT_OUTPUT."""
    uids = ["11d1-a_0_0", "11d1-a_1_0", "72f0-b_0_0", "72f0-b_1_0"]
    rows = [{**verl_row("2+2?", str(k), float(k % 2)), "uid": uid} for k, uid in enumerate(uids)]
    read = read_log(write(tmp_path / "7.jsonl", rows), group_size=2)
    assert [(row.group, row.completion) for row in read] == [("7/0", "0"), ("7/0", "1"), ("7/1", "2"), ("7/1", "3")]
    several = [*rows, {**rows[3], "uid": "72f0-b_1_1"}]
    with pytest.raises(UsageError, match=r"7\.jsonl:5: rollout 1 of a prompt has several outputs.*keep the last"):
        read_log(write(tmp_path / "7.jsonl", several))


def test_a_uid_of_another_form_is_a_prompts_own(tmp_path: Path) -> None:
    rows = [{**verl_row("2+2?", str(k), float(k % 2)), "uid": uid} for k, uid in enumerate(["a1", "b2", "a1", "b2"])]
    read = read_log(write(tmp_path / "7.jsonl", rows))
    assert [(row.group, row.completion) for row in read] == [("7/0", "0"), ("7/0", "2"), ("7/1", "1"), ("7/1", "3")]
    mixed = [{key: value for key, value in row.items() if key != "uid" or k != 3} for k, row in enumerate(rows)]
    with pytest.raises(UsageError, match=r"7\.jsonl:4: some rows of step 7 have a uid and others none"):
        read_log(write(tmp_path / "7.jsonl", mixed))


def test_what_verl_leaves_in_numbers_is_read(tmp_path: Path) -> None:
    """Python's writer leaves a bare NaN; the older trainer writes numpy's truth values as text."""
    lines = [
        '{"input": "q", "output": "a", "gts": null, "score": NaN, "step": 1, "acc": "True", "seconds": NaN}',
        '{"input": "q", "output": "b", "gts": null, "score": 0.0, "step": 1, "acc": "False", "seconds": 2.0}',
    ]
    (tmp_path / "1.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [row.reward for row in read_log(tmp_path)] == [None, 0.0]
    assert [row.reward for row in read_log(tmp_path, outcome="acc")] == [1.0, 0.0]
    assert read_log(tmp_path)[0].answer is None


def test_a_batch_that_trl_wrote_at_several_steps_is_read_once(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        texts = "ab" if step < 3 else "ac"
        rows = [{**trl_row("q", text, float(k)), "step": step} for k, text in enumerate(texts)]
        write(tmp_path / f"completions_{step:05d}.jsonl", rows)
    assert [(row.step, row.completion) for row in read_log(tmp_path)] == [(1, "a"), (1, "b"), (3, "a"), (3, "c")]


def test_the_outcome_is_found_where_the_first_completion_has_none(tmp_path: Path) -> None:
    rows = read_log(write(tmp_path / "c.jsonl", [trl_row("q", "a", None), trl_row("q", "b", 1.0)]))
    assert [row.reward for row in rows] == [None, 1.0]


def test_of_messages_what_the_policy_wrote_is_the_completion(tmp_path: Path) -> None:
    said = [
        {"role": "assistant", "content": [{"type": "text", "text": "look "}, {"type": "image"}]},
        {"role": "tool", "content": "found"},
        {"role": "assistant", "content": "4"},
    ]
    file = write(tmp_path / "c.jsonl", [trl_row("q", said, 1.0), trl_row("q", said, 0.0)])
    assert read_log(file)[0].completion == "look 4"
    with pytest.raises(UsageError, match="completion has no message of role assistant"):
        read_log(write(tmp_path / "d.jsonl", [trl_row("q", said[1:2], 1.0)]))


@pytest.mark.parametrize("key", ["reasoning_content", "thinking"])
def test_what_a_template_parsed_as_thought_stands_before_the_content(tmp_path: Path, key: str) -> None:
    said = [{"role": "assistant", key: "One.\n\nTwo.", "content": "4"}]
    file = write(tmp_path / "c.jsonl", [trl_row("q", said, 1.0), trl_row("q", said, 0.0)])
    assert read_log(file)[0].completion == "<think>One.\n\nTwo.</think>4"


def test_conversations_that_end_alike_are_not_one_prompt(tmp_path: Path) -> None:
    """They differ in the system message, or in an earlier turn."""
    asked = {"role": "user", "content": "And now?"}
    for first in ({"role": "system", "content": "Be {}."}, {"role": "user", "content": "{} apples"}):
        rows = [
            trl_row([{**first, "content": first["content"].format(which)}, asked], "4", float(right))
            for which, right in (("brief", 1), ("brief", 1), ("long", 0), ("long", 0))
        ]
        read = read_log(write(tmp_path / "c.jsonl", rows))
        assert [row.group for row in read] == ["3/0", "3/0", "3/1", "3/1"]
        assert {row.prompt for row in read} == {"And now?"}


def test_a_number_that_is_the_reference_is_no_outcome(tmp_path: Path) -> None:
    rows = [trl_row("q", text, None, answer=10) for text in "ab"]
    with pytest.raises(UsageError, match="every value of right is null"):
        read_log(write(tmp_path / "c.jsonl", rows))
    rows = [trl_row("q", text, 1.0, answer=10) for text in "ab"]
    assert [(row.reward, row.answer) for row in read_log(write(tmp_path / "d.jsonl", rows))] == [(1.0, "10")] * 2


def test_a_folder_is_read_in_the_order_of_steps(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        write(tmp_path / f"{step}.jsonl", [verl_row("q", "a", 0.0, step=step), verl_row("q", "b", 1.0, step=step)])
    assert [row.step for row in read_log(tmp_path)] == [2, 2, 9, 9, 10, 10]


def test_trl_groups_are_neighbours_even_where_prompts_repeat(tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    said = [{"role": "assistant", "content": "4"}]
    file = write(tmp_path / "c.jsonl", [trl_row(asked, said, float(k % 2)) for k in range(4)])
    rows = read_log(file, group_size=2)
    assert [row.group for row in rows] == ["3/0", "3/0", "3/1", "3/1"]
    assert (rows[0].prompt, rows[0].completion, rows[0].reward) == ("2+2?", "4", 0.0)


def test_every_rule_that_the_log_allows_is_paid(tmp_path: Path) -> None:
    rows = read_log(write(tmp_path / "7.jsonl", ROWS))
    bare = retro_credit(rows, Newline())
    assert "grpo" in bare.rules
    assert "needs judgements" in bare.left_out["tp_grpo"]
    assert "needs judgements" in bare.left_out["grpo_ps"]
    judged = retro_credit(rows, Newline(), judge=OracleJudge(truth, "fives"))
    assert {"grpo", "tp_grpo", "grpo_ps"} <= set(judged.rules)
    assert (judged.rollouts, judged.groups, judged.tokens) == (4, 2, 20)
    # The right solution's wrong first line (6 bytes) is paid less than the line that mends it.
    first = judged.advantages["tp_grpo"][:11]
    assert first.tolist() == [0.5] * 6 + [1.0] * 5
    assert judged.advantages["grpo"][:11].tolist() == [1.0] * 11
    assert judged.rules["grpo"].variance == pytest.approx(np.var([1.0] * 11 + [-1.0] * 7 + [0.0] * 2))
    r = judged.rules["grpo"].correlation["tp_grpo"]
    assert r == pytest.approx(np.corrcoef(judged.advantages["grpo"], judged.advantages["tp_grpo"])[0, 1])
    table = judged.as_markdown()
    assert "| tp_grpo | 1.000 |" in table
    assert "r with grpo" in table


def test_what_the_run_paid_stands_beside_the_rules(tmp_path: Path) -> None:
    rows = [trl_row("q", text, reward, advantage=reward - 0.5) for text, reward in (("a", 1.0), ("b", 0.0))]
    found = retro_credit(read_log(write(tmp_path / "c.jsonl", rows)), Newline())
    assert found.rules["logged"].correlation["grpo"] == pytest.approx(1.0)
    assert found.rules["logged"].process_size is None


def test_a_completion_without_a_reward_is_unscorable(tmp_path: Path) -> None:
    rows = [trl_row("q", str(k), None if k == 2 else float(k), advantage=None) for k in range(3)]
    found = retro_credit(read_log(write(tmp_path / "c.jsonl", rows), outcome="right"), Newline())
    assert found.rules["grpo"].paid == pytest.approx(2 / 3)
    assert np.isnan(found.advantages["grpo"][2])
    assert "logged" not in found.rules


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "a"}, r"got columns text, wanted TRL's \(step, prompt, completion, \.\.\.\) or verl's"),
        (
            trl_row("q", "a", 1.0, brief=2.0),
            r"which column is the outcome\? name it with --outcome \(in Python: outcome=\.\.\.\) among right, brief",
        ),
        (
            trl_row("q", "a", None),
            r"which column is the outcome\? every value of right is null; name it with --outcome",
        ),
        (trl_row("q", 7, 1.0), "completion must be a text or a list of messages, got int"),
        ({**verl_row("q", "a", 1.0), "score": "high"}, "score must be a number or null, got 'high'"),
        ({**verl_row("q", "a", 1.0), "step": "x"}, "step must be a whole number, got 'x'"),
        ({**verl_row("q", "a", 1.0), "step": True}, "step must be a whole number, got True"),
        (
            trl_row([{"role": "user", "content": 5}], "a", 1.0),
            "content of a message of prompt must be a text, or a list of parts with texts, got int '5'",
        ),
        (
            trl_row("q", [{"role": "assistant", "content": {"a": 1}}], 1.0),
            "content of a message of completion must be .*, got dict",
        ),
        (trl_row("q", [{"role": "assistant", "content": ["a"]}], 1.0), "content of a message .*, got str 'a'"),
        (trl_row("q", [{"role": "assistant", "content": [None]}], 1.0), "content of a message .*, got NoneType"),
        (
            {**verl_row("q", "a", 1.0), "input": [{"role": "assistant", "content": "a"}]},
            "input has no message of role user",
        ),
        ({**verl_row("q", "a", 1.0), "score": 10**400}, r"`score` must hold finite numbers \(null: unknown\), got one"),
        (trl_row("q", "a", 1.0, advantage=float("inf")), "`advantage` must hold finite numbers"),
        (trl_row("q", "a", 1.0, old_logprobs=[-(10**400)]), "`old_logprobs` must hold finite numbers"),
        (trl_row("q", "a", 1.0, ref_logprobs=[-1.0, float("-inf")]), "`ref_logprobs` must hold finite numbers"),
        (trl_row("q", "a", 1.0, outcome_score=float("inf")), "`outcome_score` must hold finite numbers"),
        (trl_row("q", "a", 1.0, token_scores=[10**400]), "`token_scores` must hold finite numbers"),
        (
            trl_row("q", "a", 1.0, old_log_prob=[-1.0, 0.01]),
            "`old_log_prob` must be log probabilities in nats, at most 0, got 0.01",
        ),
        (trl_row("q", "a", 1.0, ref_log_prob=[0.01]), "`ref_log_prob` must be log probabilities"),
    ],
)
def test_a_log_that_cannot_be_read_is_told(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=rf"log\.jsonl:1: {told}"):
        read_log(write(tmp_path / "log.jsonl", [row]))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"step": ' + "1" * 5000 + "}"])
def test_a_line_that_python_cannot_parse_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"log\.jsonl:1: not JSON \("):
        read_log(tmp_path / "log.jsonl")


def test_a_log_probability_may_lie_above_0_by_what_rounding_adds(tmp_path: Path) -> None:
    rows = [trl_row("q", text, 1.0, old_logprobs=[0.0009, None], ref_logprobs=[-1.0, 0.0]) for text in "ab"]
    brought = read_log(write(tmp_path / "c.jsonl", rows))[0].brought
    assert brought.old_logprobs is not None
    np.testing.assert_array_equal(brought.old_logprobs, [0.0009, np.nan])


def test_of_verls_messages_what_was_asked_is_the_prompt(tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    rows = [{**verl_row("", text, 1.0), "input": asked} for text in "45"]
    assert [row.prompt for row in read_log(write(tmp_path / "7.jsonl", rows))] == ["2+2?", "2+2?"]


def test_a_call_of_a_tool_has_no_content_and_is_read(tmp_path: Path) -> None:
    said = [{"role": "assistant", "content": None}, {"role": "assistant", "content": "4"}]
    assert read_log(write(tmp_path / "c.jsonl", [trl_row("q", said, 1.0)]))[0].completion == "4"


def test_where_rewards_are_cut_is_said(tmp_path: Path) -> None:
    """0.5 itself is wrong; a reward of null is unscorable, and no value to be warned of."""
    numbers = (1.0, 0.5, None, 1.0)
    rows = read_log(write(tmp_path / "c.jsonl", [trl_row("q", str(k), number) for k, number in enumerate(numbers)]))
    found = retro_credit(rows, Newline())
    assert found.outcomes == OutcomeCounts(2, 1, 1, 0.5)
    assert found.warning == ""
    assert "Outcomes: 2 right, 1 wrong, 1 unscorable; right is a reward above 0.5." in found.as_markdown()
    assert "Warning" not in found.as_markdown()
    assert retro_credit(rows, Newline(), right_above=0.4).outcomes == OutcomeCounts(3, 0, 1, 0.4)


@pytest.mark.parametrize(
    ("rewards", "above", "told"),
    [
        ((-1.0, 0.2, 0.8), 0.5, "rewards are cut at 0.5: rewards take 3 values from -1 to 0.8; --right-above"),
        ((1.0, 1.0), 0.5, "cut at 0.5: all 2 known rewards lie above it, so that none is wrong; --right-above"),
        ((0.5, 0.0), 0.5, "cut at 0.5: no one of 2 known rewards lies above it, so that none is right; --right-above"),
        ((0.1, 0.2, 0.3), 0.0, "take 3 values from 0.1 to 0.3; all 3 known rewards lie above it"),
    ],
)
def test_a_threshold_that_may_be_the_wrong_one_is_warned_of(
    tmp_path: Path, rewards: Sequence[float], above: float, told: str
) -> None:
    logged = [trl_row("q", str(k), number) for k, number in enumerate(rewards)]
    found = retro_credit(read_log(write(tmp_path / "c.jsonl", logged)), Newline(), right_above=above)
    assert told in found.warning
    assert f"Warning: {found.warning}." in found.as_markdown().splitlines()


def test_what_retro_credit_cannot_use_is_told(tmp_path: Path) -> None:
    rows = read_log(write(tmp_path / "7.jsonl", ROWS))
    with pytest.raises(UsageError, match="there are no rollouts to pay; read_log gives those of a log"):
        retro_credit([], Newline())
    with pytest.raises(UsageError, match=r"credit rule 'grpoo' is unknown; did you mean"):
        retro_credit(rows, Newline(), settings={"grpoo": object()})
    for number in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"right_above.* must be a finite number, got"):
            retro_credit(rows, Newline(), right_above=number)
    with pytest.raises(UsageError, match="judging must be at least 1 rollout that waits for the judge, got 0"):
        retro_credit(rows, Newline(), judge=OracleJudge(truth, "fives"), judging=0)
    with pytest.raises(UsageError, match=r"group_size must be at least 2 completions, .*, got 1"):
        read_log(tmp_path / "7.jsonl", group_size=1)


def test_groups_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    rows = [trl_row(prompt, "a", 1.0) for prompt in "qqqrr"]
    with pytest.raises(
        UsageError, match=r"runs of equal prompts have 2, 3 rows, wanted groups of 3; name --group-size \(in Python"
    ):
        read_log(write(tmp_path / "log.jsonl", rows))


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read_log(tmp_path / "none")
    with pytest.raises(UsageError, match=r"the folder has no \.parquet or \.jsonl file"):
        read_log(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_the_log_that_trl_writes_is_read(tmp_path: Path) -> None:
    cases = pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")
    trainer = cases.theirs(tmp_path, log_completions=True)
    trainer.train()
    rows = read_log(tmp_path / "trl" / "completions", group_size=4)
    assert len(rows) == 16
    found = retro_credit(rows, cases.tp_grpo().splitter, judge=cases.tp_grpo().judge, tokenizer=cases.WORDS)
    assert found.groups == 4
    assert found.rules["logged"].correlation["grpo"] == pytest.approx(
        np.corrcoef(found.advantages["logged"], found.advantages["grpo"])[0, 1]
    )
    assert found.rules["logged"].correlation["grpo"] > 0.95  # the run centres, our default also divides by the std
    assert found.rules["tp_grpo"].correlation["grpo"] < 0.999


@pytest.mark.filterwarnings("ignore")
def test_a_batch_that_trl_trains_on_twice_is_read_once(tmp_path: Path) -> None:
    cases = pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")
    cases.theirs(tmp_path, log_completions=True, num_iterations=2, max_steps=4).train()
    folder = tmp_path / "trl" / "completions"
    assert len(list(folder.iterdir())) == 4
    assert [row.step for row in read_log(folder, group_size=4)] == [1] * 8 + [3] * 8

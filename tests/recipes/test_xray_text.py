"""The credit X-ray on recorded text: files, judges' runs and logs, with the signals that their lines bring."""

import json
from pathlib import Path

import numpy as np
import pytest
from recorded_cases import RIGHT, WRONG, byte_level, call, row, write_rows
from xray_cases import ANSWER, BAD, GOOD, lines, log_rows, xray

from stepcredit.core.errors import UsageError
from stepcredit.recipes.report_run import saved_views
from stepcredit.recipes.xray.recorded import TextSettings
from stepcredit.recipes.xray.run import XraySettings
from stepcredit.testing import ScriptedServer


def test_recorded_solutions_by_hand(tmp_path: Path) -> None:
    """Rewards +1 and -1 standardise to +1 and -1, and the step that is taken back loses 1/2."""
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, name="right"), row(WRONG, name="wrong"))
    found = xray(file, "grpo,tp_grpo")
    grpo, tp_grpo = found.rules
    sizes = len(RIGHT.encode()), len(WRONG.encode())
    assert (grpo.paid, grpo.tokens) == (1.0, sum(sizes))
    assert grpo.mean == pytest.approx((sizes[0] - sizes[1]) / sum(sizes))
    # Markers call 4 steps of the right one I C C C, of the wrong one M U M M; M counts as wrong, U as right.
    assert grpo.signs is not None
    assert (grpo.signs.steps, grpo.signs.right, grpo.signs.wrong) == (8, 3 / 4, 3 / 4)
    assert found.payload["truth"] == "the verdicts of judge markers"
    assert tp_grpo.correlation["grpo"] is not None
    assert 0.5 < tp_grpo.correlation["grpo"] < 1.0
    assert found.page is None


def test_a_rule_without_its_signal_is_left_out_by_name(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, name="right"), row(WRONG, name="wrong"))
    found = xray(file, "grpo", "prl,vineppo,think_rm")
    assert [rule.name for rule in found.rules] == ["grpo"]
    assert found.left_out["prl"].startswith("no log_ratio (columns old_logprobs and ref_logprobs")
    assert found.left_out["vineppo"].startswith("no values (--values FILE")
    assert "no preferences" in found.left_out["think_rm"]
    with pytest.raises(UsageError, match=r"no rule can pay these rollouts: vineppo: no values \(--values"):
        xray(file, "vineppo")
    with pytest.raises(UsageError, match=r"tp_grpo: no flags \(verdicts with labels"):
        xray(file, "tp_grpo", text=TextSettings(judge="none"))


def test_labels_of_the_file_go_before_verdicts(tmp_path: Path) -> None:
    found = xray(lines(tmp_path, {"labels": [True, True]}, {"label": 0}), "grpo")
    assert found.payload["truth"] == "the labels of the file"
    signs = found.rules[0].signs
    assert signs is not None
    assert (signs.steps, signs.right, signs.wrong) == (3, 1.0, 1.0)  # what follows a first error is unknown
    again = xray(lines(tmp_path, {"labels": [True, None]}, {"label": -1}), "grpo", truth="verdicts")
    assert again.payload["truth"] == "the verdicts of judge markers"
    with pytest.raises(UsageError, match="--truth labels: there are none for these rollouts"):
        xray(lines(tmp_path), "grpo", truth="labels")


def test_values_of_the_file_are_the_ground_truth(tmp_path: Path) -> None:
    """Chances 1/2, 3/4 and 1/2, 0, 0: values 0, .5 and 0, -1, -1: gains .5, .5 and -1, 0, 0."""
    file = lines(tmp_path, {"success": [0.5, 0.75]}, {"success": [0.5, 0.0, 0.0]})
    found = xray(file, "grpo,vineppo", overrides=("vineppo.whiten=false",))
    vineppo = found.rules[1]
    assert vineppo.following is not None
    assert vineppo.following.spearman.value == pytest.approx(1.0)
    assert vineppo.following.inside.value == pytest.approx(1.0)
    grpo = found.rules[0].following
    assert grpo is not None
    assert (grpo.inside.value, grpo.steps) == (None, 5)
    credit, gains = np.array([1.0, 1.0, -1.0, -1.0, -1.0]), np.array([0.5, 0.5, -1.0, 0.0, 0.0])
    assert grpo.pearson == pytest.approx(np.corrcoef(credit, gains)[0, 1])
    assert found.payload["values"] == "columns of the file, 2 solutions"


def test_values_of_another_file_are_read_by_id(tmp_path: Path) -> None:
    file, values = lines(tmp_path), tmp_path / "values.jsonl"
    values.write_text('{"id": "good", "values": [0, 0.5, 1]}\n{"id": "other", "values": [1]}\n', encoding="utf-8")
    found = xray(file, "grpo,vineppo", values=values)
    assert [rule.paid for rule in found.rules] == [1.0, 0.5]
    assert found.payload["values"] == "values.jsonl, 1 of 2 rollouts"
    for text, told in (
        ('{"id": "good", "values": [0]}', r"values\.jsonl:1: 1 values for the 2 steps of good, wanted one before"),
        ('{"id": "good", "values": [0, 7]}', r"`values` must lie in \[-1, 1\], got 7; shares of right continuations"),
        ('{"id": "good", "success": [0, -0.5]}', r"`success` must lie in \[0, 1\], got -0.5"),
        ('{"id": "good", "values": "high"}', r"`values` must be a list of numbers"),
        ('{"id": "good"}', "no key `values`"),
        ('{"values": [0, 1]}', "no key `id`; the keys are values"),
        ('{"id": "else", "values": [0, 1]}', "none of its 1 ids is that of a rollout here, such as good"),
        ('{"id": "good", "values": [0, 0]}\n{"id": "good", "values": [0, 0]}', "id good comes twice"),
    ):
        values.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=told):
            xray(file, "vineppo", values=values)
    with pytest.raises(UsageError, match="recorded text has no policy that could go on with it; give --values FILE"):
        xray(file, "grpo", continuations=2)
    with pytest.raises(UsageError, match="leave one out"):
        XraySettings(values=values, continuations=2)


def test_log_ratios_come_from_columns(tmp_path: Path) -> None:
    """PRL at eta 2 pays the last byte z - kappa / 2; the end token's entry is not read."""
    sizes = [sum(len(step.encode()) for step in steps) for steps in (GOOD, BAD)]
    columns = [
        {"old_log_probs": [-1.0] * (size + more), "ref_log_prob": [-1.5] * (size + more)}
        for size, more in zip(sizes, (1, 0), strict=True)
    ]
    found = xray(
        lines(tmp_path, *columns), "prl", overrides=("prl.eta=2", "prl.std=population", "steps.splitter=token")
    )
    assert found.payload["signals"]["log_ratio"] == "columns of the file, 2 solutions"
    shown = {view.id: view for view in found.data.solutions}
    last = {name: view.steps[-1].pieces[-1].advantages[0] for name, view in shown.items()}
    # The last step of `good` holds all its bytes to go: 1 - .5 * bytes / 2.
    assert last["good"] == pytest.approx(1.0 - len(ANSWER) * 0.5 / 2, abs=1e-4)
    assert found.rules[0].paid == 1.0


def test_log_ratios_that_fit_no_token_are_missing_and_no_zero(tmp_path: Path) -> None:
    columns = {"old_logprobs": [-1.0] * 4, "ref_logprobs": [-1.0] * 4}
    found = xray(lines(tmp_path, columns, columns), "grpo,prl")
    assert "two.jsonl:1 has 4 entries for" in found.left_out["prl"]
    assert "give --tokenizer, that of the policy" in found.left_out["prl"]
    with pytest.raises(UsageError, match=r"two\.jsonl:2: `ref_logprobs` must be a list of numbers"):
        xray(lines(tmp_path, None, {"ref_logprobs": "none"}), "grpo")
    with pytest.raises(UsageError, match="`old_logprobs` and `old_log_prob` say the same"):
        xray(lines(tmp_path, {"old_logprobs": [], "old_log_prob": []}), "grpo")


def test_variants_of_a_rule_stand_beside_it(tmp_path: Path) -> None:
    file = lines(tmp_path)
    found = xray(file, "grpo,grpo@plain", overrides=("grpo@plain.std=none",))
    assert list(found.payload["rules"]) == ["grpo", "grpo@plain"]
    assert found.payload["rules"]["grpo@plain"]["settings"]["std"] == "none"
    for compare, override, told in (
        ("grpoo", (), "credit rule 'grpoo' is unknown; did you mean"),
        ("grpo", ("grpo.stdd=none",), "rule grpo has no setting stdd; did you mean std"),
        ("grpo", ("prl.eta=1",), "prl is not compared; the rules are grpo"),
        ("grpo", ("grpo.std",), r"--set takes RULE\.setting=value"),
        ("grpo,grpo", (), "--compare names grpo twice"),
    ):
        with pytest.raises(UsageError, match=told):
            xray(file, compare, overrides=override)


def test_the_run_of_a_judge_is_read_with_its_verdicts(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, name="right"), row(WRONG, name="wrong"))
    run = tmp_path / "judged"
    assert call("judge", file, "--out", run, "--set", "checker.mode=string", "--set", "steps.splitter=newline") == 0
    found = xray(run, "grpo,tp_grpo", quick=False)
    assert found.data.facts[0][1].startswith("Newline(")
    assert (found.payload["judge"], found.payload["kind"]) == ("markers", "2 solutions judged by markers")
    direct = xray(file, "grpo,tp_grpo", overrides=("steps.splitter=newline",))
    assert [rule.variance for rule in found.rules] == [rule.variance for rule in direct.rules]
    moved = file.rename(tmp_path / "moved.jsonl")
    with pytest.raises(UsageError, match=r"two\.jsonl of this run is not where it was; name it with --input"):
        xray(run, "grpo", quick=False)
    assert xray(run, "grpo", quick=False, text=TextSettings(input=moved)).rules[0].paid == 1.0
    for changes, told in (
        ({"arm": "grpo"}, "--arm is of a run of demo or train, and this is a run of judge or run; leave it out"),
        ({"text": TextSettings(judge="none")}, "--judge is of a JSONL file of solutions or a log of TRL or verl, and"),
        ({"text": TextSettings(group_size=2)}, "--group-size is of a log of TRL or verl"),
        ({"text": TextSettings(outcome="score")}, "--outcome is of a log"),
        ({"text": TextSettings(right_above=0.0)}, "--right-above is of a log"),
        ({"overrides": ("checker.mode=string",)}, r"--set checker\.KEY is of a JSONL file"),
        ({"overrides": ("judge.merged=false",)}, r"--set judge\.KEY is of a JSONL file"),
    ):
        with pytest.raises(UsageError, match=told):
            xray(run, "grpo", quick=False, **changes)
    write_rows(moved, row(RIGHT, name="right"))
    with pytest.raises(UsageError, match="is not the file that was judged: it has changed since"):
        xray(run, "grpo", quick=False, text=TextSettings(input=moved))


@pytest.mark.parametrize("kind", ["trl", "verl"])
def test_a_log_whose_first_row_has_no_number_is_a_log(tmp_path: Path, kind: str) -> None:
    """Python's writer leaves a bare NaN, which is no JSON."""
    rows = log_rows(float("nan"), 1.0, 0.0)
    if kind == "verl":
        rows = [{"input": r["prompt"], "output": r["completion"], "score": r["right"], "step": 1} for r in rows]
    file = write_rows(tmp_path / "log.jsonl", *rows)
    assert "NaN" in file.read_text().splitlines()[0]
    assert xray(file, "grpo", quick=False).payload["outcomes"] == {
        "right": 1, "wrong": 1, "unscorable": 1, "right_above": 0.5
    }  # fmt: skip


def test_where_the_rewards_of_a_log_are_cut_is_said_and_can_be_moved(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "log.jsonl", *log_rows(-1.0, 0.0, 0.25))
    found = xray(file, "grpo", quick=False)
    assert found.warning.startswith("rewards are cut at 0.5: rewards take 3 values from -1 to 0.25; no one of 3")
    assert found.payload["warning"] == found.warning == dict(found.data.facts)["warning"]
    assert dict(found.data.facts)["outcomes"] == "0 right, 3 wrong, 0 unscorable; right is a reward above 0.5"
    assert dict(found.data.counts)["wrong"] == 3
    moved = xray(file, "grpo", quick=False, text=TextSettings(right_above=0.0))
    assert moved.payload["outcomes"] == {"right": 1, "wrong": 2, "unscorable": 0, "right_above": 0.0}
    assert moved.data.subtitle == "3 logged rollouts; right is a reward above 0"
    plain = xray(lines(tmp_path), "grpo")
    assert plain.payload["outcomes"] == {"right": 1, "wrong": 1, "unscorable": 0, "right_above": None}
    assert (plain.warning, plain.payload["warning"]) == ("", None)
    assert "warning" not in dict(plain.data.facts)


def test_labels_without_the_steps_that_they_are_of_are_refused(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "one.jsonl", row(RIGHT, name="a"), row(WRONG, name="b", labels=[True]))
    with pytest.raises(UsageError, match=r"one\.jsonl:2: `labels` need `steps`"):
        xray(file, "grpo")


def test_the_process_weight_is_a_setting_of_the_rule(tmp_path: Path) -> None:
    """No schedule turns it here; at 0 a rule is its outcome part."""
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, name="right"), row(WRONG, name="wrong"))
    weights = ("tp_grpo.process_weight=0", "tp_grpo@half.process_weight=0.5")
    found = xray(file, "grpo,tp_grpo,tp_grpo@half", overrides=weights)
    grpo, none, half = found.rules
    assert none.variance == pytest.approx(grpo.variance)
    assert half.variance != pytest.approx(grpo.variance)
    assert found.payload["rules"]["tp_grpo@half"]["settings"]["process_weight"] == 0.5
    for override, told in (
        ("rloo.stdd=none", "rule rloo has no setting stdd; it has none$"),
        ("prl.eta=banana", "eta of rule prl wants a number, got 'banana'"),
        ("prime.whiten=maybe", "whiten of rule prime wants true or false, got 'maybe'"),
        ("pure.max_tokens=1.5", r"max_tokens of rule pure wants a whole number, got 1\.5"),
    ):
        with pytest.raises(UsageError, match=told):
            xray(file, override.partition(".")[0], overrides=(override,))


def test_recorded_text_says_why_it_has_no_witnesses(tmp_path: Path) -> None:
    log = write_rows(tmp_path / "log.jsonl", *log_rows(1.0, 0.0))
    for found in (xray(lines(tmp_path), "grpo,witness"), xray(log, "grpo,witness", quick=False)):
        assert found.left_out["witness"].startswith(
            "no testimony (claims are read by the grammar of the embedded worlds"
        )


def test_a_log_is_paid_and_what_the_run_paid_stands_beside(tmp_path: Path) -> None:
    size = len("it is 4")
    rows = [
        {"step": 1, "prompt": "2 + 2?", "completion": text, "right": right, "advantage": right - 0.5}
        | {"old_per_token_logps": [-1.0] * size, "ref_per_token_logps": [-2.0] * size}
        for text, right in (("it is 4", 1.0), ("it is 5", 0.0))
    ]
    folder = tmp_path / "trl"
    (folder / "completions").mkdir(parents=True)
    write_rows(folder / "completions" / "completions_1.jsonl", *rows)
    found = xray(folder, "grpo,prl,vineppo", quick=False, overrides=("prl.eta=100",))
    by_name = {rule.name: rule for rule in found.rules}
    assert set(by_name) == {"grpo", "prl", "logged"}
    assert by_name["logged"].mean == 0.0
    assert by_name["logged"].correlation["grpo"] == pytest.approx(1.0)
    assert found.payload["rules"]["logged"]["rule"] == "logged"
    assert "vineppo" in found.left_out
    with pytest.raises(UsageError, match="there is no column 'score'"):
        xray(folder, "grpo", quick=False, text=TextSettings(outcome="score"))


def test_the_tokenizer_of_the_policy_says_what_a_token_is(tmp_path: Path) -> None:
    tokenizer = byte_level(tmp_path / "tokenizer")
    found = xray(lines(tmp_path), "grpo", text=TextSettings(tokenizer=tokenizer))
    assert dict(found.data.facts)["tokenizer"] == "tokenizer"


def test_a_completion_without_tokens_counts_in_its_group(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, name="right"), row("", name="empty"), row(WRONG, name="wrong"))
    found = xray(file, "grpo,dr_grpo")
    assert (found.payload["rollouts"], found.rules[0].paid) == (3, pytest.approx(2 / 3))
    # One of three is right: 1 - (-1/3) = 4/3 without the standard deviation.
    right = next(view for view in found.data.solutions if view.id == "right")
    assert right.steps[0].pieces[0].advantages[1] == pytest.approx(4 / 3)


def test_the_page_and_the_figures_are_written_and_read_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = xray(lines(tmp_path, {"success": [0.5, 0.75]}, {"success": [0.5, 0.0, 0.0]}), "grpo,vineppo", out=out)
    assert found.page == out / "report.html"
    assert json.loads((out / "xray.json").read_text()) == json.loads(json.dumps(found.payload))
    again = saved_views(out)
    assert again.xray is not None
    assert [line.name for line in again.xray.rows] == ["Monte-Carlo gain", "grpo", "vineppo"]
    assert again == found.data
    xray(lines(tmp_path), "grpo", out=out)  # an earlier X-ray may be written over
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="the folder holds something else; give --out a folder of its own"):
        xray(lines(tmp_path), "grpo", out=tmp_path / "mine")


def test_scores_of_whole_solutions_are_no_verdicts_on_steps(tmp_path: Path) -> None:
    """Two replies of a chat server, 9 and 4: standardised they are +1 and -1, and step rules have nothing to read."""
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, name="right"), row(WRONG, name="wrong"))
    run = tmp_path / "judged"
    with ScriptedServer(reply=lambda said: f"<answer>{9 if '19' in str(said[-1]) else 4}</answer>") as server:
        words = ("--judge", "think-rm", "--server", server.url, "--set", "checker.mode=string")
        assert call("judge", file, "--out", run, *words) == 0
    found = xray(run, "spct,pure,tp_grpo", quick=False)
    with pytest.raises(UsageError, match="judges of whole solutions compare those of a problem: leave --group-by out"):
        xray(run, "spct", quick=False, text=TextSettings(group_by="problem"))
    assert found.payload["signals"]["outcome_scores"] == "scores of judge think-rm"
    assert [rule.name for rule in found.rules] == ["spct"]
    assert found.rules[0].variance == pytest.approx(1.0, rel=0.2)
    assert set(found.left_out) == {"pure", "tp_grpo"}
    assert found.payload["judge"] is None


def test_scores_of_solutions_and_tokens_come_from_columns(tmp_path: Path) -> None:
    sizes = [sum(len(step.encode()) for step in steps) for steps in (GOOD, BAD)]
    columns = [
        {"outcome_score": score, "token_scores": [score / 10.0] * size}
        for score, size in zip((3.0, 1.0), sizes, strict=True)
    ]
    found = xray(lines(tmp_path, *columns), "spct,q_rm")
    assert [(rule.name, rule.paid) for rule in found.rules] == [("spct", 1.0), ("q_rm", 1.0)]
    first = {view.id: view.steps[0].pieces[0].advantages for view in found.data.solutions}
    assert first["good"][0] == pytest.approx(1.0, rel=0.01)
    assert first["bad"][0] == pytest.approx(-1.0, rel=0.01)
    with pytest.raises(UsageError, match="`outcome_score` must be a number or null, got 'high'"):
        xray(lines(tmp_path, {"outcome_score": "high"}), "spct")

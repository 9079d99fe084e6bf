"""From a recipe's arm to advantages: every key changes what it says, and a run's account is kept over sessions."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stepcredit.core.errors import PartialError, UsageError
from stepcredit.core.records import Credit, Group, Judgement, Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.tasks import ReaderReply
from stepcredit.recipes.arm_rules.credit import ArmCredit
from stepcredit.recipes.arms import ArmJob, ArmResult, run_arm
from stepcredit.recipes.demo_settings import ArmPart, DemoRecipe, WorldPart, load_demo
from stepcredit.recipes.judge_figures import reading_summary, reading_tables
from stepcredit.recipes.judges import REJECTED, SPENT, Account, BuiltJudge, build_judge
from stepcredit.recipes.world import WorldTask
from stepcredit.steps import align
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.schedule import process_weight

LABEL = {"C": Label.CORRECT, "I": Label.INCORRECT, "M": Label.MATCHED, "U": Label.MISMATCHED}
TP = {"title": "t", "rule": "tp_grpo", "judge": "markers"}
GRPO = {"title": "g", "rule": "grpo"}

# acc = 1/4: z = sqrt(3) right, -1/sqrt(3) wrong, both by the population std.
GROUP = (("right", "CCIC"), ("wrong", "UM"), ("wrong", "M"), ("wrong", "?UM"))
Z, LOW = 3**0.5, -(3**-0.5)


def batch(members: Sequence[tuple[str, str]] = GROUP, name: str = "a") -> tuple[list[Group], list[Judgement]]:
    """One group of (status, one letter a step); steps of one token."""
    judged: list[Judgement] = []
    for place, (status, letters) in enumerate(members):
        ids = np.arange(len(letters))
        rollout = Rollout(f"{name}/{place}", Problem(name, "?", "1"), name, place, "x" * len(ids), ids, ids, ids)
        steps = Steps(Outcome(rollout, status), ids, "step", np.zeros(len(ids), np.bool_), closed=True)  # type: ignore
        verdicts = [Verdict(label=LABEL[x]) if x in LABEL else Verdict(reason="no reply") for x in letters]
        judged.append(Judgement(steps, tuple(verdicts), "j"))
    return [Group(name, tuple(judgement.steps.outcome for judgement in judged))], judged


def credits_of(arm: ArmPart, members: Sequence[tuple[str, str]] = GROUP, *, weight: float = 1.0) -> list[Credit]:
    groups, judged = batch(members)
    return ArmCredit(arm, 7)(groups, judged, process_weight=weight, round_index=0, signals={}).credits


@pytest.mark.parametrize(
    ("keys", "place", "want", "without"),
    [
        ({"alpha": 3.0}, 0, [Z, Z, Z - 3 / 4, Z], [Z, Z, Z - 1 / 4, Z]),
        ({"scale": "fixed"}, 0, [Z, Z, Z - 1, Z], [Z, Z, Z - 1 / 4, Z]),
        ({"sides": "correct"}, 1, [LOW, LOW], [0, LOW]),
        ({"sides": "incorrect"}, 0, [Z, Z, Z, Z], [Z, Z, Z - 1 / 4, Z]),
        ({"incorrect_relief": "acc"}, 1, [LOW * 3 / 4, LOW], [0, LOW]),
        ({"std": "none"}, 2, [-1 / 2], [LOW]),
        ({"unit": "step"}, 0, [Z + 1 / 4, Z, Z - 1 / 4, Z], [Z, Z, Z - 1 / 4, Z]),
        ({"on_unknown": "drop"}, 3, [np.nan] * 3, [LOW] * 3),
        ({"on_unknown": "neutral"}, 3, [LOW, 0, LOW], [LOW] * 3),
    ],
)
def test_each_key_of_an_arm_changes_the_advantages(keys, place: int, want, without) -> None:
    np.testing.assert_allclose(credits_of(ArmPart(**TP))[place].advantages, without, atol=1e-6)
    np.testing.assert_allclose(credits_of(ArmPart(**TP, **keys))[place].advantages, want, atol=1e-6)


@pytest.mark.parametrize("rule", [TP, GRPO])
def test_keep_and_std_reach_both_rules(rule) -> None:
    dull = (("right", "C"), ("right", "C"))
    assert [credit.kept for credit in credits_of(ArmPart(**rule), dull)] == [False, False]
    assert [credit.kept for credit in credits_of(ArmPart(**rule, keep="all"), dull)] == [True, True]
    np.testing.assert_allclose(credits_of(ArmPart(**rule, std="none"))[2].advantages, [-1 / 2])


def test_keep_by_process_reward() -> None:
    kept = [credit.kept for credit in credits_of(ArmPart(**TP, keep="nonzero_process"))]
    assert kept == [True, True, False, False]


def test_shuffled_gives_the_process_credit_to_other_steps() -> None:
    members = (("right", "CICCCCCC"), ("wrong", "UMMMMMMM"))
    plain = [credit.advantages for credit in credits_of(ArmPart(**TP), members)]
    mixed = [credit.advantages for credit in credits_of(ArmPart(**TP, shuffled=True), members)]
    outcome = [np.full(8, 1.0), np.full(8, -1.0)]
    assert not all(np.array_equal(a, b) for a, b in zip(plain, mixed, strict=True))
    parts = [np.sort(np.concatenate(found) - np.concatenate(outcome)) for found in (plain, mixed)]
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "weights"),
    [
        ({"process_weight": "outcome"}, [0, 0, 0, 0]),
        ({"process_weight": "alternate", "schedule": {"process_rounds": 2}}, [1, 1, 0, 1]),
        ({"process_weight": "alternate", "schedule": {"outcome_rounds": 2}}, [1, 0, 0, 1]),
        ({"process_weight": "anneal", "schedule": {"anneal_rounds": 2}}, [1, 0.5, 0, 0]),
    ],
)
def test_process_weight_and_its_schedule_reach_the_advantages(keys, weights) -> None:
    arm = ArmPart(**TP, **keys)
    found = [process_weight(arm.weights(), index)[0] for index in range(4)]
    assert found == weights
    taken = [Z - credits_of(arm, weight=weight)[0].advantages[2] for weight in found]
    np.testing.assert_allclose(taken, [weight / 4 for weight in weights], atol=1e-6)


def test_bounds_of_the_adaptive_schedule_are_read() -> None:
    bounds = {"min_parse_rate": 0.5, "max_kl": 0.3, "flat_rounds": 3, "flat_gain": 0.1}
    schedule = ArmPart(**TP, process_weight="adaptive", schedule=bounds).weights()  # type: ignore
    assert {name: getattr(schedule, name) for name in bounds} == bounds


# 14 / 15 = 10 in Z_17; the first guess, 4, is taken back by its check.
TAKEN_BACK = (
    "; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 ; check 10 *15 14 ok ; Step2 10 *10 15"
    " </think> answer ; Step1 10 ; Step2 15 <eos>"
)


async def labels_of(keys: dict, path: Path) -> list[Label | None]:
    task = WorldTask(WorldPart())
    ids = task.tokenizer.encode(TAKEN_BACK)
    text, starts = align(ids, task.tokenizer)
    problem = Problem("p", "Q 14 ; Step1 /15 ; Step2 *10 ?", "15")
    rollout = Rollout("r", problem, "g", 0, text, task.tokenizer.encode(problem.text), ids, starts)
    steps = task.splitter.split(Outcome(rollout, "right"))
    with RunFolder.create_or_open(path, {}) as folder:
        built = await build_judge(ArmPart(**TP, **keys), path, folder, seed=0)
        assert built.judge is not None
        return [verdict.label for verdict in await built.judge.judge(steps)][:5]


async def test_flip_and_interval_reach_the_judge(tmp_path: Path) -> None:
    right, wrong = Label.CORRECT, Label.INCORRECT
    assert await labels_of({}, tmp_path / "a") == [wrong, right, right, right, right]
    assert await labels_of({"interval": "reflection"}, tmp_path / "b") == [wrong, wrong, right, right, right]
    assert await labels_of({"flip": 1.0}, tmp_path / "c") == [right, wrong, wrong, wrong, wrong]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({**GRPO, "alpha": 1.0, "flip": 0.1}, "without any effect, .*: alpha, flip under rule grpo"),
        *(
            ({**GRPO, name: value}, f"{name} under rule grpo")
            for name, value in {
                "sides": "correct", "unit": "step", "shuffled": True, "process_weight": "anneal", "scale": "fixed",
                "incorrect_relief": "acc", "interval": "reflection", "on_unknown": "drop", "schedule": {},
            }.items()
        ),
        ({**TP, "judge": "taught", "interval": "reflection"}, "interval under judge taught"),
        ({**TP, "sides": "incorrect", "alpha": 2.0, "scale": "fixed"}, "alpha, scale under sides incorrect"),
        ({**TP, "sides": "correct", "incorrect_relief": "acc"}, "incorrect_relief under sides correct"),
        ({**TP, "schedule": {"max_kl": 0.1}}, "schedule.max_kl under process_weight process"),
        ({**TP, "process_weight": "anneal", "schedule": {"process_rounds": 1}}, "process_rounds under process_weight"),
    ],
)  # fmt: skip
def test_a_key_without_effect_is_refused(part, told) -> None:
    with pytest.raises(ValueError, match=told):
        ArmPart(**part)


def test_a_key_without_effect_names_its_arm() -> None:
    with pytest.raises(UsageError, match=r"arms\.grpo: keys without any effect, leave them out: alpha under rule grpo"):
        load_demo(overrides=("arms.grpo.alpha=2.0",))


SMALL = (
    "world.length=1", "world.divisions=0", "gate.divisions=0", "model.dim=32", "model.heads=2", "model.hidden=32",
    "pretrain.updates=160", "pretrain.batches=[[1, 64]]", "rounds.rounds=2", "rounds.problems=32",
    "rounds.group_size=4", "rounds.rollouts_per_update=8", "measure.problems=8", "measure.final_problems=8",
    "measure.pass_problems=8", "learner.learning_rate=0.003",
)  # fmt: skip


def small(*overrides: str) -> DemoRecipe:
    return load_demo(overrides=(*SMALL, *overrides))


def trained(recipe: DemoRecipe, checkpoint: Path, out: Path, *, arm: str = "grpo") -> tuple[ArmResult, bytes]:
    result = run_arm(ArmJob(recipe, arm, 0, checkpoint, out))
    return result, max((out / "checkpoints").glob("learner-*")).read_bytes()


@pytest.mark.learning
def test_beta_holds_the_policy_to_its_frozen_start_and_the_monitors_see_it(checkpoint: Path, tmp_path: Path) -> None:
    free, weights = trained(small(), checkpoint, tmp_path / "free")
    held, other = trained(small("learner.beta=0.5"), checkpoint, tmp_path / "held")
    assert sum(row.updates for row in free.rows) > 2
    assert weights != other
    told = {"kl_to_outcome", "reference_changed"}
    assert told <= set(free.unknown_monitors)
    assert not told & set(held.unknown_monitors)
    assert "reference_changed" not in {firing.monitor for firing in held.firings}
    _, third = trained(small("learner.beta=0.5", 'learner.kl="k2"'), checkpoint, tmp_path / "k2")
    assert third not in (weights, other)


@pytest.mark.learning
def test_the_reduction_reaches_the_loss(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("grpo", "dr_grpo"):
        found = trained(small(f'learner.reduction="{name}"', "rounds.rounds=1"), checkpoint, tmp_path / name)[1]
        assert found != trained(small("rounds.rounds=1"), checkpoint, tmp_path / f"token-{name}")[1]


@pytest.mark.learning
def test_the_arm_s_schedule_reaches_the_rounds(checkpoint: Path, tmp_path: Path) -> None:
    turns = ('arms.tp_grpo_markers.process_weight="alternate"', "arms.tp_grpo_markers.schedule.outcome_rounds=2")
    result, _ = trained(small(*turns), checkpoint, tmp_path / "turns", arm="tp_grpo_markers")
    assert [row.process_weight for row in result.rows] == [None, 1.0, 0.0]
    assert result.rows[2].process_weight_reason == "alternate: outcome round 1 of 2"


@pytest.mark.learning
def test_a_resumed_arm_counts_all_its_sessions_and_one_that_is_looked_at_again_counts_no_more(
    checkpoint: Path, tmp_path: Path
) -> None:
    recipe, arm = small(), "tp_grpo_markers"
    whole = trained(recipe, checkpoint, tmp_path / "whole", arm=arm)[0]
    asked, job = 0, ArmJob(recipe, arm, 0, checkpoint, tmp_path / "cut")

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 8

    with pytest.raises(PartialError):
        run_arm(job, stop=stop)
    with Ledger(tmp_path / "cut" / "ledger.sqlite") as ledger:
        first = [payload for _, payload in ledger.items(SPENT)]
    resumed = run_arm(job)
    assert sum(part["parse"]["P1/right"]["asked"] for part in first if part["parse"]) > 0
    counts = {name: replace(found, latency_s=0.0) for name, found in resumed.parse.items()}
    assert counts == {name: replace(found, latency_s=0.0) for name, found in whole.parse.items()}
    assert resumed.seconds > sum(part["seconds"] for part in first) > 0
    assert resumed.cpu_seconds > sum(part["cpu_seconds"] for part in first) > 0
    again = run_arm(job)
    assert (again.seconds, again.parse) == (resumed.seconds, resumed.parse)
    (table,) = reading_tables(recipe, {arm: [whole, resumed]})
    row = next(row for row in table.rows if str(row[0]).endswith("P1/right"))
    assert row[1] == 2 * whole.parse["P1/right"].asked
    assert reading_summary({arm: [whole]})[arm]["P1/right"]["parse_rate"] == 1.0
    assert reading_tables(recipe, {"grpo": [replace(whole, parse={})]}) == ()


class Mute:
    """A reader whose replies cannot be read."""

    fingerprint = "mute"

    async def answer(self, task, *, attempt, error) -> ReaderReply:
        return ReaderReply("I would say it is right.", input_tokens=5, output_tokens=2)


def test_rejected_replies_are_kept_as_they_were_written_over_sessions(tmp_path: Path) -> None:
    (steps,) = [judgement.steps for judgement in batch((("right", "CC"),))[1]]
    for session in (1, 2):
        judge = IntrinsicJudge(Mute(), IntrinsicSettings(retries=1))
        with RunFolder.create_or_open(tmp_path, {}) as folder:
            account = Account(folder, BuiltJudge(judge, judge))
            asyncio.run(judge.judge(steps))
            account.keep()
            account.keep()
            replies = [payload for _, payload in folder.ledger.items(REJECTED)]
            counts = account.total.parse["P1/right"]
        assert [reply["raw"] for reply in replies] == ["I would say it is right."] * 2 * session
        assert {(reply["task"], reply["rollout"], reply["reason"]) for reply in replies} == {("P1", "a/0", "not JSON")}
        assert (counts.asked, counts.failed, counts.calls, counts.input_tokens) == (
            session, session, 2 * session, 10 * session,
        )  # fmt: skip
        assert counts.rejects == {"not JSON": 2 * session}

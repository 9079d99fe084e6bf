"""TRL trains on our per-token credit: on (B, T) as on (B,), and each half of a credit gives half of the gradient."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepcredit.adapters.trl.refusals import check_liger
from stepcredit.adapters.trl.settings import StepCredit
from stepcredit.adapters.trl.versions import NEWEST, OLDEST, check_version
from stepcredit.core.errors import MachineError, StepcreditError, UsageError
from stepcredit.core.records import Steps, Verdict
from stepcredit.credit.grpo import GrpoSettings
from stepcredit.credit.grpo_ps import GrpoPsSettings
from stepcredit.credit.scored.math_shepherd import MathShepherdSettings
from stepcredit.credit.tp_grpo import TpGrpoSettings
from stepcredit.judges.oracle import OracleJudge
from stepcredit.steps import Fixed
from stepcredit.tasks.reflection_world import WORLD_E

cases = pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")

LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo")


def outcome_rule(**changes: Any):
    """GRPO as TRL has it: sample std, epsilon 1e-4 on rewards 0 and 1, which is 2e-4 on -1 and +1."""
    settings = GrpoSettings(std="sample", epsilon=2e-4)
    return cases.tp_grpo(rule="grpo", judge=None, settings=settings, **changes)


def run(trainer):
    trainer.train()
    return trainer


def test_outcome_credit_trains_as_trl_does(tmp_path: Path) -> None:
    mine = run(cases.ours(tmp_path, outcome_rule()))
    other = run(cases.theirs(tmp_path, scale_rewards="group"))
    assert len(mine.batches) == 2
    for batch, plain in zip(mine.batches, other.batches, strict=True):
        assert torch.equal(batch["completion_ids"], plain["completion_ids"])
        spread = plain["advantages"][:, None].expand_as(batch["advantages"]) * batch["completion_mask"]
        torch.testing.assert_close(batch["advantages"], spread, atol=2e-6, rtol=0)
        assert batch["advantages"].abs().max() > 0.5
    torch.testing.assert_close(cases.weights(mine), cases.weights(other), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_one_advantage_a_sequence_equals_the_same_one_a_token(tmp_path: Path, loss_type: str) -> None:
    trainer = run(cases.ours(tmp_path, outcome_rule(), loss_type=loss_type, max_steps=1))
    batch = trainer.batches[0]
    advantages = torch.linspace(-1, 1, len(batch["advantages"]))
    spread = advantages[:, None].repeat(1, batch["completion_ids"].shape[1])
    plain = cases.theirs(tmp_path, loss_type=loss_type)
    plain.model.load_state_dict(trainer.model.state_dict())
    loss, gradient = cases.loss_and_gradient(plain, {**batch, "advantages": advantages})
    wide_loss, wide_gradient = cases.loss_and_gradient(trainer, {**batch, "advantages": spread})
    assert loss == wide_loss
    assert torch.equal(gradient, wide_gradient)
    assert gradient.abs().max() > 0


def test_credit_is_additive(tmp_path: Path) -> None:
    trainer = run(cases.ours(tmp_path, max_steps=1))
    batch = trainer.batches[0]
    first = batch["advantages"].clone()
    first[:, cases.MAX_TOKENS // 2 :] = 0.0
    second = batch["advantages"] - first
    assert first.abs().sum() > 0
    assert second.abs().sum() > 0
    whole_loss, whole = cases.loss_and_gradient(trainer, batch)
    parts = [cases.loss_and_gradient(trainer, {**batch, "advantages": half}) for half in (first, second)]
    assert parts[0][0] + parts[1][0] == pytest.approx(whole_loss, abs=1e-6)
    torch.testing.assert_close(parts[0][1] + parts[1][1], whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("rule", "settings"), [("tp_grpo", None), ("grpo_ps", GrpoPsSettings())])
def test_steps_get_advantages_of_their_own(tmp_path: Path, rule: str, settings: object) -> None:
    trainer = run(cases.ours(tmp_path, cases.tp_grpo(rule=rule, settings=settings)))
    batch = trainer.batches[0]
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    rows = [row[:length] for row, length in zip(batch["advantages"].numpy(), lengths, strict=True)]
    assert any(len(np.unique(row)) > 1 for row in rows)
    assert all(len(np.unique(row[k : k + 4])) == 1 for row in rows for k in range(0, len(row), 4))
    assert batch["advantages"][batch["completion_mask"] == 0].abs().sum() == 0
    assert not torch.equal(cases.weights(trainer), cases.weights(cases.theirs(tmp_path)))


def test_the_shuffled_control_keeps_the_sizes_of_process_credit_and_forgets_their_places(tmp_path: Path) -> None:
    ways = (cases.tp_grpo(), cases.tp_grpo(shuffled=0), cases.tp_grpo().with_process_weight(0.0))
    paid, control, outcome = (run(cases.ours(tmp_path, credit, max_steps=1)).batches[0] for credit in ways)
    assert torch.equal(paid["completion_ids"], control["completion_ids"])
    written = paid["completion_mask"].bool()
    process, moved = ((batch["advantages"] - outcome["advantages"])[written] for batch in (paid, control))
    assert process.abs().max() > 0.2
    assert not torch.equal(process, moved)
    torch.testing.assert_close(process.sort().values, moved.sort().values, atol=1e-6, rtol=0)


def test_the_log_has_our_figures(tmp_path: Path) -> None:
    trainer = run(cases.ours(tmp_path))
    row = next(row for row in trainer.state.log_history if "stepcredit/right" in row)
    assert 0 < row["stepcredit/right"] < 1
    assert row["stepcredit/unscorable"] == 0
    assert row["stepcredit/parse_rate"] == 1
    assert row["stepcredit/unknown_steps"] == 0
    assert row["stepcredit/outcome_size"] > 0
    assert row["stepcredit/process_size"] > 0
    assert row["rewards/lucky/mean"] == row["stepcredit/right"]


def test_a_checker_gives_the_outcome_and_ends_are_read_from_ids(tmp_path: Path) -> None:
    trainer = run(cases.ours(tmp_path, cases.tp_grpo(outcome=WORLD_E.checker, rule="grpo", judge=None, settings=None)))
    row = next(row for row in trainer.state.log_history if "stepcredit/right" in row)
    assert row["stepcredit/right"] == 0  # random words
    assert row["rewards/stepcredit_outcome/mean"] == -1
    assert row["stepcredit/all_wrong"] == 1
    ids = trainer.batches[0]["completion_ids"].numpy()
    ended = (ids == 1).any(axis=1)
    assert row["stepcredit/cut"] == pytest.approx(1 - ended.mean())


class Silent:
    """Knows nothing of right solutions."""

    fingerprint = "silent"
    scale = OracleJudge.scale

    def __init__(self) -> None:
        self.inner = OracleJudge(cases.truth, "coin")
        self.silent: set[str] = set()

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        if steps.outcome.status == "right":
            self.silent.add(steps.rollout.id)
            return (Verdict(reason="will not say"),) * len(steps)
        return await self.inner.judge(steps)


def test_completions_without_credit_are_masked_and_not_counted(tmp_path: Path) -> None:
    judge = Silent()
    credit = cases.tp_grpo(judge=judge, settings=TpGrpoSettings(on_unknown="drop"))
    trainer = run(cases.ours(tmp_path, credit, max_steps=1))
    batch = trainer.batches[0]
    masked = batch["completion_mask"].sum(dim=1) == 0
    right = torch.tensor([f"b0-g{k // 4}-s{k % 4}" in judge.silent for k in range(8)])
    assert masked.any()
    assert (masked <= right).all()  # where all four are right there is nothing to drop for
    assert not masked.all()
    assert (batch["advantages"][masked] == 0).all()
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()
    row = trainer.state.log_history[0]
    assert row["stepcredit/kept"] == pytest.approx(1 - masked.float().mean().item())
    assert row["stepcredit/parse_rate"] < 1


class Slow:
    """Never answers."""

    fingerprint = "slow"
    scale = OracleJudge.scale

    def __init__(self) -> None:
        self.now = self.most = 0

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.Event().wait()
        finally:
            self.now -= 1
        return ()


def test_a_judge_is_bounded_in_number_and_time(tmp_path: Path) -> None:
    judge = Slow()
    trainer = run(cases.ours(tmp_path, cases.tp_grpo(judge=judge, judging=3, timeout_s=0.05), max_steps=1))
    row = trainer.state.log_history[0]
    assert judge.most == 3
    assert row["stepcredit/parse_rate"] == 0
    assert row["stepcredit/unknown_steps"] == 1


def test_a_reward_function_of_weight_0_is_logged_and_any_other_refused(tmp_path: Path) -> None:
    def brief(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [-float(len(ids)) for ids in completion_ids]

    trainer = run(cases.ours(tmp_path, rewards=[brief, cases.lucky], reward_weights=[0.0, 1.0], max_steps=1))
    assert trainer.state.log_history[0]["rewards/brief/mean"] < 0
    with pytest.raises(UsageError, match=r"'brief' would change nothing.*weight 0 in reward_weights"):
        cases.ours(tmp_path, rewards=brief)


async def patient(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
    return [None if index == 0 else value for index, value in enumerate(cases.lucky(completion_ids))]


def test_an_async_reward_function_may_leave_a_completion_unscored(tmp_path: Path) -> None:
    trainer = run(cases.ours(tmp_path, cases.tp_grpo(outcome=patient), max_steps=1))
    row = trainer.state.log_history[0]
    assert row["stepcredit/unscorable"] == 1 / 8
    assert trainer.batches[0]["completion_mask"][0].sum() == 0


def test_what_a_checker_lacks_is_told(tmp_path: Path) -> None:
    credit = cases.tp_grpo(outcome=WORLD_E.checker, answer_column="solution")
    with pytest.raises(StepcreditError, match=r"no column 'solution'.*there are: answer"):
        run(cases.ours(tmp_path, credit))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss_type": "luspo"}, r"loss_type='luspo'.*one ratio a sequence; take one of grpo"),
        ({"loss_type": "vespo"}, r"loss_type='vespo'.*take one of grpo"),
        ({"importance_sampling_level": "sequence"}, r"GSPO-token.*set importance_sampling_level='token'"),
        ({"off_policy_mask_threshold": 0.5}, r"set off_policy_mask_threshold=None"),
        ({"scale_rewards": "group"}, r"set scale_rewards='none'"),
        ({"scale_rewards": "batch"}, r"set scale_rewards='none'"),
    ],
)
def test_settings_that_break_per_token_credit_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        cases.ours(tmp_path, **changes)


def test_ways_to_add_rewards_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    args = cases.config(tmp_path)
    if not hasattr(args, "multi_objective_aggregation"):
        pytest.skip("this TRL adds rewards in one way")
    args.multi_objective_aggregation = "normalize_then_sum"
    with pytest.raises(UsageError, match="set multi_objective_aggregation='sum_then_normalize'"):
        cases.StepCreditGRPOTrainer(cases.policy(), cases.tp_grpo(), args=args)


def test_the_fused_loss_of_older_versions_is_refused(tmp_path: Path) -> None:
    """It takes one advantage a sequence; where TRL has none of its own the kernels are no matter of ours."""
    args = cases.config(tmp_path)
    args.use_liger_kernel = True
    with pytest.raises(UsageError, match="set use_liger_kernel=False"):
        check_liger(args, fused=True)
    check_liger(args, fused=False)


def test_tools_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave tools out"):
        cases.StepCreditGRPOTrainer(cases.policy(), cases.tp_grpo(), args=cases.config(tmp_path), tools=[len])


def test_a_rule_that_is_spread_over_another_limit_of_tokens_is_refused(tmp_path: Path) -> None:
    pure = StepCredit("pure", Fixed(4, form="none"), lambda **_: [1.0], judge=cases.tp_grpo().judge)
    with pytest.raises(
        UsageError, match=r"max_tokens is 8192, and completions may have \d+ tokens; set max_tokens=\d+"
    ):
        cases.StepCreditGRPOTrainer(cases.policy(), pure, args=cases.config(tmp_path))


def test_what_a_setting_makes_a_rule_read_is_refused_before_anything_is_sampled() -> None:
    settings = MathShepherdSettings(critic=True)
    with pytest.raises(UsageError, match="rule math_shepherd reads values, which the trainer of TRL does not give"):
        StepCredit("math_shepherd", Fixed(4), lambda **_: [1.0], judge=cases.tp_grpo().judge, settings=settings)


def test_an_evaluation_asks_no_judge(tmp_path: Path) -> None:
    judge = Slow()
    trainer = cases.ours(tmp_path, cases.tp_grpo(judge=judge), per_device_eval_batch_size=8)
    found = trainer.evaluate(cases.problems(4))
    assert "eval_loss" in found
    assert judge.most == 0


def test_a_version_that_was_not_tried_is_refused() -> None:
    for version in ("0.26.2", "0.29.0", "1.17.0", "2.0.0"):
        with pytest.raises(MachineError, match=r"is not supported.*0\.29\.1 to 1\.16.*stepcredit\[trl\]"):
            check_version(version)


def test_the_environments_hold_the_oldest_and_the_newest_version() -> None:
    script = (Path(__file__).parent / "make_trl_venvs.sh").read_text(encoding="utf-8")
    assert f"make_venv oldest {'.'.join(map(str, OLDEST))} " in script
    assert f"make_venv newest {'.'.join(map(str, NEWEST))}." in script


class Watched(cases.Ours):
    """Keeps what the loss is given."""

    seen: list[dict[str, Any]]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        self.__dict__.setdefault("seen", []).append(dict(inputs))
        return super()._compute_loss(model, inputs)


def test_credit_stays_with_its_completion_through_shuffling_and_reuse(tmp_path: Path) -> None:
    """Two updates a batch, each batch used twice, two micro-batches an update."""
    args = cases.config(
        tmp_path,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        num_iterations=2,
        max_steps=4,
    )
    options = {"train_dataset": cases.problems(), "processing_class": cases.words(tmp_path)}
    trainer = run(Watched(cases.policy(), cases.tp_grpo(), args=args, **options))
    [batch] = trainer.batches
    assert batch["advantages"].shape == (16, batch["completion_ids"].shape[1])
    by_ids = {
        tuple(ids): row for ids, row in zip(batch["completion_ids"].tolist(), batch["advantages"].tolist(), strict=True)
    }
    assert len(trainer.seen) == 8
    for part in trainer.seen:
        for ids, row in zip(part["completion_ids"].tolist(), part["advantages"].tolist(), strict=True):
            assert row == by_ids[tuple(ids)]


class Asked(Silent):
    """Keeps the problems that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: set[str] = set()

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        self.problems.add(steps.rollout.problem.text)
        return await self.inner.judge(steps)


def test_of_a_conversation_the_judge_reads_the_last_user_message(tmp_path: Path) -> None:
    words = cases.words(tmp_path)
    words.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    rows = [
        [{"role": "system", "content": "answer"}, {"role": "user", "content": f"Q {k} ; Step1 /3 ?"}] for k in (1, 2)
    ]
    judge = Asked()
    trainer = cases.Ours(
        cases.policy(),
        cases.tp_grpo(judge=judge),
        args=cases.config(tmp_path, max_steps=1),
        train_dataset=cases.Dataset.from_list([{"prompt": row} for row in rows]),
        processing_class=words,
    )
    run(trainer)
    assert judge.problems == {"Q 1 ; Step1 /3 ?", "Q 2 ; Step1 /3 ?"}


def test_a_callback_may_alternate_process_and_outcome(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    trainer = cases.ours(tmp_path)

    class Alternate(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            trainer.step_credit = trainer.step_credit.with_process_weight(0.0)

    trainer.add_callback(Alternate())
    run(trainer)
    sizes = [row["stepcredit/process_size"] for row in trainer.state.log_history if "stepcredit/process_size" in row]
    assert sizes[0] > 0
    assert sizes[1] == 0
    with pytest.raises(UsageError, match="rule grpo has no process weight"):
        outcome_rule().with_process_weight(0.5)

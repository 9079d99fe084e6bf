"""The TRL trainer where something is missing: no credit at all, evaluations, runs that go on, logs, other limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepcredit.adapters.logged import read_log
from stepcredit.core.errors import StepcreditError, UsageError
from stepcredit.core.records import Steps, Verdict
from stepcredit.judges.oracle import OracleJudge
from stepcredit.tasks.reflection_world import WORLD_E

cases = pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")


class Mute:
    """Says nothing of any step."""

    fingerprint = "mute"
    scale = OracleJudge.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        return (Verdict(reason="will not say"),) * len(steps)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo"])
def test_a_batch_that_keeps_nothing_leaves_the_weights_as_they_are(tmp_path: Path, loss_type: str) -> None:
    """TRL before 1.12 divides by the tokens that are left, here none."""
    trainer = cases.ours(tmp_path, cases.tp_grpo(judge=Mute()), loss_type=loss_type)
    before = cases.weights(trainer)
    trainer.train()
    assert trainer.state.log_history[0]["stepcredit/kept"] == 0
    assert torch.equal(cases.weights(trainer), before)


def broken(completion_ids: list[list[int]], **_: Any) -> list[float]:
    raise ValueError(f"no reward for {len(completion_ids)}")


def test_an_evaluation_raises_what_the_outcome_raises(tmp_path: Path) -> None:
    trainer = cases.ours(tmp_path, cases.tp_grpo(outcome=broken), per_device_eval_batch_size=8)
    with pytest.raises(UsageError, match="no outcomes: ValueError: no reward for 8") as caught:
        trainer.evaluate(cases.problems(4))
    assert isinstance(caught.value.__cause__, ValueError)
    credit = cases.tp_grpo(outcome=WORLD_E.checker, answer_column="solution")
    with pytest.raises(StepcreditError, match="no column 'solution'"):
        cases.ours(tmp_path, credit, per_device_eval_batch_size=8).evaluate(cases.problems(4))


def test_an_evaluation_is_one_whatever_mode_it_leaves_the_model_in(tmp_path: Path) -> None:
    """TRL's continuous batching sets the model to training within an evaluation."""
    asked: list[str] = []

    class Loud(Mute):
        async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
            asked.append(steps.rollout.id)
            return await super().judge(steps)

    trainer = cases.ours(tmp_path, cases.tp_grpo(judge=Loud()), per_device_eval_batch_size=8)
    generate = trainer._generate

    def left_in_training(*args: Any, **options: Any) -> Any:
        out = generate(*args, **options)
        trainer.model.train()
        return out

    trainer._generate = left_in_training
    trainer.current_gradient_accumulation_steps = 1  # which TRL sets once a training has begun
    found = trainer.evaluate(cases.problems(8))
    assert "eval_loss" in found
    assert not any(name.startswith("stepcredit/") for row in trainer.state.log_history for name in row)
    assert not asked
    trainer.train()
    assert asked


def test_an_evaluation_moves_no_draw_of_the_training(tmp_path: Path) -> None:
    control = cases.tp_grpo(shuffled=3)
    plain = cases.ours(tmp_path / "plain", control)
    plain.train()
    names: list[str] = []

    class Named(cases.Ours):
        def _next_batch(self) -> str:
            names.append(super()._next_batch())
            return names[-1]

    args = cases.config(tmp_path, per_device_eval_batch_size=8, eval_strategy="steps", eval_steps=1)
    options = {"train_dataset": cases.problems(), "eval_dataset": cases.problems(4)}
    watched = Named(
        cases.policy(), control, args=args, processing_class=cases.words(tmp_path), reward_funcs=(), **options
    )
    watched.train()
    assert [name for name in names if name.startswith("b")] == ["b0", "b1"]
    assert [name for name in names if name.startswith("e")][:3] == ["e1", "e1.1", "e2"]
    assert torch.equal(watched.batches[0]["advantages"], plain.batches[0]["advantages"])


def test_a_run_that_goes_on_draws_as_if_it_had_never_been_left(tmp_path: Path) -> None:
    names: list[str] = []

    class Named(cases.Ours):
        def _next_batch(self) -> str:
            names.append(super()._next_batch())
            return names[-1]

    def made(steps: int) -> Any:
        args = cases.config(tmp_path, max_steps=steps, save_strategy="steps", save_steps=1)
        options = {"train_dataset": cases.problems(), "processing_class": cases.words(tmp_path)}
        return Named(cases.policy(), cases.tp_grpo(shuffled=3), args=args, **options)

    made(1).train()
    made(2).train(resume_from_checkpoint=True)
    assert names == ["b0", "b1"]


def test_the_table_of_completions_holds_what_was_paid(tmp_path: Path) -> None:
    trainer = cases.ours(tmp_path, log_completions=True)
    trainer.train()
    rows = read_log(tmp_path / "trl" / "completions", outcome="lucky")
    assert len(rows) == 16
    for k, batch in enumerate(trainer.batches):
        sizes = batch["completion_mask"].sum(dim=1).numpy()
        paid = batch["advantages"].numpy().sum(axis=1) / np.maximum(sizes, 1)
        logged = [row.advantage for row in rows[8 * k : 8 * k + 8]]
        for want, got, size in zip(paid, logged, sizes, strict=True):
            assert (got is None) if size == 0 else got == pytest.approx(want, abs=1e-6)
    mute = cases.ours(tmp_path / "mute", cases.tp_grpo(judge=Mute()), log_completions=True, max_steps=1)
    mute.train()
    assert {row.advantage for row in read_log(tmp_path / "mute" / "trl" / "completions", outcome="lucky")} == {None}


def test_a_completion_that_another_limit_cut_is_known_to_be_cut(tmp_path: Path) -> None:
    trainer = cases.ours(tmp_path, cases.tp_grpo(rule="grpo", judge=None, settings=None), max_steps=1)
    policy = trainer._outcome_reward.policy
    assert policy is not None
    assert [policy.finish(ids) for ids in ([], [5, 1], [5, 0], [5, 6])] == ["stop", "stop", "stop", "length"]
    with pytest.raises(UsageError, match="generation_kwargs sets max_new_tokens, a second limit"):
        cases.ours(tmp_path, generation_kwargs={"max_new_tokens": 4})


def test_an_id_that_the_tokenizer_does_not_know_has_no_text(tmp_path: Path) -> None:
    """Tables of embeddings are padded beyond the vocabulary."""
    policy = cases.ours(tmp_path)._outcome_reward.policy
    assert policy is not None
    size = len(WORLD_E.words)
    plain, starts = policy.text(np.array([5, 6, 7, 1], np.int32))
    text, more = policy.text(np.array([5, size, 6, size + 3, 7, size, 1], np.int32))
    assert text == plain
    assert starts.tolist() == [starts[0], starts[1], starts[2], len(text)]
    assert more.tolist() == [starts[0], starts[1], starts[1], starts[2], starts[2], len(text), len(text)]


def test_reward_functions_are_told_apart_by_themselves_and_not_by_name(tmp_path: Path) -> None:
    first, second = ((lambda right=right, **c: [right] * len(c["completion_ids"])) for right in (1.0, 0.0))
    credit = cases.tp_grpo(outcome=first)
    with pytest.raises(UsageError, match="'<lambda>' would change nothing"):
        cases.ours(tmp_path, credit, rewards=[first, second])
    with pytest.raises(UsageError, match=r"weight -3 of 'lucky'.*give it weight 1 in reward_weights"):
        cases.ours(tmp_path, rewards=[cases.lucky], reward_weights=[-3.0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"right_above": float("nan")}, "must be a finite number, got nan"),
        ({"right_above": float("inf")}, "must be a finite number, got inf"),
        ({"keep": "bogus"}, "keep = 'bogus' is unknown"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        cases.tp_grpo(**changes)

"""`trl.GRPOTrainer` with one advantage a token: a post-processing subclass that copies no method body."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownParameterType=false
# Where the extra is not installed its types are unknown.

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from stepcredit.adapters.judging import judge_all
from stepcredit.adapters.loop import Loop
from stepcredit.adapters.trl.outcomes import OUTCOME, OutcomeReward, Place, Policy
from stepcredit.adapters.trl.paying import pay
from stepcredit.adapters.trl.refusals import check_liger, check_limit, check_loss, check_rewards, check_rollouts
from stepcredit.adapters.trl.settings import StepCredit
from stepcredit.adapters.trl.tokenizer import policy_tokenizer
from stepcredit.core.errors import CreditError, StepcreditError, UsageError
from stepcredit.core.records import Credit, Judgement, Outcome, Steps

T = TypeVar("T")


class StepCreditGRPOTrainer(GRPOTrainer):
    """Trains as TRL does, on our per-token advantages.

    Each sampled batch is checked, cut, judged and paid before TRL shuffles it: its (B,) advantages are replaced by
    (B, T) ones, T the padded width of the completions. Steps, outcomes and verdicts of all processes are gathered
    before the rule is applied, so groups that straddle processes are paid as in one. Batches of an evaluation keep
    TRL's own advantages: nothing is trained on them, and no judge is asked; an error of who gives the outcome is raised
    there too.

    TRL's table of completions (`log_completions`) holds as `advantage` what was paid, the mean over the completion's
    tokens, and NaN for completions that are left out. The log gets, under `stepcredit/`: `right`, `unscorable`, `cut`,
    `parse_rate`, `unknown_steps`, `steps`, `kept`, `all_right`, `all_wrong`, `outcome_size`, `process_size` (mean
    absolute advantage a token).

    A callback may change `step_credit` between steps, alike in all processes: splitter, judge, rule and settings, not
    who gives the outcome.

    Args:
        model: as for `GRPOTrainer`.
        credit: how completions are paid.
        args: a `GRPOConfig` with `scale_rewards="none"`; the rule's settings say how rewards are scaled.
        reward_funcs: further reward functions, for the log: of weight 0 in `args.reward_weights`. The one that gives
            the outcome may stand among them, else it comes first.
        **options: everything else that `GRPOTrainer` takes.

    Raises:
        UsageError: for settings that break per-token credit or would have no effect; each names its mend.

    Source: engines.md 1. Differs: none.
    """

    def __init__(
        self,
        model: Any,
        credit: StepCredit,
        *,
        args: Any,
        reward_funcs: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
        **options: Any,
    ) -> None:
        if args is None:
            raise UsageError("give args: GRPOConfig(OUTPUT_DIR, scale_rewards='none')")
        check_loss(args)
        check_limit(credit.settings, args)
        check_liger(args, fused=hasattr(GRPOTrainer, "compute_liger_loss"))
        check_rollouts(options)
        self.step_credit = credit
        self._judging_loop = Loop()
        self._outcome_reward = OutcomeReward(credit, self._judging_loop)
        self._evaluating = False
        self._batch = ("", 0)
        self._credit_figures: dict[str, list[float]] = defaultdict(list)
        functions = _with_outcome(reward_funcs, credit, self._outcome_reward)
        names = [_name(function) for function in functions]
        check_rewards(names, functions.index(self._outcome_reward), args.reward_weights)
        super().__init__(model=model, reward_funcs=functions, args=args, **options)
        self._outcome_reward.policy = Policy(policy_tokenizer(self.processing_class), _eos_ids(self), _pad_id(self))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch with our advantages."""
        training = not self._evaluating
        size = self.num_generations if training else getattr(self, "num_generations_eval", self.num_generations)
        batch, first = self._next_batch(), self.accelerator.process_index * len(inputs)
        self._outcome_reward.place = Place(batch, first, size)
        out: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if not training:
            self._together(self._outcome_reward.take, "score")
            return out
        cuts = self._together(lambda: self._cuts(out), "judge")
        paid = pay(cuts, self.step_credit, group_size=size, batch=batch)
        for name, value in paid.figures.items():
            self._credit_figures[name].append(value)
        _log_paid(self._logs["advantages"], paid.credits)
        return self._with_advantages(out, paid.credits[first : first + len(inputs)], paid.credits)

    def _next_batch(self) -> str:
        """Name of the batch that is sampled now: by optimiser step, so that a run that goes on draws as if never left.

        Batches of an evaluation have names of their own, and so move no draw of the training.
        """
        step = f"{'e' if self._evaluating else 'b'}{self.state.global_step}"
        again = self._batch[1] + 1 if self._batch[0] == step else 0
        self._batch = (step, again)
        return f"{step}.{again}" if again else step

    def prediction_step(self, *args: Any, **options: Any) -> Any:
        """TRL's; a batch that is sampled within it is one of an evaluation, whatever mode TRL leaves the model in."""
        self._evaluating = True
        try:
            return super().prediction_step(*args, **options)
        finally:
            self._evaluating = False

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        """TRL's loss; refuses advantages that lost their shape on the way."""
        if not self._evaluating and inputs["advantages"].shape != inputs["completion_ids"].shape:
            got, want = tuple(inputs["advantages"].shape), tuple(inputs["completion_ids"].shape)
            raise CreditError(f"got advantages of shape {got}, wanted {want}: this TRL treats them in a new way")
        return super()._compute_loss(model, inputs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log with our figures, each the mean over the batches since the last time."""
        if not any(name.startswith("eval_") for name in logs):
            logs.update(
                {f"stepcredit/{name}": sum(values) / len(values) for name, values in self._credit_figures.items()}
            )
            self._credit_figures.clear()
        super().log(logs, start_time)

    def _together(self, work: Callable[[], Sequence[T]], verb: str) -> list[T]:
        """What the work gives in all processes; an error of one is raised by all, so that none is left waiting."""
        found: list[T] = []
        error: Exception | None = None
        try:
            found = list(work())
        except Exception as caught:  # noqa: BLE001 -- raised below, by every process
            error = caught
        told: list[tuple[str, list[T]]] = gather_object([("" if error is None else str(error), found)])
        if error is not None:
            raise error
        failed = [f"process {rank}: {message}" for rank, (message, _) in enumerate(told) if message]
        if failed:
            raise StepcreditError(f"another process could not {verb} its completions: {'; '.join(failed)}")
        return [each for _, given in told for each in given]

    def _cuts(self, out: dict[str, Any]) -> list[Judgement | Steps]:
        """Steps and verdicts of this process."""
        outcomes = [_with_prompt(*pair) for pair in zip(self._outcome_reward.take(), _prompts(out), strict=True)]
        _check_ids(out, outcomes)
        return self._judging_loop.run(self._judged(outcomes))

    async def _judged(self, outcomes: Sequence[Outcome]) -> list[Judgement | Steps]:
        credit = self.step_credit
        bounds: dict[str, Any] = {"judging": credit.judging, "timeout_s": credit.timeout_s}
        return await judge_all(outcomes, credit.splitter, credit.asked, **bounds)

    def _with_advantages(
        self, out: dict[str, Any], own: Sequence[Credit], everyone: Sequence[Credit]
    ) -> dict[str, Any]:
        """The batch with (B, T) advantages; completions that are left out are masked, and not counted by the loss."""
        mask = out["completion_mask"]
        table = np.zeros(tuple(out["completion_ids"].shape), np.float32)
        for row, credit in zip(table, own, strict=True):
            if credit.kept:
                row[: len(credit.advantages)] = credit.advantages
        changed = {"advantages": torch.from_numpy(table).to(out["advantages"])}
        if not all(credit.kept for credit in everyone):
            kept = torch.tensor([credit.kept for credit in own], dtype=mask.dtype, device=mask.device)
            changed["completion_mask"] = mask * kept[:, None]
            if "num_items_in_batch" in out:
                left = self.accelerator.gather(changed["completion_mask"].sum()).sum()
                # a batch of nothing is worth 0; TRL before 1.12 would divide 0 by 0
                changed["num_items_in_batch"] = left.clamp(min=1).to(out["num_items_in_batch"])
        return {**out, **changed}


def _with_outcome(
    reward_funcs: Callable[..., Any] | Sequence[Callable[..., Any]], credit: StepCredit, outcome: OutcomeReward
) -> list[Callable[..., Any]]:
    """The reward functions with the outcome's among them: in its own place if it was given, else first."""
    several = isinstance(reward_funcs, Sequence) and not isinstance(reward_funcs, str)
    functions: Any = reward_funcs if several else [reward_funcs]
    given: list[Any] = list(functions)
    if credit.outcome in given:
        return [outcome if function is credit.outcome else function for function in given]
    if outcome.__name__ in [_name(function) for function in given]:
        raise UsageError(f"a reward function is called {outcome.__name__!r} ({OUTCOME} is ours); rename it")
    return [outcome, *given]


def _name(function: Any) -> str:
    """Of a reward function, or of a reward model by id."""
    return function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)


def _log_paid(column: Any, credits_of_all: Sequence[Credit]) -> None:
    """Put what was paid in place of TRL's own advantages of the batch, in its table of completions."""
    paid = [float(np.mean(c.advantages)) if c.kept and len(c.advantages) else float("nan") for c in credits_of_all]
    before = list(column)[: -len(paid)]
    column.clear()
    column.extend([*before, *paid])


def _pad_id(trainer: Any) -> int | None:
    """Id that fills the table of completions up."""
    inner = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    return None if inner.pad_token_id is None else int(inner.pad_token_id)


def _eos_ids(trainer: Any) -> frozenset[int]:
    """Ids that end a completion; TRL names one or, since 1.x, several."""
    several = getattr(trainer, "eos_token_ids", None)
    found = [trainer.eos_token_id] if several is None else several if isinstance(several, list) else [several]
    return frozenset(int(one) for one in found if one is not None)


def _prompts(out: dict[str, Any]) -> list[np.ndarray]:
    """Prompt ids without their padding."""
    ids, mask = out["prompt_ids"].cpu().numpy(), out["prompt_mask"].cpu().numpy().astype(bool)
    return [row[kept] for row, kept in zip(ids, mask, strict=True)]


def _with_prompt(outcome: Outcome, prompt_ids: np.ndarray) -> Outcome:
    return replace(outcome, rollout=replace(outcome.rollout, prompt_ids=prompt_ids))


def _check_ids(out: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Refuse a batch whose rows are not the completions that were judged, or hold tokens of tools."""
    if "tool_mask" in out:
        raise UsageError("the rollouts hold tokens that the policy did not write (tool_mask); leave tools out")
    table = out["completion_ids"].cpu().numpy()
    for row, outcome in zip(table, outcomes, strict=True):
        ids = outcome.rollout.completion_ids
        if len(ids) > len(row) or (row[: len(ids)] != ids).any():
            raise CreditError(
                "the completion is not the one that was judged: TRL reordered them", item=outcome.rollout.id
            )


__all__ = ["StepCreditGRPOTrainer"]

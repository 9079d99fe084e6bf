"""Credit of an arm over a round: its rule under the schedule's weight, thoughts where it wants them, the control."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack, final

from stepcredit.core.records import Group, Judgement
from stepcredit.core.seeds import derive
from stepcredit.credit import rule_named
from stepcredit.credit.batch import assign
from stepcredit.credit.grpo import GrpoSettings
from stepcredit.credit.prof import drop_inconsistent
from stepcredit.credit.shuffled import ShuffledSettings
from stepcredit.credit.tp_grpo import TpGrpoSettings
from stepcredit.recipes.arm_rules.arm import ArmPart
from stepcredit.recipes.arm_rules.settings import rule_settings, weighed
from stepcredit.recipes.arm_rules.whole import whole_columns
from stepcredit.steps import thoughts
from stepcredit.training.parts import CreditSizes, InRound, PaidRound
from stepcredit.training.signals import columns_of


@final
@dataclass(frozen=True)
class ArmCredit:
    """The arm's credit rule over a round.

    Args:
        arm: the arm.
        seed: of the run; the control shuffles with it.
        max_tokens: the sampler's limit, for a rule that is spread over it (PURE); `None` if it is not known.
    """

    arm: ArmPart
    seed: int
    max_tokens: int | None = None

    def __call__(
        self, groups: Sequence[Group], judgements: Sequence[Judgement], /, **told: Unpack[InRound]
    ) -> PaidRound:
        """Credits of the round, one a rollout, in group order; sizes of those that the keep rule keeps."""
        arm = self.arm
        settings = settings_of(arm, process_weight=told["process_weight"], max_tokens=self.max_tokens)
        rule = rule_named(arm.rule)
        merged = rule.unit_for(settings) == "thought"
        read = arm.judge != "none"
        credited, found = assign(
            groups,
            [thoughts(j) if merged else j if read else j.steps for j in judgements],
            rule=arm.rule,
            settings=settings,
            keep=arm.keep,
            control=ShuffledSettings(derive(self.seed, "shuffled", told["round_index"])) if arm.shuffled else None,
            signals=columns_of(groups, told["signals"])
            | whole_columns(groups, judgements, rule.wanted(settings), of_steps=arm.of_steps),
        )
        outcome, process = (None if math.isnan(size) else size for size in (found.outcome_size, found.process_size))
        if arm.prof is not None:
            credited = drop_inconsistent(credited, judgements, settings=arm.prof.settings())
        return PaidRound(list(credited), CreditSizes(None if rule.outcome_part is None else outcome, process))


def settings_of(arm: ArmPart, *, process_weight: float = 1.0, max_tokens: int | None = None) -> Any:
    """Settings of the arm's rule in a round; `grpo` and `tp_grpo` have keys of the arm for theirs.

    Args:
        arm: the arm.
        process_weight: of the round.
        max_tokens: the sampler's limit: what a rule's setting of that name is where the arm does not set it.
    """
    if arm.rule == "grpo":
        return GrpoSettings(arm.std)
    if arm.rule == "tp_grpo":
        return TpGrpoSettings(
            process_weight=process_weight,
            alpha=arm.alpha,
            scale=arm.scale,
            sides=arm.sides,
            incorrect_relief=arm.incorrect_relief,
            std=arm.std,
            unit=arm.unit,
            on_unknown=arm.on_unknown,
        )
    settings = weighed(rule_settings(arm.rule, arm.settings), process_weight)
    if max_tokens is None or "max_tokens" in arm.settings or not hasattr(settings, "max_tokens"):
        return settings
    return replace(settings, max_tokens=max_tokens)

"""What the trainer pays with: one part an arrow of the path, and what bounds the judge; no torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

from stepcredit.adapters.logged.threshold import check_threshold
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Checker, Judge, Splitter
from stepcredit.core.seeds import derive
from stepcredit.credit import Need, Rule, rule_named
from stepcredit.credit.choices import check_choice
from stepcredit.credit.keep import Keep
from stepcredit.credit.shuffled import ShuffledSettings

_READ = frozenset({Need.OUTCOME, Need.FLAGS, Need.SCORES})
"""Signals that can be had of a TRL batch and a judge."""


@final
@dataclass(frozen=True)
class StepCredit:
    """How completions are paid.

    Args:
        rule: name in the table of credit rules (`stepcredit.credit`).
        splitter: cuts checked completions into steps.
        outcome: who says right or wrong: a checker of ours, or the TRL reward function (sync or async) whose number is
            read as the outcome: above `right_above` right, else wrong, `None` and NaN unscorable.
        judge: gives verdicts on the steps; `None` for rules that read outcomes only.
        settings: the rule's settings; `None` takes its defaults.
        keep: which completions are trained on; `all` leaves out only those whose advantage is unknown. A completion
            that is left out is masked, as TRL masks truncated ones: losses `dapo`, `bnpo` and `cispo` divide by the
            tokens that are left, while `grpo`, `sapo` and `dr_grpo` count the row as one of cost 0.
        right_above: bound of a reward function's number.
        problem_column: column of the data set with the problem as a judge should read it; `None` takes the prompt, of a
            conversation its last user message.
        answer_column: column with the reference answer that the checker reads.
        judging: solutions that wait for the judge at the same time, in each process.
        timeout_s: seconds after which one solution's judging is given up, its steps unknown; `None` for no limit.
        shuffled: seed of the control that gives the process credit to random steps of the batch (`credit.shuffled`):
            a gain that it keeps is not due to credit assignment. `None` leaves credit where it belongs.

    Raises:
        UsageError: for an unknown rule, settings of another rule, a rule whose signals TRL's batch does not hold,
            a rule that reads verdicts without a judge, and numbers out of range.
    """

    rule: str
    splitter: Splitter
    outcome: Checker | Callable[..., Any]
    judge: Judge | None = None
    settings: Any = None
    keep: Keep = "all"
    right_above: float = 0.5
    problem_column: str | None = None
    answer_column: str = "answer"
    judging: int = 64
    timeout_s: float | None = None
    shuffled: int | None = None

    def __post_init__(self) -> None:
        chosen = self.chosen
        if self.settings is None:
            object.__setattr__(self, "settings", chosen.settings())
        if isinstance(chosen.settings, type) and not isinstance(self.settings, chosen.settings):
            got = type(self.settings).__name__
            raise UsageError(f"rule {self.rule} takes {chosen.settings.__name__}, got {got}")
        unread = [need for need in chosen.needs if need not in _READ]
        absent = [str(need) for need in dict.fromkeys((*unread, *chosen.wanted(self.settings)))]
        if absent:
            mend = "take a rule of outcomes, labels or scores"
            raise UsageError(
                f"rule {self.rule} reads {', '.join(absent)}, which the trainer of TRL does not give; {mend}"
            )
        if self.judge is None and chosen.reads_verdicts(self.settings):
            raise UsageError(f"rule {self.rule} reads verdicts on steps: give StepCredit a judge, or take rule grpo")
        check_threshold(self.right_above)
        check_choice("keep", self.keep, Keep)
        if self.judging < 1:
            raise UsageError(f"judging must be at least 1, got {self.judging}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise UsageError(f"timeout_s must be above 0, or none, got {self.timeout_s}")

    @property
    def chosen(self) -> Rule:
        """The rule's line in the table."""
        return rule_named(self.rule)

    @property
    def asked(self) -> Judge | None:
        """The judge, if the rule reads it under these settings."""
        return self.judge if self.chosen.reads_verdicts(self.settings) else None

    @property
    def checker(self) -> Checker | None:
        """The checker, `None` where a reward function gives the outcome."""
        outcome: Any = self.outcome
        return outcome if hasattr(outcome, "check") else None

    def control(self, batch: str) -> ShuffledSettings | None:
        """The shuffle of a batch, alike in all processes; `None` without the control."""
        return None if self.shuffled is None else ShuffledSettings(derive(self.shuffled, "shuffled", batch))

    def with_process_weight(self, weight: float) -> "StepCredit":
        """The same with another weight of the process stream, for a callback that alternates process and outcome.

        Raises:
            UsageError: if the rule has no process weight.
        """
        if not hasattr(self.settings, "process_weight"):
            raise UsageError(f"rule {self.rule} has no process weight")
        return replace(self, settings=replace(self.settings, process_weight=weight))

"""The monitors of a training run: one table, name -> formula, bound, action.

`MONITORS` is all of it: what is watched, from which value on it fires, and what the run then does. A monitor whose
inputs are absent is unknown and never fires. Bounds are set so that a healthy run does not meet them; settings may
change bounds and actions by name (`training.monitoring`).
"""

from dataclasses import dataclass
from typing import Literal, final

from stepcredit.training import monitor_formulas as formula
from stepcredit.training.monitor_formulas import RoundFormula, UpdateFormula, of_round, of_two_updates, of_update

Side = Literal["above", "below"]
"""Where a monitor fires: at the bound or beyond it, on this side."""

Action = Literal["log", "end_round", "outcome_only", "stop"]
"""What a firing does.

`log` records it; `end_round` leaves the round's remaining updates out; `outcome_only` sets process_weight to 0 for the
rounds after it, until the monitor has been quiet for a number of rounds; `stop` ends the run, resumable, once the
checkpoint is safe. Every firing is recorded, whatever it does.
"""


@final
@dataclass(frozen=True)
class EachUpdate:
    """A formula that is asked after every optimiser step."""

    formula: UpdateFormula


@final
@dataclass(frozen=True)
class EachRound:
    """A formula that is asked after every round."""

    formula: RoundFormula


@final
@dataclass(frozen=True)
class Monitor:
    """One row of the table.

    Args:
        asked: the formula, and when it is asked.
        side: fires at or above the bound, or at or below it.
        bound: in the value's unit.
        action: what a firing does.
        meaning: what it means that it fired, one line.
        source: where it comes from.
    """

    asked: EachUpdate | EachRound
    side: Side
    bound: float
    action: Action
    meaning: str
    source: str

    def beyond(self, value: float, bound: float) -> bool:
        """True if the value is at the bound or beyond it."""
        return value >= bound if self.side == "above" else value <= bound


MONITORS: dict[str, Monitor] = {
    # -- after every update: drift from the policy that sampled (nats a token, shares of tokens), entropy, faults; the
    #    first four fire when two updates in a row are beyond the bound --
    "kl_k1": Monitor(
        EachUpdate(of_two_updates("kl_k1")), "above", 0.1, "log",
        "the policy has moved far from the one that wrote the round", "F2"),
    "kl_k3": Monitor(
        EachUpdate(of_two_updates("kl_k3")), "above", 0.1, "end_round",
        "the policy has moved far from the one that wrote the round: sample again", "F2"),
    "log_ratio_p99": Monitor(
        EachUpdate(of_two_updates("log_ratio_p99")), "above", 2.0, "log",
        "one token in a hundred has changed its odds more than sevenfold", "F2"),
    "effective_sample": Monitor(
        EachUpdate(of_two_updates("ess", max)), "below", 0.05, "log",
        "a few tokens' ratios carry the whole update", "F2"),
    "clip_low": Monitor(
        EachUpdate(of_update("clip_low")), "above", 0.2, "log",
        "one token in five is clipped below: the round's rollouts are used up", "F2, F5"),
    "clip_high": Monitor(
        EachUpdate(of_update("clip_high")), "above", 0.2, "log",
        "one token in five is clipped above: the round's rollouts are used up", "F2, F5"),
    "entropy_collapse": Monitor(
        EachUpdate(formula.entropy_kept), "below", 0.03, "log",
        "the policy has all but stopped exploring (entropy against the run's first update)", "F5"),
    "entropy_explosion": Monitor(
        EachUpdate(formula.entropy_kept), "above", 3.0, "end_round",
        "the policy is coming apart (entropy against the run's first update)", "F5"),
    "skipped_updates": Monitor(
        EachUpdate(formula.skipped_in_a_row), "above", 3.0, "stop",
        "so many updates in a row had a loss or gradient that is not finite; the batch is kept", "reliability B3"),
    # -- after every round: the machinery --
    "broken_logprobs": Monitor(
        EachRound(of_round("broken")), "above", 1.0, "stop",
        "the trainer gives NaN logprobs: its weights are broken, and the round was not trained on", "reliability B3"),
    "zero_probability": Monitor(
        EachRound(of_round("impossible")), "above", 1.0, "log",
        "tokens were sampled to which trainer or sampler gives no probability", "F2, engines 1"),
    "sampler_gap": Monitor(
        EachRound(of_round("sampler_gap")), "above", 0.1, "log",
        "trainer and sampler disagree on logprobs (nats a token): it would be counted as drift", "F2, engines 1"),
    "kl_to_outcome": Monitor(
        EachRound(of_round("kl_ratio")), "above", 1.0, "log",
        "the KL penalty outweighs the advantages", "F2"),
    "reference_changed": Monitor(
        EachRound(formula.reference_changed), "above", 1.0, "stop",
        "the frozen reference is not the one that the run began with", "F2"),
    # -- after every round: the judge --
    "parse_rate": Monitor(
        EachRound(formula.worst_parse), "below", 0.8, "outcome_only",
        "replies of the judge cannot be read", "F3"),
    "label_agreement": Monitor(
        EachRound(of_round("agreement")), "below", 0.4, "outcome_only",
        "the judge does not agree with itself on a second reading (kappa)", "F6"),
    "changed_credit": Monitor(
        EachRound(of_round("changed")), "above", 0.5, "log",
        "a second reading changes the advantage of half of the tokens", "F6"),
    "score_mass": Monitor(
        EachRound(of_round("score_mass")), "above", 0.95, "log",
        "the judge's probabilities are all 0 or 1: they no longer rank", "F9"),
    "judge_loops": Monitor(
        EachRound(of_round("judge_loops")), "above", 0.2, "log",
        "replies of the judge repeat themselves or do not end", "F3"),
    # -- after every round: the policy's behaviour --
    "silent_right": Monitor(
        EachRound(of_round("silent_right")), "above", 0.5, "log",
        "right solutions without any reflection, in which an intrinsic judge sees nothing", "F11"),
    "reflection_rate": Monitor(
        EachRound(formula.reflections_kept), "below", 0.5, "outcome_only",
        "reflections fell sharply while accuracy stayed flat: fewer admitted mistakes?", "F12"),
    "catch_rate": Monitor(
        EachRound(formula.catch_kept), "below", 0.9, "outcome_only",
        "the policy catches fewer of its own errors, beyond what accuracy excuses: reward hacking?", "F12"),
    "length": Monitor(
        EachRound(formula.against_start(lambda facts: facts.tokens)), "above", 2.0, "log",
        "solutions are twice as long as at the start", "F12"),
    "truncation": Monitor(
        EachRound(formula.rise_of(lambda facts: facts.truncated)), "above", 0.25, "log",
        "a quarter more of the solutions is cut by the length limit than at the start", "F12"),
    "answer_consistency": Monitor(
        EachRound(formula.consistency_kept), "below", 0.7, "log",
        "answers no longer restate what was worked out", "F12"),
    "step_length": Monitor(
        EachRound(formula.step_length_change), "above", 2.0, "log",
        "steps are twice as long, or half as long, as at the start: what is judged has changed", "F12"),
    "pass_divergence": Monitor(
        EachRound(formula.pass_lost), "above", 0.1, "log",
        "avg@k rises while pass@k falls: sharper, and less able to find an answer", "F8"),
}  # fmt: skip
"""Name -> what is watched. The order means nothing: every monitor is asked, and the strongest action counts."""

"""What a monitor may look at after a round: typed facts, drawn from the round's records; unknown is `None`.

Facts are kept in the ledger beside the round's row, so that a resumed run decides on the same history.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, final

import numpy as np

from stepcredit.core.protocols import Scale
from stepcredit.core.records import Group, Judgement, Outcome, Update
from stepcredit.judges.intrinsic.gaming import CountReflections, shape_of
from stepcredit.judges.verdicts import UNMATCHABLE

MIN_COUNT = 30
"""A share of fewer things than this is unknown: chance alone would move it past any bound."""

EDGE = 0.01
"""A score so near to 0 or 1 counts as mass at the ends."""

LOOPS, TAIL = 4, 2_000
"""A reply loops if it ends in so many repetitions of one piece, found in its last characters."""

OVERLONG = 20_000
"""A judge's reply of so many characters is over-long whatever it says."""

_UNREADABLE = re.compile(r"(P\d+) unreadable after")
_RIGHT_TASKS = ("P1", "P2", "P3", "P23")


@final
@dataclass(frozen=True)
class RoundFacts:
    """Facts of one round; index -1 holds the measurement before any training.

    Args:
        index: the round.
        rollouts: sampled so far, all rounds.
        right: avg@k: share of right outcomes among the round's scorable rollouts.
        pass_at_k: share of the round's groups with at least one right rollout.
        accuracy: held-out accuracy after the round.
        parse: share of what the judge was asked that could be read, by task: `judge` counts solutions of any kind,
            `P1`, `P4` and the like those whose reply to that task was never readable.
        agreement: Cohen's kappa between the verdicts and those of a fresh attempt on a sampled share.
        changed: share of these rollouts' tokens whose advantage differs under the fresh verdicts.
        silent_right: share of right solutions without any reflection.
        reflections: reflections per 1,000 completion tokens.
        tokens: mean completion tokens.
        truncated: share of rollouts that ended by length.
        step_tokens: mean tokens of a think step.
        score_mass: share of a probability judge's scores at 0 or 1.
        judge_loops: replies of the judge that loop or are over-long, as a share of the rollouts judged.
        broken: trained tokens whose recomputed logprob is NaN.
        impossible: trained tokens to which the trainer or the sampler gives no probability.
        sampler_gap: mean |trainer - sampler| logprob gap, nats per token.
        kl_ratio: size of the KL term as a share of that of the advantages.
        reference: fingerprint of the frozen reference.
        own: named figures of the round's own rollouts; `X_of` is the number of things that share `X` was taken over.
        held_out: the same, measured on held-out problems after the round.
    """

    index: int
    rollouts: int
    right: float | None = None
    pass_at_k: float | None = None
    accuracy: float | None = None
    parse: dict[str, float] = field(default_factory=dict[str, float])
    agreement: float | None = None
    changed: float | None = None
    silent_right: float | None = None
    reflections: float | None = None
    tokens: float | None = None
    truncated: float | None = None
    step_tokens: float | None = None
    score_mass: float | None = None
    judge_loops: float | None = None
    broken: float | None = None
    impossible: float | None = None
    sampler_gap: float | None = None
    kl_ratio: float | None = None
    reference: str | None = None
    own: dict[str, float] = field(default_factory=dict[str, float])
    held_out: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float):
                object.__setattr__(self, each.name, known(value))
            elif isinstance(value, dict):
                object.__setattr__(self, each.name, _known_only(value))

    def as_payload(self) -> dict[str, Any]:
        """The facts as JSON-able mapping; `RoundFacts(**payload)` gives equal facts."""
        return asdict(self)


def known(value: float | None) -> float | None:
    """The value if it is finite, else `None`: a fact is never NaN or infinite.

    >>> known(0.5), known(float("nan")), known(float("inf"))
    (0.5, None, None)
    """
    return None if value is None or not np.isfinite(value) else float(value)


def updates_of(payloads: Sequence[Mapping[str, Any]]) -> list[Update]:
    """Updates from the ledger, where numbers that are not finite stand as null."""
    nan = float("nan")
    found: list[Update] = []
    for payload in payloads:
        values: dict[str, Any] = {name: nan if value is None else value for name, value in payload.items()}
        found.append(Update(**values))
    return found


def outcome_facts(groups: Sequence[Group]) -> dict[str, float | None]:
    """avg@k and pass@k of a round, over groups with at least two scorable rollouts; unknown for few groups.

    Source: tp_grpo.md 2 (avg@k, pass@k). Differs: within the round's own groups.
    """
    marks = [[o.status == "right" for o in g.outcomes if o.status != "unscorable"] for g in groups]
    marks = [row for row in marks if len(row) > 1]
    if len(marks) < MIN_COUNT:
        return {"pass_at_k": None}
    return {"pass_at_k": sum(any(row) for row in marks) / len(marks)}


def behaviour_facts(judgements: Sequence[Judgement], count: CountReflections | None) -> dict[str, float | None]:
    """Length, truncation and tokens a step; with a reflection counter also the figures of F11 and F12.

    Args:
        judgements: of the round; verdicts need not be known.
        count: counts reflections in the think steps of one solution, `None` where nobody can.

    Source: tp_grpo.md 6, F11 and F12. Differs: none.
    """
    if not judgements:
        return {}
    shape = shape_of(judgements, count or (lambda _texts: 0))
    think, steps = 0, 0
    for judgement in judgements:
        sizes = np.diff(np.append(judgement.steps.starts, len(judgement.steps.rollout.completion_ids)))
        think += int(sizes[~judgement.steps.in_answer].sum())
        steps += int((~judgement.steps.in_answer).sum())
    right = sum(judgement.steps.outcome.status == "right" for judgement in judgements)
    return {
        "tokens": shape.tokens,
        "truncated": shape.truncated,
        "step_tokens": think / steps if steps else None,
        "reflections": shape.reflections_per_1k if count else None,
        "silent_right": shape.silent_right if count and right >= MIN_COUNT else None,
    }


def parse_rates(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Share of what the judge was asked that could be read, by task (F3), from the verdicts' reasons.

    `judge` counts every solution that the judge could be asked about (`askable`): not those without an outcome, nor
    wrong ones without an answer block. A task of the intrinsic judge has a rate of its own once a reply to it was given
    up; it is taken over the right solutions (P1, P2, P3) or the wrong ones (P4). Shares of few solutions are left out.

    Source: tp_grpo.md 6, F3. Differs: per solution, from recorded verdicts, so that a resumed run counts alike.
    """
    failed: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for judgement in judgements:
        if not askable(judgement):
            continue
        asked["judge"] += 1
        asked[judgement.steps.outcome.status] += 1
        if not judgement.known:
            reason = unknown_reason(judgement)
            failed["judge"] += 1
            named = _UNREADABLE.search(reason)
            failed.update([named[1]] if named else [])
    base = {task: asked["right" if task in _RIGHT_TASKS else "wrong"] for task in failed} | {"judge": asked["judge"]}
    return {task: 1 - failed[task] / count for task, count in base.items() if count >= MIN_COUNT}


def askable(judgement: Judgement) -> bool:
    """True if the judge could be asked: the rollout has steps, an outcome, and where it is wrong an answer block.

    The one meaning of `asked` for the round's row, the schedule (F1) and the monitor (F3).
    """
    if not judgement.verdicts or judgement.steps.outcome.status == "unscorable":
        return False
    return not unknown_reason(judgement).endswith(UNMATCHABLE)


def unknown_reason(judgement: Judgement) -> str:
    """Reason of the first unknown verdict, empty if all are known."""
    return next((v.reason for v in judgement.verdicts if not v.known), "")


def largest_kl(updates: Sequence[Update]) -> float | None:
    """Largest moving KL (k3) of some updates, nats per token; NaN if one was not finite, `None` if none was taken.

    Updates without a trained token moved nothing and have none.

    Source: tp_grpo.md 6, F2 (moving KL). Differs: none.
    """
    found = [update.kl_k3 for update in updates if update.tokens > 0]
    return None if not found else max(found) if np.isfinite(found).all() else float("nan")


def score_mass(judgements: Sequence[Judgement], scale: Scale | None) -> float | None:
    """Share of a probability judge's scores within `EDGE` of 0 or 1; unknown on other scales and for few scores.

    Source: reliability.md B; issue 3 (score mass). Differs: none.
    """
    if scale is not Scale.PROBABILITY:
        return None
    scores = [v.score for judgement in judgements for v in judgement.verdicts if v.score is not None]
    if len(scores) < MIN_COUNT:
        return None
    return sum(score <= EDGE or score >= 1 - EDGE for score in scores) / len(scores)


def judge_loops(judgements: Sequence[Judgement], rejected: Sequence[str]) -> float | None:
    """Replies that loop or are over-long, a share of the rollouts judged: verdict reasons and rejected replies."""
    if len(judgements) < MIN_COUNT:
        return None
    reasons = [reason for judgement in judgements for reason in {v.reason for v in judgement.verdicts}]
    return sum(loops(text) for text in (*reasons, *rejected)) / len(judgements)


def loops(text: str) -> bool:
    """True if the text is over-long, or ends in `LOOPS` repetitions of a piece that make up 60 characters or more.

    For the short replies of a judge in training, ended or not; `judges.loops.is_looping` is for those that were cut.

    >>> loops("and so on " * 9), loops("The third step uses 12 where the problem says 21; that is where it goes wrong.")
    (True, False)
    """
    if len(text) > OVERLONG:
        return True
    tail = text.rstrip()[-TAIL:]
    least = -(-60 // LOOPS)
    return any(
        tail[-piece:] == tail[-2 * piece : -piece] and tail.endswith(tail[-piece:] * LOOPS)
        for piece in range(least, len(tail) // LOOPS + 1)
    )


def named_share(figures: Mapping[str, float], name: str) -> float | None:
    """A named figure, unknown if it is not there or was taken over fewer than `MIN_COUNT` things (`NAME_of`).

    >>> named_share({"catch": 0.5, "catch_of": 200}, "catch"), named_share({"catch": 0.5, "catch_of": 3}, "catch")
    (0.5, None)
    """
    return figures.get(name) if figures.get(f"{name}_of", MIN_COUNT) >= MIN_COUNT else None


def scorable_right(outcomes: Sequence[Outcome]) -> float | None:
    """Share of right outcomes among the scorable ones."""
    scorable = [outcome for outcome in outcomes if outcome.status != "unscorable"]
    return sum(o.status == "right" for o in scorable) / len(scorable) if scorable else None


def _known_only(values: Mapping[str, float]) -> dict[str, float]:
    return {name: found for name, value in values.items() if (found := known(value)) is not None}

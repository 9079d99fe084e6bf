"""Watches a policy for gaming the intrinsic judge: fewer admitted mistakes are fewer penalties (F11, F12)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import JudgeError
from stepcredit.core.records import Judgement
from stepcredit.judges.agreement import boundaries

CountReflections = Callable[[Sequence[str]], int]
"""Number of reflections, of errors and of confirmations alike, in the think steps of one solution."""


@final
@dataclass(frozen=True)
class Shape:
    """What the solutions of a round look like; means over solutions unless said otherwise.

    Args:
        solutions: how many.
        reflections_per_1k: reflections per 1,000 completion tokens, over all of them; `None` without tokens.
        thoughts: runs of equal labels, over the solutions whose labels are all known; `None` without any.
        tokens: completion tokens.
        truncated: share cut by the length limit.
        answer_tokens: tokens of the answer block.
        silent_right: share of the right solutions without any reflection (there the judge sees nothing); `None`
            without right solutions.
    """

    solutions: int
    reflections_per_1k: float | None
    thoughts: float | None
    tokens: float
    truncated: float
    answer_tokens: float
    silent_right: float | None


def shape_of(judgements: Sequence[Judgement], count: CountReflections) -> Shape:
    """Shape of a round's solutions.

    Args:
        judgements: at least one judged solution.
        count: counts reflections, such as `lambda texts: len(TextGrammar().reflections(texts))`.

    Raises:
        JudgeError: if there are no solutions.

    Source: tp_grpo.md 6, F11 and F12. Differs: none.
    """
    total = len(judgements)
    if not total:
        raise JudgeError("a round with no solutions has no shape")
    reflections = [_reflections(judgement, count) for judgement in judgements]
    tokens = [len(judgement.steps.rollout.completion_ids) for judgement in judgements]
    labels = [[verdict.label for verdict in judgement.verdicts] for judgement in judgements]
    thoughts = [len(boundaries(row)) + 1 for row in labels if row and None not in row]
    right = [n for n, judgement in zip(reflections, judgements, strict=True) if _is_right(judgement)]
    return Shape(
        solutions=total,
        reflections_per_1k=1000 * sum(reflections) / sum(tokens) if sum(tokens) else None,
        thoughts=sum(thoughts) / len(thoughts) if thoughts else None,
        tokens=sum(tokens) / total,
        truncated=sum(judgement.steps.rollout.finish == "length" for judgement in judgements) / total,
        answer_tokens=sum(_answer_tokens(judgement) for judgement in judgements) / total,
        silent_right=sum(n == 0 for n in right) / len(right) if right else None,
    )


def gaming_alarm(before: Shape, now: Shape, *, gain: float, fall: float = 0.5, flat: float = 0.02) -> str:
    """A warning if reflections fell sharply while accuracy stayed flat, else an empty string.

    Args:
        before: shape of an earlier round.
        now: shape of the present round.
        gain: accuracy now minus accuracy then, in [-1, 1].
        fall: share of the reflection rate that must be lost to be sharp.
        flat: gain up to which accuracy counts as flat.

    Source: tp_grpo.md 6, F12. Differs: thresholds are ours.

    >>> old = Shape(8, 10.0, 3.0, 100.0, 0.0, 9.0, 0.0)
    >>> gaming_alarm(old, Shape(8, 2.0, 1.0, 90.0, 0.0, 9.0, 0.8), gain=0.0)
    'reflections fell from 10 to 2 per 1,000 tokens while accuracy changed by +0.000: fewer admitted mistakes?'
    """
    old, new = before.reflections_per_1k, now.reflections_per_1k
    if old is None or new is None or new > (1 - fall) * old or gain > flat or old == 0:
        return ""
    change = f"reflections fell from {old:.3g} to {new:.3g} per 1,000 tokens"
    return f"{change} while accuracy changed by {gain:+.3f}: fewer admitted mistakes?"


def _reflections(judgement: Judgement, count: CountReflections) -> int:
    steps = judgement.steps
    return count([text for text, inside in zip(steps.texts, steps.in_answer.tolist(), strict=True) if not inside])


def _answer_tokens(judgement: Judgement) -> int:
    steps = judgement.steps
    return sum(b - a for (a, b), inside in zip(steps.spans, steps.in_answer.tolist(), strict=True) if inside)


def _is_right(judgement: Judgement) -> bool:
    return judgement.steps.outcome.status == "right"

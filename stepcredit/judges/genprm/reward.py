"""From a verdict to numbers: step rewards and solution scores."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

import numpy as np
from jaxtyping import Float

Answer = Literal["Yes", "No"]
"""The one-word verdict on a step."""

SolutionScore = Literal["last", "mean", "min"]
"""How step rewards become one score of a solution (genprm.md 5)."""

_JUDGEMENT = re.compile(r"Judgement(?:\*\*)?\s*:\s*\$?\s*\\boxed\s*\{\s*(Yes|No)\s*\}")


def find_verdict(text: str) -> tuple[Answer, int] | None:
    r"""The verdict on the judgement line of the last output block, and where its word starts.

    >>> find_verdict("<analyze>\\boxed{Yes}</analyze>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n")
    ('No', 63)
    >>> find_verdict("**Judgement**: $\\boxed{No}$") is None  # no output block
    True

    Source: genprm.md 4.4 and 7. Differs: the reference takes the first such word of the whole text; anchored here.
    """
    start = text.rfind("<output>")
    if start < 0:
        return None
    found = [*_JUDGEMENT.finditer(text, start)]
    if not found:
        return None
    return ("Yes" if found[-1][1] == "Yes" else "No"), found[-1].start(1)


def read_verdict(text: str) -> Answer | None:
    r"""The verdict of one critique, `None` where it gives none.

    >>> read_verdict("<output>\n**Judgement**: $\\boxed{Yes}$\n</output>")
    'Yes'
    """
    found = find_verdict(text)
    return None if found is None else found[0]


def tempered(logprobs: Float[np.ndarray, " C"], *, temperature: float, top_k: int, top_p: float) -> list[float]:
    """[C] probabilities of the named tokens after temperature, top-k and top-p, renormalised.

    Top-p drops, from the least probable on, the tokens whose mass up to and with them is at most 1 - top_p.

    Args:
        logprobs: [C] raw, in nats; -inf is probability 0.
        temperature: above 0.
        top_k: tokens kept, -1 = all.
        top_p: mass kept.

    >>> tempered(np.log([0.9, 0.1]), temperature=0.6, top_k=20, top_p=0.95)
    [1.0, 0.0]
    >>> [round(p, 3) for p in tempered(np.log([0.7, 0.3]), temperature=0.6, top_k=20, top_p=0.95)]
    [0.804, 0.196]

    Source: genprm.md 4.4 (`reference_v0`). Differs: only the named tokens take part, not the engine's top 20.
    """
    scaled = np.asarray(logprobs, np.float64) / temperature
    shares = np.exp(scaled - scaled.max())
    order = np.argsort(shares, kind="stable")
    if 0 < top_k < len(order):
        shares[order[: len(order) - top_k]] = 0.0
    shares /= shares.sum()
    below = np.cumsum(shares[order]) <= 1.0 - top_p
    below[-1] = False
    shares[order[below]] = 0.0
    return (shares / shares.sum()).tolist()


def solution_score(rewards: Sequence[float | None], how: SolutionScore) -> float | None:
    """One score of a solution from its step rewards; `None` if one of them is unknown, or there is none.

    >>> [solution_score([0.9, 0.3, 0.6], how) for how in ("last", "min", "mean")]
    [0.6, 0.3, 0.6]
    >>> solution_score([0.9, None], "last") is None
    True

    Source: genprm.md 5. Differs: which of them the paper's figures use is not known, so there is no default.
    """
    known = [reward for reward in rewards if reward is not None]
    if not known or len(known) < len(rewards):
        return None
    return {"last": lambda: known[-1], "mean": lambda: fmean(known), "min": lambda: min(known)}[how]()


def weighted_vote(answers: Sequence[str | None], scores: Sequence[float | None]) -> str | None:
    """The answer whose solutions have the largest sum of scores; of equals the first.

    Solutions without an answer or a score do not vote; `None` if none does.

    Args:
        answers: [N] one a solution, equal texts are equal answers.
        scores: [N] one a solution.

    >>> weighted_vote(["4", "5", "5", None], [0.9, 0.5, 0.5, 1.0])
    '5'

    Source: genprm.md 5. Differs: none.
    """
    sums: dict[str, float] = {}
    for answer, score in zip(answers, scores, strict=True):
        if answer is not None and score is not None:
            sums[answer] = sums.get(answer, 0.0) + score
    return max(sums, key=lambda answer: sums[answer]) if sums else None

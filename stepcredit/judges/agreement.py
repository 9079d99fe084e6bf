"""How much two judgements of the same steps agree: what re-evaluation with a new seed changes (F6)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from stepcredit.core.errors import JudgeError
from stepcredit.core.records import Label


def kappa(first: Sequence[Label | None], second: Sequence[Label | None]) -> float | None:
    """Cohen's kappa of step labels, over the steps that both know.

    (observed - expected) / (1 - expected) agreement; 1 where both give one and the same label throughout.

    Args:
        first: [S] labels of one judgement.
        second: [S] labels of the other, on the same steps.

    Returns:
        Kappa in [-1, 1], `None` if no step is known to both.

    Raises:
        JudgeError: if lengths differ.

    Source: Cohen 1960; tp_grpo.md 6, F6. Differs: none.

    >>> c, i = Label.CORRECT, Label.INCORRECT
    >>> kappa([c, c, i, i], [c, c, i, c]), kappa([c, c], [c, c])
    (0.5, 1.0)
    """
    _check_lengths(len(first), len(second))
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    observed = sum(a == b for a, b in pairs) / len(pairs)
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(left[label] * right[label] for label in left) / len(pairs) ** 2
    return 1.0 if expected == 1.0 else (observed - expected) / (1.0 - expected)


def boundary_f1(first: Sequence[Label | None], second: Sequence[Label | None]) -> float:
    """F1 of the thought boundaries (places where neighbouring labels differ); 1 if neither has any.

    Args:
        first: [K] labels of one judgement of one rollout.
        second: [K] labels of the other.

    Raises:
        JudgeError: if lengths differ.

    Source: tp_grpo.md 6, F6. Differs: none.

    >>> c, i = Label.CORRECT, Label.INCORRECT
    >>> boundary_f1([c, i, c], [c, i, i]), boundary_f1([c, c], [i, i])
    (0.6666666666666666, 1.0)
    """
    _check_lengths(len(first), len(second))
    one, other = boundaries(first), boundaries(second)
    total = len(one) + len(other)
    return 2 * len(one & other) / total if total else 1.0


def boundaries(labels: Sequence[Label | None]) -> frozenset[int]:
    """Steps whose label differs from that of the step before.

    >>> sorted(boundaries([Label.CORRECT, Label.INCORRECT, Label.INCORRECT, Label.CORRECT]))
    [1, 3]
    """
    return frozenset(k for k in range(1, len(labels)) if labels[k] != labels[k - 1])


def changed_share(first: Float32[np.ndarray, " T"], second: Float32[np.ndarray, " T"]) -> float:
    """Share of tokens whose advantage differs; NaN equals NaN. 0 for no tokens.

    Args:
        first: [T] advantages under one judgement.
        second: [T] advantages under the other.

    Raises:
        JudgeError: if lengths differ.

    Source: tp_grpo.md 6, F6. Differs: none.

    >>> changed_share(np.array([0.5, np.nan, 1.0, 0.0], np.float32), np.array([0.5, np.nan, 0.0, 0.0], np.float32))
    0.25
    """
    _check_lengths(len(first), len(second))
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return float(1.0 - same.mean()) if len(first) else 0.0


def _check_lengths(first: int, second: int) -> None:
    if first != second:
        raise JudgeError(f"two judgements of the same steps, but {first} and {second} entries")

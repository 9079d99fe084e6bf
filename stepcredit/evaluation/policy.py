"""How good a policy is: avg@k and the unbiased pass@k, over problems, with intervals."""

import numpy as np
from jaxtyping import Bool, Float64

from stepcredit.core.errors import UsageError
from stepcredit.core.seeds import derive
from stepcredit.evaluation.intervals import Interval, bootstrap


def pass_at_k(right: Bool[np.ndarray, "P n"], k: int) -> Float64[np.ndarray, " P"]:
    """[P] probability that at least one of k attempts at a problem is right, estimated from n >= k attempts.

    1 - C(n - c, k) / C(n, k) with c right attempts among n.

    Args:
        right: [P, n] True for a right attempt.
        k: attempts allowed.

    Raises:
        UsageError: if n < k.

    Source: Chen et al. 2021, arXiv:2107.03374. Differs: none.

    >>> pass_at_k(np.array([[True, False, False, False]]), 2)
    array([0.5])
    """
    attempts = right.shape[1]
    if attempts < k:
        raise UsageError(f"pass@{k} needs at least {k} attempts a problem, got {attempts}")
    wrong = attempts - right.sum(axis=1)
    missing = np.ones(len(right))
    for i in range(k):
        missing *= np.maximum(wrong - i, 0) / (attempts - i)
    return 1.0 - missing


def mean_interval(values: Float64[np.ndarray, " P"], *, seed: int) -> Interval:
    """Mean over problems with a 95% bootstrap interval over problems."""
    return bootstrap(values, lambda sample: float(sample.mean()), seed=derive(seed, "mean_interval"))

import math

import pytest
import torch

from stepcredit.core.errors import UsageError
from stepcredit.losses.drift import drift

CAPS = {"eps_low": 0.2, "eps_high": 0.28}


def test_by_hand() -> None:
    """w = 2, 1/2: k1 = 0, k3 = ((2 - 1) + (1/2 - 1)) / 2 = 1/4, ess = 2.5^2 / (2 x 4.25)."""
    figures = drift(torch.tensor([2.0, 0.5]).log(), torch.tensor([1.0, -1.0]), **CAPS)
    assert figures.kl_k1 == pytest.approx(0.0, abs=1e-7)
    assert figures.kl_k3 == pytest.approx(0.25)
    assert figures.ess == pytest.approx(6.25 / 8.5)
    assert figures.log_ratio_max == pytest.approx(math.log(2))
    assert (figures.clip_low, figures.clip_high) == (0.5, 0.5)


def test_clip_fractions_count_only_the_side_that_caps() -> None:
    figures = drift(torch.tensor([2.0, 0.5, 2.0, 0.5]).log(), torch.tensor([-1.0, 1.0, 0.0, 0.0]), **CAPS)
    assert (figures.clip_low, figures.clip_high) == (0.0, 0.0)


def test_at_the_old_policy_nothing_has_drifted() -> None:
    figures = drift(torch.zeros(7), torch.ones(7), **CAPS)
    assert (figures.kl_k1, figures.kl_k3, figures.log_ratio_p99, figures.ess) == (0.0, 0.0, 0.0, 1.0)


def test_p99_leaves_one_token_in_a_hundred_above() -> None:
    log_ratio = torch.zeros(200)
    log_ratio[:2] = 5.0
    log_ratio[2] = -3.0
    figures = drift(log_ratio, torch.ones(200), **CAPS)
    assert figures.log_ratio_p99 == 3.0
    assert figures.log_ratio_max == 5.0


def test_ess_stays_finite_for_any_drift_and_small_for_one_heavy_token() -> None:
    log_ratio = torch.full((100,), -400.0)
    log_ratio[0] = 400.0
    assert drift(log_ratio, torch.ones(100), **CAPS).ess == pytest.approx(0.01)


def test_k1_and_k3_agree_in_expectation() -> None:
    """Both estimate KL(old || current): exact by enumeration over a categorical, here with old uniform."""
    current = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    exact = sum(0.25 * (math.log(0.25) - value) for value in current.tolist())
    figures = drift(current - math.log(0.25), torch.zeros(4), **CAPS)
    assert figures.kl_k1 == pytest.approx(exact)
    assert figures.kl_k3 == pytest.approx(exact)


def test_needs_tokens() -> None:
    with pytest.raises(UsageError, match="at least one trained token"):
        drift(torch.zeros(0), torch.zeros(0), **CAPS)

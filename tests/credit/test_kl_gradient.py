"""credit.md 1.8 by exact enumeration: which log-ratio sums have the gradient of -beta KL(pi || pi_ref).

A policy of 3 symbols and 6 tokens with a table of logits a prefix: 729 sequences, all of them rollouts of one group, so
that nothing is sampled. The gradient of a sequence's log probability has one block a prefix that it passes, the symbol
it takes there less the policy's probabilities.
"""

from functools import cache, partial
from itertools import product

import numpy as np
import pytest
import torch

from stepcredit.core.layout import Layout
from stepcredit.credit.prl import PrlSettings, prl
from stepcredit.losses.kl import kl_k1, kl_k3, kl_penalty
from stepcredit.testing.enumerated import Enumeration, cosine, log_softmax

SYMBOLS, LENGTH, ETA = 3, 6, 4.0
SEQUENCES = np.array(list(product(range(SYMBOLS), repeat=LENGTH)))
SIZES = (1, 2, 3, 6)


ALL = Enumeration(SEQUENCES.tolist())
ROWS = ALL.row_of_token.reshape(SEQUENCES.shape)


def tables(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a random policy and of a random reference."""
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(2, ROWS.max() + 1, SYMBOLS)))


def logprobs(logits: np.ndarray) -> np.ndarray:
    """[729, 6] log probability of every token."""
    return ALL.logprobs(logits).reshape(SEQUENCES.shape)


def kl_cost(logits: np.ndarray, ref: np.ndarray) -> float:
    """-beta KL(pi || pi_ref) of whole sequences."""
    whole = logprobs(logits).sum(1)
    return float(-(np.exp(whole) * (whole - logprobs(ref).sum(1))).sum() / ETA)


@cache
def finite_differences(seed: int, size: float = 1e-5) -> np.ndarray:
    logits, ref = tables(seed)
    out = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        for sign in (1.0, -1.0):
            moved = logits.copy()
            moved[place] += sign * size
            out[place] += sign * kl_cost(moved, ref) / (2.0 * size)
    return out


def advantages(logits: np.ndarray, ref: np.ndarray, size: int, **settings) -> np.ndarray:
    """[729, 6] what PRL pays in steps of `size` tokens; all outcomes are equal, so that only the log-ratio is left."""
    tokens = np.arange(SEQUENCES.size)
    steps = tokens // size
    owner = np.arange(steps[-1] + 1) // (LENGTH // size)
    layout = Layout(steps, owner, np.zeros(len(SEQUENCES)))
    kappa = (logprobs(logits) - logprobs(ref)).ravel()
    paid = prl(layout, np.ones(len(SEQUENCES)), kappa, settings=PrlSettings(eta=ETA, **settings))
    return paid.reshape(SEQUENCES.shape).astype(np.float64)


def expected_gradient(logits: np.ndarray, paid: np.ndarray) -> np.ndarray:
    """Sum over sequences of their probability, times the sum over tokens of advantage * grad log pi(token)."""
    return ALL.gradient(logits, paid.ravel())


def variance(logits: np.ndarray, paid: np.ndarray) -> float:
    """Of the gradient of one sampled sequence, summed over parameters; its tokens pass different rows of the table."""
    probs = np.exp(log_softmax(logits))[ROWS]
    taken = np.eye(SYMBOLS)[SEQUENCES]
    square = (paid**2 * ((taken - probs) ** 2).sum(-1)).sum(1)
    mean = expected_gradient(logits, paid)
    return float((np.exp(logprobs(logits).sum(1)) * square).sum() - (mean**2).sum())


@pytest.mark.parametrize("seed", range(4))
def test_with_the_whole_own_step_the_expected_gradient_is_that_of_the_kl_at_every_step_length(seed):
    policy, ref = tables(seed)
    want = finite_differences(seed)
    for size in SIZES:
        got = expected_gradient(policy, advantages(policy, ref, size))
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert cosine(got, want) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_last_token_of_the_own_step_alone_or_nothing_of_it_is_biased(seed):
    """The released code (`last`) and Theorem 3.3 (`none`); only single tokens have no rest to leave out."""
    policy, ref = tables(seed)
    want = finite_differences(seed)
    last = {size: expected_gradient(policy, advantages(policy, ref, size, own_step="last")) for size in SIZES}
    none = {size: expected_gradient(policy, advantages(policy, ref, size, own_step="none")) for size in SIZES}
    assert cosine(last[1], want) == pytest.approx(1.0, abs=1e-6)
    assert all(cosine(last[size], want) < 0.95 for size in (2, 3, 6))
    assert all(cosine(none[size], want) < 0.95 for size in (1, 2, 3))
    assert (none[6] == 0.0).all()
    assert all(abs(np.linalg.norm(last[size] - want)) > 0.1 * np.linalg.norm(want) for size in (2, 3, 6))


@pytest.mark.parametrize("seed", range(4))
def test_longer_steps_have_more_variance(seed):
    policy, ref = tables(seed)
    found = [variance(policy, advantages(policy, ref, size)) for size in SIZES]
    assert found == sorted(found)
    assert found[-1] > 1.05 * found[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_log_ratio_in_the_loss_has_no_gradient_and_k3_another_one(seed):
    """credit.md 1.8: a penalty is differentiated where the token stands; the draw of the token itself is not."""
    policy, ref = tables(seed)
    want = finite_differences(seed)
    k1, k3 = (loss_gradient(policy, ref, penalty) for penalty in (kl_k1, kl_k3))
    assert np.abs(k1).max() < 1e-12
    assert 0.1 < cosine(k3, want) < 0.9
    weighted = loss_gradient(policy, ref, partial(kl_penalty, kind="k1"), weighted=True)
    assert cosine(weighted, want) < 0.96  # the token's own log-ratio alone: what it leads to is left out


def loss_gradient(policy: np.ndarray, ref: np.ndarray, penalty, *, weighted: bool = False) -> np.ndarray:
    """Expected gradient of minus the penalty of each token over eta, summed over the tokens of a sampled sequence."""
    logits = torch.tensor(policy, requires_grad=True)
    own = logits.log_softmax(-1)[torch.tensor(ROWS.ravel()), torch.tensor(SEQUENCES.ravel())]
    given = {"old_logprobs": own.detach()} if weighted else {}
    cost = penalty(own, torch.tensor(logprobs(ref).ravel()), **given).reshape(SEQUENCES.shape).sum(1)
    drawn = torch.tensor(np.exp(logprobs(policy).sum(1)))
    return torch.autograd.grad(-(drawn * cost).sum() / ETA, logits)[0].numpy()


def test_the_position_baseline_keeps_the_mean_and_lowers_the_variance():
    """Groups of five, drawn 2000 times: the others' mean at the same position does not know the own token."""
    policy, ref = tables(0)
    rng = np.random.default_rng(0)
    probability = np.exp(logprobs(policy).sum(1))
    drawn = rng.choice(len(SEQUENCES), (2000, 5), p=probability / probability.sum())
    kappa = (logprobs(policy) - logprobs(ref))[drawn.ravel()].ravel()
    owner = np.repeat(np.arange(drawn.size), LENGTH)
    layout = Layout(np.arange(len(owner)), owner, np.repeat(np.arange(len(drawn)), 5))
    means, spreads = {}, {}
    for baseline in ("none", "leave_one_out"):
        made = PrlSettings(eta=ETA, baseline=baseline)
        paid = prl(layout, np.ones(drawn.size), kappa, settings=made).reshape(-1, 5, LENGTH)
        means[baseline], spreads[baseline] = group_gradients(policy, drawn, paid)
    want = finite_differences(0)
    for mean in means.values():
        assert cosine(mean, want) > 0.99
        assert (mean * want).sum() / (want**2).sum() == pytest.approx(1.0, abs=0.05)  # a mean with the own has 4 / 5
    assert spreads["leave_one_out"] < 0.9 * spreads["none"]


def group_gradients(policy: np.ndarray, drawn: np.ndarray, paid: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean over groups of the groups' mean gradients, and their variance, summed over parameters."""
    probs, total, square = np.exp(log_softmax(policy)), np.zeros_like(policy), 0.0
    for members, advantage in zip(drawn, paid.astype(np.float64), strict=True):
        own = np.zeros_like(policy)
        rows, taken = ROWS[members].ravel(), SEQUENCES[members].ravel()
        np.add.at(own, (rows, taken), advantage.ravel() / 5.0)
        np.add.at(own, rows, -advantage.ravel()[:, None] / 5.0 * probs[rows])
        total += own
        square += float((own**2).sum())
    mean = total / len(drawn)
    return mean, square / len(drawn) - float((mean**2).sum())

"""The learner under losses whose ratio is taken over sequences, or held fixed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_learner import TINY, Bigram, V, bigram_pack, learner, random_pack, weights

from stepcredit.core.errors import UsageError
from stepcredit.core.pack import Pack
from stepcredit.engines.embedded.model import CausalLM
from stepcredit.engines.learner import LearnerSettings, TorchLearner


def constant_pack(seed: int = 0) -> Pack:
    """`random_pack` with one advantage a sequence."""
    pack = random_pack(seed)
    sequence = np.repeat(np.arange(pack.sequences), np.diff(pack.starts))
    paid = np.random.default_rng(seed + 50).normal(size=pack.sequences)[sequence]
    return replace(pack, advantages=np.where(pack.trained, paid, 0.0))


@pytest.mark.parametrize("preset", ["gspo", "gspo_token", "cispo"])
def test_losses_over_sequences_do_not_depend_on_the_micro_batches(preset: str) -> None:
    pack = constant_pack()
    whole = TorchLearner(CausalLM(TINY), LearnerSettings(0.01).with_preset(preset))
    expected = whole.update(pack)
    for budget in (1, 12, 25):
        split = TorchLearner(CausalLM(TINY), LearnerSettings(0.01, token_budget=budget).with_preset(preset))
        update = split.update(pack)
        assert update.loss == pytest.approx(expected.loss, rel=1e-5)
        assert update.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
        assert torch.allclose(weights(split), weights(whole), atol=2e-4)
        assert (update.clip_low, update.clip_high) == (expected.clip_low, expected.clip_high)


def test_gspo_and_gspo_token_make_the_same_update_of_outcome_credit() -> None:
    wide = {"eps_low": 0.9, "eps_high": 9.0, "reduction": "grpo"}
    one, two = learner(loss="gspo", **wide), learner(loss="gspo_token", **wide)
    first, second = one.update(constant_pack()), two.update(constant_pack())
    assert first.loss == pytest.approx(second.loss, rel=1e-6)
    assert first.grad_norm == pytest.approx(second.grad_norm, rel=1e-5)
    assert torch.allclose(weights(one), weights(two), atol=1e-5)
    assert first.clip_low == second.clip_low < 1


def test_gspo_by_hand_over_packed_sequences() -> None:
    """Old logprobs at half of the present probability: s = 2 in both; -(2 A1 + 2 A2) / 2, and the caps on A > 0."""
    pack = bigram_pack([1.0, -1.0, -1.0, -1.0], old=-math.log(2 * V))
    update = TorchLearner(Bigram(), LearnerSettings(0.0, loss="gspo", reduction="grpo")).update(pack)
    assert update.loss == pytest.approx((-1.28 + 2.0) / 2, rel=1e-6)
    assert (update.clip_low, update.clip_high) == (0.0, 0.25)


def test_per_token_credit_under_gspo_is_refused_by_name() -> None:
    it, pack = learner(loss="gspo"), random_pack()
    before = it.fingerprint
    with pytest.raises(UsageError, match="take loss 'gspo_token', or a credit rule without process rewards"):
        it.update(pack)
    assert (it.fingerprint, it.updates) == (before, 0)
    assert not learner(loss="gspo_token").update(pack).skipped

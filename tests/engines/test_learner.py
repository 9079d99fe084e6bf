import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepcredit.core.errors import EngineError, LayoutError, UsageError
from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Learner
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner, demonstration_pack
from stepcredit.losses.policy import clipped_surrogate, token_weights

V = 7
TINY = ModelConfig(V, dim=8, layers=1, heads=2, kv_heads=1, hidden=12, max_positions=64)


class Bigram(nn.Module):
    """Logits of the next token are a table's row: small enough to work updates by hand."""

    def __init__(self, size: int = V) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(size, size))

    def hidden(self, ids: Tensor, positions: Tensor, starts: Tensor, rows: Tensor) -> Tensor:
        return self.table[ids[rows]]

    def head(self, hidden: Tensor) -> Tensor:
        return hidden


def random_pack(seed: int = 0, sequences: int = 6) -> Pack:
    rng = np.random.default_rng(seed)
    pairs = [(rng.integers(0, V, rng.integers(1, 4)), rng.integers(0, V, rng.integers(1, 9))) for _ in range(sequences)]
    pack = demonstration_pack(pairs)
    holes = pack.trained & (rng.random(len(pack.ids)) > 0.15)
    holes[np.flatnonzero(pack.trained)[:1]] = True
    advantages = np.where(holes, rng.normal(size=len(holes)), 0.0)
    old = np.where(holes, rng.normal(-2.0, 0.3, len(holes)), np.nan)
    return replace(pack, trained=holes, advantages=advantages, old_logprobs=old)


def learner(seed: int = 0, **settings: object) -> TorchLearner:
    return TorchLearner(CausalLM(TINY, seed=seed), LearnerSettings(**({"learning_rate": 0.01} | settings)))


def weights(of: TorchLearner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


def test_is_a_learner() -> None:
    assert isinstance(learner().updates, int)
    _: Learner = learner()


def test_logprobs_are_those_of_each_sequence_alone() -> None:
    it, pack = learner(), random_pack()
    packed = it.logprobs(pack)
    assert np.isnan(packed[~pack.trained]).all()
    for index in range(pack.sequences):
        a, b = pack.starts[index], pack.starts[index + 1]
        ids = torch.tensor(pack.ids[a:b], dtype=torch.int64)
        with torch.no_grad():
            table = it.model(ids, torch.arange(b - a), torch.tensor([0, b - a])).log_softmax(-1)
        alone = table[:-1].gather(1, ids[1:, None])[:, 0].numpy()
        mask = pack.trained[a + 1 : b]
        np.testing.assert_allclose(packed[a + 1 : b][mask], alone[mask], atol=1e-5)


def test_one_update_is_adamw_on_the_whole_loss() -> None:
    it, pack = learner(max_grad_norm=None), random_pack()
    twin = CausalLM(TINY)
    ids = torch.tensor(pack.ids, dtype=torch.int64)
    table = twin(ids, torch.tensor(pack.positions, dtype=torch.int64), torch.tensor(pack.starts)).log_softmax(-1)
    x = torch.tensor(np.flatnonzero(pack.trained))
    cost = clipped_surrogate(
        table[x - 1, ids[x]],
        torch.tensor(pack.old_logprobs)[x],
        torch.tensor(pack.advantages)[x],
        eps_low=0.2,
        eps_high=0.28,
    )
    loss = cost.mean()
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()
    torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.0).step()
    update = it.update(pack)
    assert update.loss == pytest.approx(loss.item(), abs=1e-6)
    assert update.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    assert torch.allclose(weights(it), torch.cat([p.detach().flatten() for p in twin.parameters()]), atol=1e-5)


@pytest.mark.parametrize("reduction", ["token", "grpo", "dr_grpo"])
def test_micro_batches_sum_to_the_whole(reduction: str) -> None:
    pack = random_pack()
    whole = learner(reduction=reduction, max_tokens=10)
    expected = whole.update(pack)
    for budget in (1, 12, 25):
        split = learner(reduction=reduction, max_tokens=10, token_budget=budget)
        update = split.update(pack)
        assert update.loss == pytest.approx(expected.loss, rel=1e-5)
        assert update.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
        assert torch.allclose(weights(split), weights(whole), atol=2e-4)
        assert update.kl_k3 == pytest.approx(expected.kl_k3, rel=1e-4)


def test_head_in_parts_changes_nothing() -> None:
    pack = random_pack()
    whole, parts = learner(), learner(head_rows=3)
    expected, update = whole.update(pack), parts.update(pack)
    assert update.loss == pytest.approx(expected.loss, rel=1e-5)
    assert update.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
    assert np.allclose(learner(head_rows=3).logprobs(pack), learner().logprobs(pack), equal_nan=True, atol=1e-6)


def bigram_pack(advantages: list[float], *, old: float = -math.log(V)) -> Pack:
    """Prompt 0, then one completion token 1 in the first rollout, tokens 1 2 3 in the second."""
    one = np.array
    pack = demonstration_pack([(one([0]), one([1])), (one([0]), one([1, 2, 3]))])
    values = np.zeros(6, np.float32)
    values[pack.trained] = advantages
    return replace(pack, advantages=values, old_logprobs=np.where(pack.trained, old, np.nan))


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({}, -(1 + 2 - 3 + 4) / 4),
        ({"reduction": "grpo"}, -(1 + (2 - 3 + 4) / 3) / 2),
        ({"reduction": "dr_grpo", "max_tokens": 5}, -(1 + 2 - 3 + 4) / 10),
    ],
)
def test_loss_by_hand_on_policy(settings: dict[str, object], loss: float) -> None:
    it = TorchLearner(Bigram(), LearnerSettings(0.0, **settings))
    update = it.update(bigram_pack([1.0, 2.0, -3.0, 4.0]))
    assert update.loss == pytest.approx(loss, rel=1e-6)
    assert (update.rollouts, update.tokens) == (2, 4)
    assert update.entropy == pytest.approx(math.log(V))
    assert (update.kl_k3, update.ess, update.clip_low, update.clip_high) == pytest.approx((0.0, 1.0, 0.0, 0.0))


def test_gradient_by_hand_on_policy_is_reinforce() -> None:
    """Uniform table: the gradient of row 0 is -(A1 + A2) (onehot(1) - 1/V) / 4, of row 1 -A3 (onehot(2) - 1/V) / 4."""
    model = Bigram()
    it = TorchLearner(model, LearnerSettings(0.0, max_grad_norm=None))
    rows: list[Tensor] = []
    model.table.register_post_accumulate_grad_hook(lambda p: rows.append(p.grad.clone()))
    it.update(bigram_pack([1.0, 2.0, -3.0, 0.0]))
    eye = torch.eye(V)
    expected = torch.zeros(V, V)
    expected[0] = -3.0 * (eye[1] - 1 / V) / 4
    expected[1] = 3.0 * (eye[2] - 1 / V) / 4
    assert torch.allclose(rows[0], expected, atol=1e-7)


def test_drift_of_a_known_ratio() -> None:
    """The old policy gave every token half of its present probability: w = 2 everywhere."""
    it = TorchLearner(Bigram(), LearnerSettings(0.0))
    update = it.update(bigram_pack([1.0, 1.0, -1.0, -1.0], old=-math.log(2 * V)))
    assert update.kl_k1 == pytest.approx(-math.log(2), abs=1e-6)
    assert update.kl_k3 == pytest.approx(1 - math.log(2), abs=1e-6)
    assert (update.clip_high, update.clip_low, update.ess) == pytest.approx((0.5, 0.0, 1.0))
    assert update.loss == pytest.approx((-1.28 * 2 + 2 * 2) / 4, rel=1e-6)


def test_first_update_after_recomputing_old_logprobs_has_ratio_one() -> None:
    it, pack = learner(), random_pack()
    update = it.update(pack.with_old_logprobs(it.logprobs(pack)))
    assert update.kl_k3 == 0.0
    assert update.log_ratio_p99 == 0.0
    assert it.update(pack.with_old_logprobs(it.logprobs(pack))).index == 1


def test_untrained_tokens_have_no_say() -> None:
    pack = random_pack()
    noisy = np.where(pack.trained, pack.old_logprobs, 3.0)
    one, two = learner(), learner()
    assert one.update(pack) == two.update(pack.with_old_logprobs(noisy))
    assert torch.equal(weights(one), weights(two))


def test_penalty_at_the_reference_is_zero_and_by_hand_elsewhere() -> None:
    settings = LearnerSettings(0.0, kl="k3", beta=0.5)
    pack = bigram_pack([0.0] * 4)
    at = replace(pack, ref_logprobs=pack.old_logprobs)
    update = TorchLearner(Bigram(), settings).update(at)
    assert update.loss == pytest.approx(0.0, abs=1e-7)
    assert update.grad_norm == pytest.approx(0.0, abs=1e-7)
    away = replace(pack, ref_logprobs=pack.old_logprobs - np.float32(0.5))
    update = TorchLearner(Bigram(), settings).update(away)
    assert update.loss == pytest.approx(0.5 * (math.exp(-0.5) - 0.5), rel=1e-5)


def test_penalty_pulls_towards_the_reference() -> None:
    pack = bigram_pack([0.0] * 4)
    pack = replace(pack, ref_logprobs=np.where(pack.trained, math.log(0.6), np.nan))
    for kind, weighted in (("k1", True), ("k2", False), ("k3", False)):
        it = TorchLearner(Bigram(), LearnerSettings(0.1, kl=kind, kl_weighted=weighted, beta=1.0))
        gaps = []
        for _ in range(3):
            it.update(pack)
            gaps.append(abs(it.logprobs(pack)[1] - math.log(0.6)))
        assert gaps[2] < gaps[1] < gaps[0] < abs(-math.log(V) - math.log(0.6))


def test_gradient_is_clipped_and_its_norm_reported_unclipped() -> None:
    free, held = learner(optimiser="muon", matrix_learning_rate=0.01, max_grad_norm=None), learner(max_grad_norm=1e-3)
    pack = random_pack()
    assert held.update(pack).grad_norm == pytest.approx(free.update(pack).grad_norm, rel=1e-5)
    moments = [state["exp_avg"] for opt, _ in held._optimisers for state in opt.state.values()]
    total = torch.cat([m.flatten() for m in moments]).norm() / (1 - 0.9)
    assert total.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_loaded_state_goes_on_bit_identically(optimiser: str) -> None:
    settings = {"optimiser": optimiser, "matrix_learning_rate": 0.02, "token_budget": 16}
    packs = [random_pack(seed) for seed in range(5)]
    straight = learner(**settings)
    for pack in packs[:2]:
        straight.update(pack)
    state = straight.state()
    assert state == straight.state()
    resumed = learner(9, **settings)
    resumed.load(state)
    assert resumed.fingerprint == straight.fingerprint
    assert [straight.update(pack) for pack in packs[2:]] == [resumed.update(pack) for pack in packs[2:]]
    assert torch.equal(weights(straight), weights(resumed))
    assert straight.state() == resumed.state()


def test_load_restores_torchs_random_state_and_keeps_settings() -> None:
    one = learner(learning_rate=0.5)
    one.update(random_pack())
    state = one.state()
    expected = torch.rand(3)
    other = learner(learning_rate=0.25)
    other.load(state)
    assert torch.equal(torch.rand(3), expected)
    assert other.update(random_pack()).learning_rate == 0.25


def test_a_foreign_state_is_refused_and_nothing_changes() -> None:
    it = learner()
    before = it.fingerprint
    wider = TorchLearner(CausalLM(replace(TINY, dim=16)), LearnerSettings(0.01))
    muon = learner(optimiser="muon", matrix_learning_rate=0.1)
    state = it.state()
    with pytest.raises(EngineError, match="another architecture"):
        it.load(wider.state())
    with pytest.raises(EngineError, match="optimiser 'muon', this is 'adamw'"):
        it.load(muon.state())
    with pytest.raises(EngineError, match="not a learner state"):
        it.load(b"PK\x03\x04")
    with pytest.raises(EngineError, match="damaged"):
        it.load(state[:-1] + bytes([state[-1] ^ 1]))
    assert (it.fingerprint, it.state()) == (before, state)


def test_fingerprint_follows_the_weights() -> None:
    it, twin = learner(), learner()
    assert it.fingerprint == twin.fingerprint != learner(1).fingerprint
    before = it.fingerprint
    it.update(random_pack())
    assert it.fingerprint != before


def test_a_loss_that_is_not_finite_skips_the_update_and_names_the_sequence() -> None:
    it, pack = learner(), random_pack()
    it.update(pack)
    with torch.no_grad():
        it.model.model.embed_tokens.weight[V - 1] = math.nan
    it._fingerprint = None
    before, moments = it.fingerprint, it.state()
    poisoned = demonstration_pack([(np.array([1]), np.array([2, 3])), (np.array([V - 1]), np.array([1, 2]))])
    update = it.update(poisoned.with_old_logprobs(np.full(6, -2.0, np.float32)))
    assert update.skipped == "loss is nan: the first logprob that is not finite is in sequence 1"
    assert (update.index, it.updates) == (1, 2)
    assert it.fingerprint == before
    it._updates = 1
    assert it.state() == moments
    assert all(p.grad is None for p in it.model.parameters())


def test_a_ratio_that_overflows_is_skipped_by_name() -> None:
    update = TorchLearner(Bigram(), LearnerSettings(0.1)).update(bigram_pack([-1.0] * 4, old=-200.0))
    assert update.skipped == "loss is inf"


def test_a_gradient_that_is_not_finite_skips_the_update() -> None:
    class Root(Bigram):
        def head(self, hidden: Tensor) -> Tensor:
            return hidden.sqrt()

    it = TorchLearner(Root(), LearnerSettings(0.1))
    update = it.update(bigram_pack([1.0] * 4))
    assert update.skipped.startswith("gradient norm is")
    assert not weights(it).any()


def test_a_pack_without_trained_tokens_is_skipped_by_name() -> None:
    it, pack = learner(), random_pack()
    before = it.fingerprint
    update = it.update(replace(pack, trained=np.zeros(len(pack.ids), bool)))
    assert (update.skipped, update.tokens, update.rollouts) == ("no trained tokens", 0, 0)
    assert math.isnan(update.loss)
    assert it.fingerprint == before


def test_unknown_logprobs_are_errors_with_the_mend() -> None:
    pack = random_pack()
    unknown = demonstration_pack([(np.array([1]), np.array([2]))])
    with pytest.raises(UsageError, match=r"1 trained tokens have no old logprob: use pack.with_old_logprobs"):
        learner().update(unknown)
    with pytest.raises(UsageError, match=r"kl 'k3' needs Pack.ref_logprobs"):
        learner(kl="k3", beta=0.1).update(pack)


def test_a_trained_token_without_a_prompt_is_refused() -> None:
    pack = demonstration_pack([(np.array([], np.int32), np.array([2, 3]))])
    with pytest.raises(LayoutError, match="opens its sequence"):
        learner().logprobs(pack)


def test_imitation_starts_at_log_v_and_learns() -> None:
    it = TorchLearner(Bigram(), LearnerSettings(0.3))
    pack = demonstration_pack([(np.array([0]), np.array([1, 2, 3])), (np.array([4]), np.array([5]))])
    first = it.imitate(pack)
    assert first.loss == pytest.approx(math.log(V))
    assert math.isnan(first.kl_k3)
    for _ in range(10):
        last = it.imitate(pack)
    assert last.loss < 0.5 * first.loss


def test_the_learning_rate_follows_the_schedule() -> None:
    it = learner(learning_rate=0.1, schedule="linear", total_updates=3, final_fraction=0.5)
    assert [it.update(random_pack()).learning_rate for _ in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.05])


def test_nothing_to_train_and_half_precision_weights_are_refused() -> None:
    frozen = CausalLM(TINY).requires_grad_(False)
    with pytest.raises(EngineError, match="no weights that require a gradient"):
        TorchLearner(frozen, LearnerSettings(0.1))
    with pytest.raises(EngineError, match="load the model in float32"):
        TorchLearner(CausalLM(TINY).to(torch.bfloat16), LearnerSettings(0.1))
    with pytest.raises(EngineError, match="no matrices inside numbered layers"):
        TorchLearner(Bigram(), LearnerSettings(0.1, optimiser="muon", matrix_learning_rate=0.1))


def test_bf16_autocast_stays_close() -> None:
    pack = random_pack()
    exact, half = learner().logprobs(pack), learner(precision="bf16").logprobs(pack)
    np.testing.assert_allclose(half, exact, atol=0.1)
    assert not learner(precision="bf16").update(pack).skipped


def test_whole_update_weights_match_the_loss_module() -> None:
    it, pack = learner(reduction="grpo"), random_pack()
    columns = it._columns(pack, "grpo")
    counts = torch.tensor(np.add.reduceat(pack.trained.astype(int), pack.starts[:-1]))
    assert torch.equal(columns.weights[torch.tensor(pack.trained)], token_weights(counts, reduction="grpo").float())
    assert not columns.weights[~torch.tensor(pack.trained)].any()


def test_a_policy_learns_to_write_the_rewarded_token() -> None:
    """The whole loop on the smallest policy: draw, reward, standardise, recompute old logprobs, update."""
    model, rng = Bigram(), np.random.default_rng(0)
    it = TorchLearner(model, LearnerSettings(0.1))
    for _ in range(40):
        odds = model.table[0].softmax(0).detach().double().numpy()
        drawn = rng.choice(V, 16, p=odds / odds.sum())
        rewards = (drawn == 3).astype(float)
        pack = demonstration_pack([(np.array([0]), np.array([token])) for token in drawn])
        advantages = np.zeros(len(pack.ids), np.float32)
        advantages[pack.trained] = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        pack = replace(pack, advantages=advantages)
        it.update(pack.with_old_logprobs(it.logprobs(pack)))
    assert model.table[0].softmax(0)[3].item() > 0.9

"""The reward model and its trainer: scores, margins, micro-batches, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stepcredit.core.errors import UsageError
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.reward import Pair, RewardModel, RewardSettings, RewardTrainer, divergence, embeddings, scores
from stepcredit.engines.reward.pairs import margins_of
from stepcredit.losses.pairs import angle_similarity, bradley_terry, margin_ceiling, pcrm

V = 9
TINY = ModelConfig(V, dim=8, layers=1, heads=2, kv_heads=1, hidden=12, max_positions=64)


def reward_model(seed: int = 0) -> RewardModel:
    """A tiny model with a head that is not 0, so that scores differ."""
    model = RewardModel(CausalLM(TINY, seed=seed), width=TINY.dim)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(seed))
    return model


def random_pairs(count: int = 6, seed: int = 0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    pairs = []
    while len(pairs) < count:
        prompt, chosen, rejected = (rng.integers(0, V, rng.integers(1, 7)) for _ in range(3))
        shared = rng.integers(0, V, rng.integers(0, 4))
        chosen, rejected = np.concatenate([shared, chosen]), np.concatenate([shared, rejected])
        if not np.array_equal(chosen, rejected):
            pairs.append(Pair(prompt, chosen, rejected))
    return pairs


def trainer(seed: int = 0, **settings: object) -> RewardTrainer:
    return RewardTrainer(reward_model(seed), RewardSettings(**({"learning_rate": 0.01} | settings)))


def weights(of: RewardTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


def by_hand(it: RewardTrainer, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Scores of both completions' tokens, each sequence read alone."""
    found = [scores(it.model, [np.concatenate([pair.prompt_ids, c])])[0] for c in (pair.chosen_ids, pair.rejected_ids)]
    return found[0][len(pair.prompt_ids) :], found[1][len(pair.prompt_ids) :]


def test_a_new_model_scores_everything_0() -> None:
    model = RewardModel(CausalLM(TINY), width=TINY.dim)
    assert scores(model, [np.array([1, 2, 3])])[0].tolist() == [0.0, 0.0, 0.0]
    it = RewardTrainer(model, RewardSettings(0.01))
    found = it.measure(random_pairs())
    assert (found.accuracy, found.margin, found.loss) == (0.5, 0.0, pytest.approx(np.log(2)))


def test_scores_of_a_sequence_do_not_depend_on_its_company() -> None:
    model = reward_model()
    sequences = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6, 7, 8, 1])]
    together = scores(model, sequences)
    for budget in (1, 4, 99):
        for alone, other in zip(scores(model, sequences, token_budget=budget), together, strict=True):
            np.testing.assert_allclose(alone, other, atol=1e-6)
    assert [len(part) for part in together] == [3, 1, 5]


def test_where_completions_part() -> None:
    assert divergence(np.array([1, 2, 3]), np.array([1, 2, 4, 5])) == 2
    assert divergence(np.array([1, 2]), np.array([1, 2, 4])) == 2
    assert divergence(np.array([3]), np.array([1])) == 0


def test_rows_of_margins_by_hand() -> None:
    """Prompt 7 8, chosen 1 2 3, rejected 1 5: sequences at 0..5 and 5..9, which part at the second token."""
    pair = Pair(np.array([7, 8]), np.array([1, 2, 3]), np.array([1, 5]))
    last = margins_of([pair], reading="last")
    assert (last.chosen.tolist(), last.rejected.tolist()) == ([4], [8])
    after = margins_of([pair], reading="after_split")
    assert (after.chosen.tolist(), after.rejected.tolist(), after.weights.tolist()) == ([3, 4], [8, 8], [0.5, 0.5])
    whole = margins_of([pair, pair], reading="sum")
    assert (whole.chosen.tolist(), whole.rejected.tolist()) == ([2, 3, 4, 11, 12, 13], [7, 8, 16, 17])
    assert (whole.of_chosen.tolist(), whole.pair.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 1])


@pytest.mark.parametrize("reading", ["last", "sum", "after_split"])
@pytest.mark.parametrize("loss", ["bradley_terry", "pcrm"])
def test_the_loss_is_the_mean_over_pairs_of_the_mean_over_their_margins(loss: str, reading: str) -> None:
    it, pairs = trainer(loss=loss, reading=reading), random_pairs()
    expected = []
    for pair, ceiling in zip(pairs, it.ceilings(pairs), strict=True):
        plus, minus = by_hand(it, pair)
        split, end = divergence(pair.chosen_ids, pair.rejected_ids), max(len(plus), len(minus))
        held = [np.append(part, [part[-1]] * (end - len(part)))[split:] for part in (plus, minus)]
        d = {
            "last": np.array([plus[-1] - minus[-1]]),
            "sum": np.array([plus.sum() - minus.sum()]),
            "after_split": held[0] - held[1],
        }[reading]
        margins = torch.tensor(d, dtype=torch.float64)
        cost = bradley_terry(margins) if loss == "bradley_terry" else pcrm(margins, ceiling.double())
        expected.append(cost.mean().item())
    assert it.measure(pairs).loss == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("loss", ["bradley_terry", "pcrm", "rebel"])
def test_micro_batches_sum_to_the_whole(loss: str) -> None:
    pairs, more = random_pairs(), {}
    if loss == "rebel":
        more = {"policy": [(np.array([1, 2]), np.array([3, 4, 5])), (np.array([1]), np.array([6]))]}
    weight = {"policy_weight": 0.1} if loss == "rebel" else {}
    whole = trainer(loss=loss, **weight)
    expected = whole.update(pairs, **more)
    assert not expected.skipped
    for budget in (1, 20, 40):
        split = trainer(loss=loss, token_budget=budget, **weight)
        found = split.update(pairs, **more)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
        assert torch.allclose(weights(split), weights(whole), atol=2e-4)


def test_an_update_lowers_the_loss_and_measuring_changes_nothing() -> None:
    it, pairs = trainer(), random_pairs()
    before, at = weights(it), it.measure(pairs).loss
    assert torch.equal(weights(it), before)
    for _ in range(5):
        it.update(pairs)
    assert it.measure(pairs).loss < at


def test_the_shared_beginning_of_a_pair_has_no_say() -> None:
    """Sums cancel on it and the reading after the split leaves it out: no gradient of it beyond the context."""
    pair = Pair(np.array([1]), np.array([2, 3, 4]), np.array([2, 3, 5]))
    for reading in ("sum", "after_split"):
        it = trainer(reading=reading)
        plus, minus = by_hand(it, pair)
        assert it.measure([pair]).margin == pytest.approx(plus[-1] - minus[-1], abs=1e-6)


def test_rebel_adds_the_policys_return() -> None:
    """Unverified form: L_BT - lambda times the mean summed score of the policy's rollouts."""
    it, pairs = trainer(loss="rebel", policy_weight=0.25), random_pairs()
    policy = [(np.array([1, 2]), np.array([3, 4, 5])), (np.array([1]), np.array([6]))]
    sums = [scores(it.model, [np.concatenate(both)])[0][len(both[0]) :].sum() for both in policy]
    plain = it.measure(pairs).loss
    assert it.update(pairs, policy=policy).loss == pytest.approx(plain - 0.25 * np.mean(sums), rel=1e-5)


def test_rebels_weight_raises_the_policys_own_return() -> None:
    policy, returns = [(np.array([1, 2]), np.array([3, 4, 5]))], {}
    for weight in (-0.5, 0.5):
        it = trainer(loss="rebel", policy_weight=weight)
        for _ in range(10):
            it.update(random_pairs(), policy=policy)
        returns[weight] = scores(it.model, [np.array([1, 2, 3, 4, 5])])[0][2:].sum()
    assert returns[0.5] > returns[-0.5]


def test_ceilings_take_the_given_likeness_and_else_the_lengths() -> None:
    it = trainer(loss="pcrm")
    pairs = [Pair(np.array([1]), np.array([2, 3]), np.array([4]))]
    near = [replace(pairs[0], similarity=1.0)]
    want = [margin_ceiling(torch.tensor([0.5]), beta3=-17.0).item(), margin_ceiling(torch.tensor([1.0])).item()]
    assert it.ceilings(pairs + near).tolist() == pytest.approx(want)
    assert want == pytest.approx([20 / 0.501 - 17, 20 / 1.001 - 15])
    set_ = trainer(loss="pcrm", beta3=-13.0).ceilings(pairs + near)
    assert set_.tolist() == pytest.approx([20 / 0.501 - 13, 20 / 1.001 - 13])


def test_the_controls_of_the_ceiling_do_not_look_at_the_pair() -> None:
    pairs = [Pair(np.array([k]), np.array([2, 3]), np.array([4])) for k in range(200)]
    assert trainer(loss="pcrm", ceiling="constant").ceilings(pairs).tolist() == [3.0] * 200
    drawn = trainer(loss="pcrm", ceiling="random").ceilings(pairs)
    assert 1.0 <= drawn.min() < 1.05
    assert 1.95 < drawn.max() <= 2.0
    assert drawn.mean().item() == pytest.approx(1.5, abs=0.06)
    assert trainer(loss="pcrm", ceiling="random").ceilings(pairs[::-1]).tolist() == drawn.tolist()[::-1]
    assert trainer(loss="pcrm", ceiling="random", ceiling_seed=1).ceilings(pairs).tolist() != drawn.tolist()


def test_embeddings_tell_near_answers_from_far_ones() -> None:
    model = CausalLM(TINY)
    one, near, far = embeddings(
        model, [np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]), np.array([7, 8, 8, 7])], token_budget=5
    )
    likeness = angle_similarity(torch.stack([one, one, one]), torch.stack([one, near, far]))
    assert likeness[0].item() == pytest.approx(1.0, abs=1e-6)
    assert likeness[0] > likeness[1] > likeness[2]


def test_a_loss_that_is_not_finite_is_not_applied() -> None:
    it = trainer()
    with torch.no_grad():
        it.model.score.weight.fill_(float("nan"))
    before = weights(it)
    assert "loss is nan" in it.update(random_pairs()).skipped
    assert torch.equal(weights(it).nan_to_num(7.0), before.nan_to_num(7.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "bt"}, "loss must be one of bradley_terry, pcrm, rebel, got 'bt'"),
        ({"reading": "mean"}, "reading must be last, sum or after_split, got 'mean'"),
        ({"loss": "rebel"}, "rebel needs one, no other reads it"),
        ({"loss": "pcrm", "policy_weight": 1.0}, "rebel needs one, no other reads it"),
        ({"loss": "pcrm", "ceiling": "none"}, "ceiling must be one of similarity, random, constant, got 'none'"),
        ({"ceiling": "random"}, "ceiling 'random' is a control of pcrm without beta3"),
        ({"token_budget": 0}, "token_budget must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0"),
        ({"optimiser": "muon"}, "needs matrix_learning_rate"),
    ],
)
def test_bad_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RewardSettings(**({"learning_rate": 0.1} | values))


def test_bad_pairs_are_refused() -> None:
    with pytest.raises(UsageError, match="is empty"):
        Pair(np.array([1]), np.array([2]), np.zeros(0))
    with pytest.raises(UsageError, match="are the same"):
        Pair(np.array([1]), np.array([2]), np.array([2]))
    with pytest.raises(UsageError, match="at least one pair"):
        trainer().update([])
    with pytest.raises(UsageError, match="'bradley_terry' got 1 rollouts of the policy"):
        trainer().update(random_pairs(), policy=[(np.array([1]), np.array([2]))])
    with pytest.raises(UsageError, match="'rebel' got 0 rollouts of the policy"):
        trainer(loss="rebel", policy_weight=0.1).update(random_pairs())

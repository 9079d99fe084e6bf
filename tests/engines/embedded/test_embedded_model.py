from itertools import pairwise

import pytest
import torch
from embedded_cases import V, packed, small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from stepcredit.core.errors import UsageError
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.embedded.packing import rectangles

LENGTHS = [5, 17, 1, 6, 30, 17]


def test_size_is_the_one_of_the_spec() -> None:
    assert CausalLM(ModelConfig(62)).n_params == 205_920
    assert CausalLM(ModelConfig(71)).n_params == 207_648


@pytest.mark.parametrize("sizes", [{}, {"kv_heads": 2}, {"kv_heads": 4}, {"layers": 3, "heads": 2}])
def test_a_sequence_does_not_see_its_neighbours(sizes: dict[str, int]) -> None:
    model = small_model(**sizes)
    ids, positions, starts = packed(LENGTHS)
    together = model(ids, positions, starts)
    for first, last in pairwise(starts):
        alone = model(ids[first:last], positions[first:last], torch.tensor([0, last - first]))
        torch.testing.assert_close(together[first:last], alone, atol=1e-5, rtol=1e-5)


def test_gradient_is_the_sum_of_the_sequences_gradients() -> None:
    model = small_model()
    ids, positions, starts = packed(LENGTHS)
    functional.cross_entropy(model(ids, positions, starts), ids, reduction="sum").backward()
    together = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for a, b in pairwise(starts):
        logits = model(ids[a:b], positions[a:b], torch.tensor([0, b - a]))
        functional.cross_entropy(logits, ids[a:b], reduction="sum").backward()
    for parameter, gradient in zip(model.parameters(), together, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-4, rtol=1e-4)


def test_gradient_follows_finite_differences() -> None:
    model = small_model().double()
    model.rope = model.rope.double()
    ids, positions, starts = packed([4, 7, 6])
    weight = model.model.layers[0].self_attn.k_proj.weight

    def loss() -> torch.Tensor:
        return functional.cross_entropy(model(ids, positions, starts), ids)

    loss().backward()
    expected = weight.grad[2, 5].item()
    with torch.no_grad():
        weight[2, 5] += 1e-5
        above = loss().item()
        weight[2, 5] -= 2e-5
        below = loss().item()
    assert (above - below) / 2e-5 == pytest.approx(expected, rel=1e-4)


def test_later_tokens_do_not_change_earlier_rows() -> None:
    model = small_model()
    ids, positions, starts = packed([9])
    before = model(ids, positions, starts)
    ids[5] = (ids[5] + 1) % V
    after = model(ids, positions, starts)
    assert torch.equal(before[:5], after[:5])
    assert not torch.allclose(before[5:], after[5:])


def test_only_distances_between_positions_matter() -> None:
    model = small_model()
    ids, positions, starts = packed([9])
    torch.testing.assert_close(model(ids, positions, starts), model(ids, positions + 7, starts), atol=1e-4, rtol=1e-4)


def test_equal_seeds_give_equal_weights() -> None:
    one, two, other = (small_model(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_embedding_starts_with_its_own_spread() -> None:
    model = CausalLM(ModelConfig(500, embedding_std=0.5))
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("sizes", [{"dim": 10}, {"heads": 4, "dim": 12}, {"kv_heads": 3}, {"layers": 0}])
def test_sizes_that_do_not_fit_are_named(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"heads|at least 1"):
        ModelConfig(V, **sizes)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_token_has_one_slot(lengths: list[int]) -> None:
    starts = torch.tensor([0, *lengths]).cumsum(0)
    plan = rectangles(starts, device=torch.device("cpu"))
    assert torch.equal(plan.token_of_slot[plan.slot_of_token], torch.arange(int(starts[-1])))
    assert len(plan.token_of_slot) == sum(count * width for count, width in plan.shapes) <= 1.25 * sum(lengths)


def test_half_precision_runs() -> None:
    model = small_model().to(torch.bfloat16)
    ids, positions, starts = packed(LENGTHS)
    full = small_model()(ids, positions, starts)
    torch.testing.assert_close(model(ids, positions, starts).float(), full, atol=0.5, rtol=0.1)

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.engines.learner.packing import demonstration_pack, micro_batches, trained_of_sequence

CPU = torch.device("cpu")


def _pack(lengths: list[tuple[int, int]]):
    rng = np.random.default_rng(0)
    return demonstration_pack([(rng.integers(0, 9, p), rng.integers(0, 9, c)) for p, c in lengths])


def test_sequences_are_sorted_by_length_and_cut_at_the_budget() -> None:
    pack = _pack([(1, 6), (1, 1), (2, 1), (1, 3)])
    cut = micro_batches(pack, token_budget=9, device=CPU)
    assert [micro.starts.tolist() for micro in cut] == [[0, 2, 5, 9], [0, 7]]
    assert cut[0].origin.tolist() == [8, 11, 13, 14, 15]


def test_a_sequence_above_the_budget_stands_alone() -> None:
    cut = micro_batches(_pack([(1, 6), (1, 1), (1, 9)]), token_budget=3, device=CPU)
    assert [micro.starts.tolist() for micro in cut] == [[0, 2], [0, 7], [0, 10]]


def test_sequences_without_trained_tokens_are_left_out() -> None:
    pack = _pack([(1, 2), (1, 3)])
    trained = pack.trained.copy()
    trained[:3] = False
    cut = micro_batches(replace(pack, trained=trained), token_budget=99, device=CPU)
    assert [micro.starts.tolist() for micro in cut] == [[0, 4]]
    assert trained_of_sequence(replace(pack, trained=trained)).tolist() == [0, 3]


def test_demonstrations_train_on_completions_only() -> None:
    pack = demonstration_pack([(np.array([5, 6]), np.array([7])), (np.array([8]), np.array([9, 1]))])
    assert pack.ids.tolist() == [5, 6, 7, 8, 9, 1]
    assert pack.trained.tolist() == [False, False, True, False, True, True]
    assert pack.positions.tolist() == [0, 1, 2, 0, 1, 2]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12)), min_size=1, max_size=10), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_every_trained_token_comes_once_with_its_predecessor(lengths: list[tuple[int, int]], budget: int) -> None:
    pack = _pack(lengths)
    cut = micro_batches(pack, token_budget=budget, device=CPU)
    assert sorted(np.concatenate([m.origin.numpy() for m in cut]).tolist()) == np.flatnonzero(pack.trained).tolist()
    for micro in cut:
        assert len(micro.ids) <= budget or len(micro.starts) == 2
        assert torch.equal(micro.rows, micro.targets - 1)
        assert np.array_equal(micro.ids[micro.targets].numpy(), pack.ids[micro.origin.numpy()])
        assert np.array_equal(micro.ids[micro.rows].numpy(), pack.ids[micro.origin.numpy() - 1])
        assert (micro.positions[micro.targets] == micro.positions[micro.rows] + 1).all()

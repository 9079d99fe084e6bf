"""The released PRL step by step, in rectangles as a trainer holds them (credit.md 1.3), and its traps (1.7)."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from batches import build
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.layout import Layout
from stepcredit.core.records import Outcome, Problem, Rollout
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.prl import PrlSettings, prl
from stepcredit.steps import Newline

SPLITS = st.sampled_from([1, 2, 5, 64, "n"])
BREAK = 7
"""Token id of a line break that stands alone."""


@dataclass(frozen=True)
class Batch:
    """What the trainer holds: [N, T] ids, log-probabilities and response mask; [N] 1 or 0 and groups."""

    ids: np.ndarray
    old: np.ndarray
    ref: np.ndarray
    mask: np.ndarray
    right: np.ndarray
    groups: np.ndarray

    @property
    def kappa(self) -> np.ndarray:
        return self.old - self.ref


@dataclass(frozen=True)
class Flags:
    """What the trainer is told: `split` is a step length, or `n` for line breaks."""

    eta: float = 100.0
    split: int | Literal["n"] = 4
    advantage: Literal["orm", "prm"] = "orm"
    estimator: Literal["prm", "grpo"] = "prm"
    divide: bool = True


def released(batch: Batch, flags: Flags) -> np.ndarray:
    """[N, T] advantages; the numbers of the comments are those of the seven steps."""
    mask = batch.mask.astype(np.float64)
    on = flags.estimator == "prm" and flags.eta > 0.0
    cost = batch.kappa * mask  # 1
    suffix = cost.sum(1, keepdims=True) - np.cumsum(cost, 1) + cost  # 2
    if not on:  # the block is skipped: the estimator sees the outcome alone
        return standardised(batch, flags)[:, None] * mask
    scalar = standardised(batch, flags) if flags.advantage == "orm" else batch.right.astype(np.float64)  # 3
    dense = scalar[:, None] * mask - suffix / flags.eta  # 4
    if flags.advantage == "orm":
        dense = np.where(step_ends(batch, flags), dense, 0.0)  # 5
        dense = filled(dense * mask)  # 6
    return dense * mask  # 7: no whitening, nothing else


def standardised(batch: Batch, flags: Flags) -> np.ndarray:
    out = batch.right.astype(np.float64)
    for group in np.unique(batch.groups):
        own = batch.groups == group
        mean, std = (out[own].mean(), out[own].std(ddof=1)) if own.sum() > 1 else (0.0, 1.0)
        out[own] = (out[own] - mean) / ((std + 1e-6) if flags.divide else 1.0)
    return out


def step_ends(batch: Batch, flags: Flags) -> np.ndarray:
    width = batch.mask.shape[1]
    if flags.split == "n":
        ends = batch.ids == BREAK
    else:
        ends = np.broadcast_to((np.arange(width) + 1) % flags.split == 0, batch.mask.shape).copy()
    ends[np.arange(len(ends)), batch.mask.sum(1) - 1] = True  # the last response token, by a sum of the mask
    return ends


def filled(rewards: np.ndarray) -> np.ndarray:
    """Every token takes the next value on its right that is not zero."""
    out = rewards.copy()
    for row in out:
        following = 0.0
        for t in reversed(range(len(row))):
            following = row[t] if row[t] != 0.0 else following
            row[t] = following
    return out


@st.composite
def drawn(draw: st.DrawFn) -> Batch:
    """2 to 6 responses of 1 to 12 tokens in groups of one or more, padded to the right."""
    lengths = np.array(draw(st.lists(st.integers(1, 12), min_size=2, max_size=6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (len(lengths), int(lengths.max()) + draw(st.integers(0, 3)))
    ids = np.where(rng.random(shape) < 0.3, BREAK, rng.integers(10, 20, shape))
    old, ref = rng.normal(-1.0, 1.0, (2, *shape))
    groups = np.unique(np.sort(rng.integers(0, 2, len(lengths))), return_inverse=True)[1]
    mask = np.arange(shape[1]) < lengths[:, None]
    return Batch(ids, old, ref, mask, rng.integers(0, 2, len(lengths)), groups)


def layout_of(batch: Batch, flags: Flags) -> Layout:
    """The same steps as an index."""
    parts: list[list[int]] = []
    for ids, mask in zip(batch.ids, batch.mask, strict=True):
        own = ids[mask]
        if flags.split == "n":
            ends = sorted({*np.flatnonzero(own == BREAK).tolist(), len(own) - 1})
            parts.append(np.diff([-1, *ends]).tolist())
        else:
            parts.append([min(flags.split, len(own) - at) for at in range(0, len(own), flags.split)])
    return build(parts, batch.groups.tolist())


def compared(batch: Batch, got: np.ndarray, want: np.ndarray) -> None:
    """Groups of one are unknown to us; the code lets them keep their raw reward."""
    alone = np.isin(batch.groups, np.flatnonzero(np.bincount(batch.groups) == 1))
    lonely = np.repeat(alone, batch.mask.sum(1))
    np.testing.assert_allclose(got[~lonely], want[batch.mask][~lonely], rtol=1e-5, atol=1e-5)
    assert np.isnan(got[lonely]).all()


@given(
    batch=drawn(), split=st.sampled_from([1, 2, 5, 64, "n"]), eta=st.sampled_from([1.0, 200.0]), divide=st.booleans()
)
@settings(max_examples=80, deadline=None)
def test_every_step_of_the_released_code_gives_our_rule_with_the_last_token_of_the_own_step(batch, split, eta, divide):
    flags = Flags(eta=eta, split=split, divide=divide)
    made = PrlSettings(eta=eta, own_step="last", std="sample" if divide else "none", epsilon=1e-6 if divide else 0.0)
    signs = 2.0 * batch.right - 1.0
    got = prl(layout_of(batch, flags), signs, batch.kappa[batch.mask], settings=made)
    compared(batch, got, released(batch, flags))


@given(batch=drawn(), eta=st.sampled_from([1.0, 200.0]))
@settings(max_examples=40, deadline=None)
def test_process_reward_first_is_dense_and_has_no_baseline_at_all(batch, eta):
    """Trap 2: the paper standardises there, the code does not."""
    flags = Flags(eta=eta, advantage="prm")
    made = PrlSettings(eta=eta, order="process_first")
    got = prl(layout_of(batch, flags), 2.0 * batch.right - 1.0, batch.kappa[batch.mask], settings=made)
    np.testing.assert_allclose(got, released(batch, flags)[batch.mask], rtol=1e-5, atol=1e-5)


@given(batch=drawn(), flags=st.sampled_from([Flags(estimator="grpo"), Flags(eta=0.0), Flags(eta=-1.0)]))
@settings(max_examples=40, deadline=None)
def test_under_another_estimator_or_without_eta_the_flags_of_prl_do_nothing(batch, flags):
    """Traps 2 and 11: a run named PRL whose estimator is `grpo` is GRPO."""
    want = grpo(layout_of(batch, flags), 2.0 * batch.right - 1.0, settings=GrpoSettings(std="sample", epsilon=1e-6))
    compared(batch, want, released(batch, flags))


@given(batch=drawn())
@settings(max_examples=40, deadline=None)
def test_only_in_single_tokens_does_the_code_hold_the_whole_own_step(batch):
    """Trap 1: with longer steps it leaves out all of the own step but its last token."""
    for split in (1, 3):
        flags = Flags(eta=1.0, split=split)
        layout = layout_of(batch, flags)
        whole = prl(layout, 2.0 * batch.right - 1.0, batch.kappa[batch.mask], settings=PrlSettings(eta=1.0))
        kappa = batch.kappa[batch.mask]
        inside = np.add.reduceat(kappa, layout.step_token_starts[:-1]) - kappa[layout.step_token_starts[1:] - 1]
        code = released(batch, flags)[batch.mask]
        known = np.isfinite(whole)
        np.testing.assert_allclose((code - whole)[known], inside[layout.step_of_token][known], atol=1e-4)
        assert split > 1 or not inside.any()


def one(ids: list[int], kappa: list[float], mask: list[int]) -> Batch:
    """A right and a wrong response of the same tokens; the standardised outcomes are +-1 / sqrt(2)."""
    pair = [np.array([row, row]) for row in (ids, kappa, mask)]
    return Batch(
        pair[0], pair[1].astype(float), np.zeros((2, len(ids))), pair[2] == 1, np.array([1, 0]), np.zeros(2, int)
    )


def test_a_step_end_of_exactly_zero_is_lost_by_the_code_and_kept_by_us():
    """Trap 6: the fill takes the next value that is not zero, that of the step after."""
    batch = replace(one([1, 1, 1, 1], [0.0, -1.0, 0.5, 0.5], [1, 1, 1, 1]), right=np.array([1, 1]))
    code = released(batch, Flags(eta=1.0, split=2))
    assert code[0].tolist() == [-0.5] * 4
    layout, made = build([[2, 2], [2, 2]], [0, 0]), PrlSettings(eta=1.0, own_step="last")
    ours = prl(layout, np.array([1.0, 1.0]), batch.kappa.ravel(), settings=made)
    assert ours[:4].tolist() == [0.0, 0.0, -0.5, -0.5]


def test_with_a_hole_in_the_mask_the_code_takes_the_wrong_last_token():
    """Trap 7: the sum of the mask less 1 is the last token only where the mask has no hole: the tail earns nothing."""
    batch = one([1, 1, 1, 1, 1], [0.1, 0.2, 9.0, 0.3, 0.4], [1, 1, 0, 1, 1])
    code = released(batch, Flags(eta=10.0, split=64))
    assert code[:, 4].tolist() == [0.0, 0.0]
    written = np.array([1, 1, 0, 1, 1] * 2, float)
    ours = prl(build([[5], [5]], [0, 0]), np.array([1.0, -1.0]), batch.kappa.ravel(), trained=written,
               settings=PrlSettings(eta=10.0, own_step="last", epsilon=1e-6))  # fmt: skip
    np.testing.assert_allclose(ours[:5], (2.0**-0.5 - 0.04) * written[:5], atol=1e-5)


def test_an_empty_response_has_no_last_token():
    """Trap 7: its mask sums to 0, and index -1 is the end of the padding; we have no step there."""
    batch = replace(one([1, 1], [0.5, 0.5], [1, 1]), mask=np.array([[True, True], [False, False]]))
    assert step_ends(batch, Flags(split=64))[1].tolist() == [False, True]
    layout = Layout(np.zeros(2), np.zeros(1), np.zeros(2))
    ours = prl(layout, np.array([1.0, -1.0]), np.array([0.5, 0.5]), settings=PrlSettings(eta=10.0))
    np.testing.assert_allclose(ours, 2.0**-0.5 - 0.1, atol=1e-5)


def test_a_line_break_inside_a_longer_token_is_missed_by_the_code_and_found_in_the_text():
    """Trap 5: `.` and a break may be one token, and so may two breaks; one exact id finds neither."""
    pieces = ["a", ".\n", "b", "\n\n", "c", "\n", "d"]
    ids = np.array([11, 12, 13, 14, 15, BREAK, 16])
    starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
    batch = one(ids.tolist(), [0.0] * 7, [1] * 7)
    assert np.flatnonzero(step_ends(batch, Flags(split="n"))[0]).tolist() == [5, 6]
    rollout = Rollout("r", Problem("p", "?", "1"), "g", 0, "".join(pieces), np.array([0]), ids, starts)
    assert Newline().split(Outcome(rollout, "right")).starts.tolist() == [0, 2, 4, 6]

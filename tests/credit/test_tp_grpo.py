"""TP-GRPO: the test vectors of tp_grpo.md 1.6, the suffix-sum version as oracle, and every dial."""

import math
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.tp_grpo import TpGrpoSettings, accuracy_of_group, outcome_part, tp_grpo

PAPER = TpGrpoSettings()
STEP = TpGrpoSettings(unit="step")
FLAG = {"C": 0.0, "M": 0.0, "I": 1.0, "U": 1.0, "?": np.nan}


def group_with(units: str, *, right: int, size: int = 8) -> tuple[Layout, np.ndarray, np.ndarray]:
    """A group of which `right` are right; the first rollout has these units of one token, the others one each."""
    first = 1.0 if set(units) & {"C", "I"} else -1.0
    rest = [1.0] * (right - (first > 0)) + [-1.0] * (size - right - (first < 0))
    owners = [0] * len(units) + list(range(1, size))
    flags = np.array([FLAG[unit] for unit in units] + [0.0] * (size - 1))
    layout = Layout(np.arange(len(owners)), np.array(owners), np.zeros(size))
    return layout, np.array([first, *rest]), flags


def credit_of(units: str, *, right: int, settings: TpGrpoSettings = PAPER, size: int = 8) -> list[float]:
    layout, rewards, flags = group_with(units, right=right, size=size)
    return tp_grpo(layout, rewards, flags, settings=settings)[: len(units)].round(4).tolist()


@pytest.mark.parametrize(
    ("units", "right", "want"),
    [
        ("CICIC", 5, [0.7746, 0.1496, 0.7746, 0.1496, 0.7746]),
        ("IC", 5, [0.1496, 0.7746]),
        ("MUMUM", 5, [-1.2910, 0, -1.2910, 0, -1.2910]),
        ("CIC", 7, [0.3780, -0.4970, 0.3780]),
        ("CIC", 1, [2.6458, 2.5208, 2.6458]),
        ("CIC", 8, [0, -1, 0]),
        ("MUM", 0, [0, 0, 0]),
    ],
)
def test_vectors_of_the_spec(units, right, want):
    assert credit_of(units, right=right) == pytest.approx(want, abs=1e-6)


def test_vectors_of_the_spec_at_step_level():
    want = [-1.1004, -1.7254, -2.3504, -1.7254, -1.1004, -0.4754, 0.1496, 0.7746]
    assert credit_of("CCIIIIIC", right=5, settings=STEP) == pytest.approx(want, abs=1e-6)


def test_vectors_of_the_spec_with_the_sample_std():
    sample = TpGrpoSettings(std="sample")
    assert credit_of("CIC", right=5, settings=sample) == pytest.approx([0.7246, 0.0996, 0.7246], abs=1e-6)
    assert credit_of("MUM", right=5, settings=sample) == pytest.approx([-1.2076, 0, -1.2076], abs=1e-6)


# --- the suffix-sum version, literally: rewards at the last token of each thought ---------------------------------


def suffix_sums(layout: Layout, rewards: np.ndarray, flags: np.ndarray, settings: TpGrpoSettings) -> np.ndarray:
    """Section 1.6 word for word, one rollout and one token at a time."""
    out = np.zeros(layout.tokens)
    for rollout in range(layout.rollouts):
        mates = rewards[layout.group_of_rollout == layout.group_of_rollout[rollout]]
        deviation = mates.std()
        outcome = 0.0 if deviation < 1e-6 else (rewards[rollout] - mates.mean()) / deviation
        accuracy = (mates > 0).mean()
        size = settings.alpha * (accuracy if settings.scale == "adaptive" else 1.0) if rewards[rollout] > 0 else outcome
        tokens = np.flatnonzero(layout.rollout_of_token == rollout)
        labels = flags[layout.step_of_token[tokens]]
        thoughts = [list(run) for _, run in groupby(range(len(tokens)), key=lambda index: labels[index])]
        paid = np.zeros(len(tokens))
        for thought in thoughts[:-1]:
            paid[thought[-1]] += settings.process_weight * (-size if labels[thought[-1]] else size)
        paid[-1] += outcome
        for index in range(len(tokens)):
            out[tokens[index]] = paid[index:].sum()
    return out


@st.composite
def judged_batches(draw: st.DrawFn) -> tuple[Layout, np.ndarray, np.ndarray]:
    """Groups with outcomes and flags; the last step of each rollout is correct or matched, as the judge owes."""
    sizes = draw(st.lists(st.integers(2, 5), min_size=1, max_size=3))
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    counts = [draw(st.integers(1, 6)) for _ in groups]
    lengths = [draw(st.integers(1, 3)) for _ in range(sum(counts))]
    owners = np.repeat(np.arange(len(groups)), counts)
    layout = Layout(np.repeat(np.arange(len(lengths)), lengths), owners, np.array(groups))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    flags = rng.integers(0, 2, layout.steps).astype(np.float32)
    flags[layout.step_starts[1:] - 1] = 0.0
    return layout, rng.choice([-1.0, 1.0], layout.rollouts), flags


def merged(layout: Layout, flags: np.ndarray) -> tuple[Layout, np.ndarray]:
    """Neighbouring steps of equal flag as one thought."""
    new = np.diff(flags, prepend=-1.0) != 0
    new |= np.diff(layout.rollout_of_step, prepend=-1) != 0
    thought = np.cumsum(new) - 1
    thoughts = Layout(thought[layout.step_of_token], layout.rollout_of_step[new], layout.group_of_rollout, "thought")
    return thoughts, flags[new]


@given(judged_batches(), st.sampled_from(["adaptive", "fixed"]), st.floats(0, 4), st.sampled_from([0.0, 0.5, 1.0]))
def test_closed_form_is_the_suffix_sum_over_thoughts(batch, scale, alpha, weight):
    layout, rewards, flags = batch
    settings = TpGrpoSettings(process_weight=weight, alpha=alpha, scale=scale)
    want = suffix_sums(layout, rewards, flags, settings)
    np.testing.assert_allclose(tp_grpo(layout, rewards, flags, settings=settings), want, atol=1e-5)


@given(judged_batches(), st.sampled_from(["one", "acc", "1-acc"]))
def test_step_unit_telescopes_to_the_closed_form_on_thoughts(batch, relief):
    thoughts, flags = merged(batch[0], batch[2])
    as_steps = replace(thoughts, unit="step")
    closed = tp_grpo(thoughts, batch[1], flags, settings=TpGrpoSettings(incorrect_relief=relief))
    summed = tp_grpo(as_steps, batch[1], flags, settings=TpGrpoSettings(incorrect_relief=relief, unit="step"))
    np.testing.assert_allclose(summed, closed, atol=1e-5)


@given(judged_batches())
def test_merging_changes_no_token(batch):
    layout, rewards, flags = batch
    thoughts, thought_flags = merged(layout, flags)
    on_steps = tp_grpo(layout, rewards, flags, settings=PAPER)
    np.testing.assert_array_equal(tp_grpo(thoughts, rewards, thought_flags, settings=PAPER), on_steps)


@given(judged_batches(), st.sampled_from(["population", "sample", "none"]), st.sampled_from(["thought", "step"]))
def test_process_weight_zero_is_grpo_bit_for_bit_and_reads_no_verdict(batch, std, unit):
    layout, rewards, flags = batch
    settings = TpGrpoSettings(process_weight=0.0, alpha=2.0, std=std, unit=unit)
    want = grpo(layout, rewards, settings=GrpoSettings(std=std)).tobytes()
    for column in (flags, np.full_like(flags, np.nan)):
        assert tp_grpo(layout, rewards, column, settings=settings).tobytes() == want
    assert outcome_part(layout, rewards, settings=settings).tobytes() == want


@given(judged_batches())
def test_propositions_one_and_two(batch):
    layout, rewards, flags = batch
    got = tp_grpo(layout, rewards, flags, settings=PAPER)
    outcome = grpo(layout, rewards, settings=GrpoSettings())
    flagged = flags[layout.step_of_token] == 1
    right = (rewards > 0)[layout.rollout_of_token]
    accuracy = accuracy_of_group(layout, rewards)[layout.group_of_rollout][layout.rollout_of_token]
    np.testing.assert_array_equal(got[~flagged], outcome[~flagged])
    np.testing.assert_allclose(got[flagged & right], (outcome - accuracy)[flagged & right], atol=1e-6)
    np.testing.assert_array_equal(got[flagged & ~right], 0.0)


@pytest.mark.parametrize(
    ("alpha", "flip"), [(0.25, 0.947), (0.5, 0.848), (1.0, 0.682), (1.5, 0.574), (2.0, 0.5), (4.0, 0.345)]
)
def test_incorrect_thoughts_are_pushed_down_from_the_accuracy_of_the_table(alpha, flip):
    def advantage(right: int) -> float:
        return credit_of("IC", right=right, size=1000, settings=TpGrpoSettings(alpha=alpha))[0]

    assert advantage(round(1000 * flip) - 2) > 0 > advantage(round(1000 * flip) + 2)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_without_std_the_sign_flips_at_two_over_two_plus_alpha(alpha):
    settings = TpGrpoSettings(alpha=alpha, std="none")
    flip = 2000 / (2 + alpha)
    assert credit_of("IC", right=math.floor(flip) - 1, size=1000, settings=settings)[0] > 0
    assert credit_of("IC", right=math.ceil(flip) + 1, size=1000, settings=settings)[0] < 0


# --- dials -------------------------------------------------------------------------------------------------------


def test_fixed_scale_forgets_the_accuracy_on_the_correct_side_only():
    fixed = TpGrpoSettings(scale="fixed", alpha=2.0)
    assert credit_of("CIC", right=5, settings=fixed) == pytest.approx([0.7746, -1.2254, 0.7746], abs=1e-6)
    assert credit_of("CIC", right=8, settings=fixed) == pytest.approx([0, -2, 0])
    assert credit_of("MUM", right=5, settings=fixed) == pytest.approx([-1.2910, 0, -1.2910], abs=1e-6)


@pytest.mark.parametrize(
    ("sides", "on_right", "on_wrong"), [("both", 0.1496, 0.0), ("correct", 0.1496, -1.2910), ("incorrect", 0.7746, 0.0)]
)
def test_sides(sides, on_right, on_wrong):
    settings = TpGrpoSettings(sides=sides)
    assert credit_of("IC", right=5, settings=settings) == pytest.approx([on_right, 0.7746], abs=1e-6)
    assert credit_of("UM", right=5, settings=settings) == pytest.approx([on_wrong, -1.2910], abs=1e-6)


@pytest.mark.parametrize(("relief", "share"), [("one", 0.0), ("acc", 3 / 8), ("1-acc", 5 / 8)])
def test_incorrect_relief(relief, share):
    settings = TpGrpoSettings(incorrect_relief=relief)
    assert credit_of("UM", right=5, settings=settings) == pytest.approx([-1.2910 * share, -1.2910], abs=1e-4)
    assert credit_of("IC", right=5, settings=settings) == pytest.approx([0.1496, 0.7746], abs=1e-6)


def test_process_weight_scales_the_process_part():
    half = TpGrpoSettings(process_weight=0.5)
    assert credit_of("IC", right=5, settings=half) == pytest.approx([0.7746 - 0.3125, 0.7746], abs=1e-4)
    assert credit_of("UM", right=5, settings=half) == pytest.approx([-0.6455, -1.2910], abs=1e-4)


@pytest.mark.parametrize(
    ("on_unknown", "want"),
    [
        ("drop", [np.nan] * 4),
        ("outcome_only", [0.7746] * 4),
        ("neutral", [0.1496, 0.7746, 0.1496, 0.7746]),
    ],
)
def test_unknown_verdicts(on_unknown, want):
    got = credit_of("I?IC", right=5, settings=TpGrpoSettings(on_unknown=on_unknown))
    assert got == pytest.approx(want, abs=1e-6, nan_ok=True)


def test_unknown_verdicts_at_step_level_add_nothing_when_neutral():
    settings = TpGrpoSettings(unit="step", on_unknown="neutral")
    assert credit_of("I?IC", right=5, settings=settings) == pytest.approx([-0.4754, 0.1496, 0.1496, 0.7746], abs=1e-6)


def test_unknown_verdicts_do_no_harm_where_they_are_not_read():
    """Side off, or an all-wrong group whose process reward is 0 whatever the verdict says."""
    assert credit_of("I?C", right=5, settings=TpGrpoSettings(sides="incorrect")) == pytest.approx([0.7746] * 3)
    layout, rewards, flags = group_with("MUM", right=0)
    flags[1] = np.nan
    assert (tp_grpo(layout, rewards, flags, settings=PAPER) == 0).all()


def test_a_dropped_rollout_still_counts_in_the_statistics_of_its_group():
    layout, rewards, flags = group_with("?C", right=5)
    got = tp_grpo(layout, rewards, flags, settings=PAPER)
    assert np.isnan(got[:2]).all()
    np.testing.assert_allclose(got[2:], [0.7746] * 4 + [-1.2910] * 3, atol=1e-4)


def test_unscorable_rollouts_leave_the_statistics_and_the_accuracy():
    layout, rewards, flags = group_with("IC", right=5)
    wider = Layout(np.arange(layout.tokens + 1), np.append(layout.rollout_of_step, 8), np.zeros(9))
    got = tp_grpo(wider, np.append(rewards, np.nan), np.append(flags, 1.0), settings=PAPER)
    np.testing.assert_array_equal(got[:-1], tp_grpo(layout, rewards, flags, settings=PAPER))
    assert np.isnan(got[-1])
    np.testing.assert_array_equal(accuracy_of_group(wider, np.append(rewards, np.nan)), [5 / 8])


def test_a_group_without_a_scorable_rollout_has_no_accuracy():
    layout = Layout(np.arange(2), np.arange(2), np.zeros(2))
    assert np.isnan(accuracy_of_group(layout, np.full(2, np.nan))).all()
    assert np.isnan(tp_grpo(layout, np.full(2, np.nan), np.zeros(2), settings=PAPER)).all()


@given(judged_batches())
def test_permuting_rollouts_within_their_group_permutes_their_credit(batch):
    layout, rewards, flags = batch
    turned = np.concatenate([np.flatnonzero(layout.group_of_rollout == g)[::-1] for g in range(layout.groups)])
    steps = np.concatenate([np.flatnonzero(layout.rollout_of_step == r) for r in turned])
    tokens = np.concatenate([np.flatnonzero(layout.step_of_token == s) for s in steps])
    there = Layout(
        np.repeat(np.arange(layout.steps), layout.tokens_of_step[steps]),
        np.repeat(np.arange(layout.rollouts), layout.steps_of_rollout[turned]),
        layout.group_of_rollout,
    )
    got = tp_grpo(there, rewards[turned], flags[steps], settings=PAPER)
    np.testing.assert_allclose(got, tp_grpo(layout, rewards, flags, settings=PAPER)[tokens], atol=1e-6)


# --- what it refuses ---------------------------------------------------------------------------------------------


def test_signals_that_it_would_misread_are_refused():
    layout, rewards, flags = group_with("IC", right=5)
    with pytest.raises(CreditError, match=r"reads rewards \+1 \(right\), -1 \(wrong\) and NaN, got 0"):
        tp_grpo(layout, np.maximum(rewards, 0.0), flags, settings=PAPER)
    with pytest.raises(CreditError, match=r"reads flags 0, 1 and NaN .*, got 0\.5"):
        tp_grpo(layout, rewards, flags * 0.5, settings=PAPER)
    with pytest.raises(CreditError, match="flags: got 8 entries, the layout has 9"):
        tp_grpo(layout, rewards, flags[1:], settings=PAPER)
    with pytest.raises(CreditError, match="needs unmerged steps, got a layout in thoughts"):
        tp_grpo(replace(layout, unit="thought"), rewards, flags, settings=STEP)


def test_settings_are_checked():
    with pytest.raises(UsageError, match="scale = 'adaptve' is unknown; did you mean 'adaptive'"):
        TpGrpoSettings(scale="adaptve")
    for name in ("alpha", "process_weight", "epsilon"):
        with pytest.raises(UsageError, match=f"{name} must be a finite number of at least 0, got nan"):
            TpGrpoSettings(**{name: math.nan})

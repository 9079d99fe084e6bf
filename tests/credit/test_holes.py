"""Masks with holes, and padding (credit.md 3.6): tokens that the policy did not write move no credit of others."""

import numpy as np
import pytest
from batches import Columns, batches, build, columns_for, credit_of
from hypothesis import given, settings
from test_every_rule import NAMES, settings_of

from stepcredit.core.layout import Layout
from stepcredit.credit import RULES, Need

MASKED = [name for name in NAMES if Need.TRAINED in RULES[name].optional]
"""Rules that read which tokens the policy wrote; the others read no token, but for those that count them."""

WEIGHING = ("witness",)
"""Rules that weigh steps by their tokens: there every step gets as many foreign tokens as it has."""

TOKENS = (Need.LOG_RATIO, Need.TOKEN_SCORES)


def with_holes(
    layout: Layout, columns: Columns, rng: np.random.Generator, *, even: bool = False
) -> tuple[Layout, Columns, np.ndarray]:
    """The batch with 0 to 3 foreign tokens strewn into every step, at any place, and which tokens are the old ones."""
    sizes = layout.tokens_of_step + (layout.tokens_of_step if even else rng.integers(0, 4, layout.steps))
    own = [
        np.isin(np.arange(n), rng.choice(n, k, replace=False))
        for n, k in zip(sizes, layout.tokens_of_step, strict=True)
    ]
    written = np.concatenate(own)
    wide = Layout(np.repeat(np.arange(layout.steps), sizes), layout.rollout_of_step, layout.group_of_rollout)
    found = {need: column for need, column in columns.items() if need not in TOKENS}
    for need in TOKENS:
        found[need] = np.full(wide.tokens, np.nan)
        found[need][written] = columns[need]
    return wide, found | {Need.TRAINED: written.astype(np.float64)}, written


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches(smallest=2))
@settings(max_examples=25, deadline=None)
def test_holes_in_the_mask_change_no_credit_of_the_tokens_beside_them(name, batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    columns = {**columns_for(layout, rng), Need.TRAINED: np.ones(layout.tokens)}
    wide, holed, written = with_holes(layout, columns, rng, even=name in WEIGHING)
    ways = [settings_of(name), *([RULES[name].settings()] if name in MASKED else [])]
    for made in ways:
        want = credit_of(RULES[name], layout, columns, made)
        got = credit_of(RULES[name], wide, holed, made)
        np.testing.assert_allclose(got[written], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MASKED)
@given(batch=batches(smallest=2))
@settings(max_examples=25, deadline=None)
def test_what_a_foreign_token_holds_is_never_read(name, batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    columns = {**columns_for(layout, rng), Need.TRAINED: np.ones(layout.tokens)}
    wide, holed, written = with_holes(layout, columns, rng)
    other = dict(holed)
    for need in TOKENS:
        other[need] = np.where(written, holed[need], rng.normal(0.0, 1e6, wide.tokens))
    made = RULES[name].settings()
    unread, read = credit_of(RULES[name], wide, holed, made), credit_of(RULES[name], wide, other, made)
    np.testing.assert_array_equal(read[written], unread[written])


@pytest.mark.parametrize("name", ["prl", "pure", "prime"])
@given(batch=batches(smallest=2))
@settings(max_examples=25, deadline=None)
def test_a_longer_neighbour_which_would_widen_the_rectangle_changes_nothing(name, batch):
    """Padding invariance of FRPO, PURE and PRIME: a batch is padded to its longest response, a Layout is not."""
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    longest = max(sum(parts) for parts in rollouts)
    wider = build([*rollouts, [longest, longest], [1]], [*groups, max(groups) + 1, max(groups) + 1])
    columns = columns_for(wider, rng)
    first = {need: column[: need.length_in(layout)] for need, column in columns.items()}
    whole = credit_of(RULES[name], wider, columns, settings_of(name))
    alone = credit_of(RULES[name], layout, first, settings_of(name))
    np.testing.assert_allclose(whole[: layout.tokens], alone, rtol=1e-4, atol=1e-5)

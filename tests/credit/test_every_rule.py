"""What holds of every rule of the table, whatever it pays (credit.md 3.6, the ones to add included)."""

from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from batches import batches, build, columns_for, credit_of, moved
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit import RULES, Need
from stepcredit.credit.additive import check_additive
from stepcredit.credit.rlsp import RlspSettings

NAMES = sorted(RULES)
PROCESS = sorted(name for name, rule in RULES.items() if {"process_weight"} & {f.name for f in fields(rule.settings)})
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def settings_of(name: str, **changes: Any) -> Any:
    """Settings of a rule; whitening and PRIME's scale, which mix groups, are off."""
    made = RULES[name].settings()
    if hasattr(made, "process_scale"):
        changes["process_scale"] = "none"
    if hasattr(made, "whiten"):
        changes["whiten"] = False
    return replace(made, **changes)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches())
@settings(max_examples=25, deadline=None)
def test_credit_is_float32_one_a_token_and_no_signal_is_written_to(name, batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    got = credit_of(RULES[name], layout, columns_for(layout, rng), RULES[name].settings())
    assert (got.dtype, got.shape) == (np.float32, (layout.tokens,))


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_order_of_rollouts_in_a_group_and_of_groups_changes_no_credit(name, batch, data):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    columns = columns_for(layout, rng)
    members = [np.flatnonzero(layout.group_of_rollout == group) for group in range(layout.groups)]
    order = np.concatenate([data.draw(st.permutations(list(m))) for m in data.draw(st.permutations(members))])
    after, turned, tokens = moved(layout, columns, order)
    for made in (settings_of(name), RULES[name].settings()):
        want = credit_of(RULES[name], layout, columns, made)
        np.testing.assert_allclose(credit_of(RULES[name], after, turned, made), want[tokens], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches(smallest=2))
@settings(max_examples=25, deadline=None)
def test_a_group_is_credited_as_if_it_were_alone(name, batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    columns = columns_for(layout, rng)
    whole = credit_of(RULES[name], layout, columns, settings_of(name))
    size = int((layout.group_of_rollout == 0).sum())
    alone = build(rollouts[:size], groups[:size])
    first = {need: column[: need.length_in(alone)] for need, column in columns.items()}
    got = credit_of(RULES[name], alone, first, settings_of(name))
    np.testing.assert_allclose(got, whole[: alone.tokens], **CLOSE)


@pytest.mark.parametrize("name", PROCESS)
@given(batch=batches())
@settings(max_examples=25, deadline=None)
def test_a_process_weight_of_0_is_the_outcome_part_and_reads_no_process_signal(name, batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    columns = columns_for(layout, rng)
    blank = {need: np.full(len(column), np.nan) for need, column in columns.items()}
    blank |= {need: columns[need] for need in (Need.OUTCOME, Need.TRAINED, Need.NEUTRAL)}
    made = replace(RULES[name].settings(), process_weight=0.0)
    assert RULES[name].outcome_part is not None
    want = RULES[name].outcome_part(layout, columns[Need.OUTCOME], settings=made)
    np.testing.assert_array_equal(credit_of(RULES[name], layout, blank, made), want)
    assert not RULES[name].reads_process(made)
    assert RULES[name].wanted(made) == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_says_of_itself_whether_cutting_a_step_in_two_changes_its_credit(name):
    assert RULES[name].additive is not None
    check_additive(RULES[name], settings_of(name))


def changed(name: str) -> list[Any]:
    """Settings of a rule with one of them changed: every choice and switch, and numbers at 0, .5 and 2."""
    made, out = RULES[name].settings(), []
    for key, kind in get_type_hints(type(made)).items():
        values = {bool: (True, False), float: (0.0, 0.5, 2.0)}.get(kind, get_args(kind))
        for value in values:
            with suppress(UsageError):  # out of range, or not beside the others
                out.append(replace(made, **{key: value}))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_so_under_all_its_settings(name):
    for made in changed(name):
        check_additive(RULES[name], made, seeds=2)


@pytest.mark.parametrize("made", [RULES[name].settings() for name in NAMES] + [RlspSettings(baseline="critic")])
def test_every_rule_says_of_itself_whether_all_tokens_of_a_rollout_get_one_number(made):
    rule = next(rule for rule in RULES.values() if isinstance(made, rule.settings))
    layout = build([[2, 3], [1, 4], [3, 1], [2, 2]], [0, 0, 1, 1])
    drawn = columns_for(layout, np.random.default_rng(5))
    columns = {**drawn, Need.OUTCOME: np.array([1.0, -1.0, -1.0, 1.0]), Need.TRAINED: np.ones(layout.tokens)}
    got = credit_of(rule, layout, columns, made)
    parts = np.split(got, layout.token_starts[1:-1])
    assert rule.whole(made) == all(len({*part.tolist()}) == 1 for part in parts)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_nothing_gets_nothing(name):
    layout = Layout(np.zeros(0), np.zeros(0), np.zeros(0))
    got = credit_of(RULES[name], layout, columns_for(layout, np.random.default_rng(0)), RULES[name].settings())
    assert (got.dtype, got.shape) == (np.float32, (0,))


@pytest.mark.parametrize("name", NAMES)
def test_a_rollout_without_tokens_counts_in_its_group_and_gets_no_credit(name):
    """Empty completions have no step; a rule that counts mask sums or looks for the last token trips over them."""
    groups = np.array([0, 0, 0, 1, 1, 1])
    layout = Layout(np.arange(6), np.array([0, 0, 2, 3, 3, 5]), groups)
    written = {Need.TRAINED: np.ones(6)}  # else a group may have one rollout left, and nothing to compare it with
    columns = {**columns_for(layout, np.random.default_rng(1)), **written}
    got = credit_of(RULES[name], layout, columns, settings_of(name))
    assert got.shape == (6,)
    assert np.isfinite(got).all()

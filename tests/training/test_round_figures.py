"""Figures of a round's row: tokens by kind add up, groups without spread are counted, the KL is the KL."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
import pytest

from stepcredit.core.pack import Pack
from stepcredit.core.records import Group, Judgement, Outcome, Problem, Rollout
from stepcredit.credit.rule import Need
from stepcredit.store.ledger import Ledger
from stepcredit.testing import ScriptedLearner, TabularPolicy
from stepcredit.training.history import STAGE, History, RoundRow
from stepcredit.training.parts import CreditSizes, InRound, PaidRound, SpentTokens
from stepcredit.training.round_figures import before_training, start_kl, tokens_so_far, zero_spread
from stepcredit.training.rounds import Watcher
from tests.training.test_rounds import SETTINGS, World, make_world, walk


def group(name: str, *statuses: str, ids: tuple[int, ...] = (1, 2, 3)) -> Group:
    problem = Problem(name, "?", "x")
    column = np.array(ids)
    outcomes = [
        Outcome(Rollout(f"{name}/{i}", problem, name, i, "xxx", np.array([0]), column, np.arange(len(ids))), status)  # type: ignore
        for i, status in enumerate(statuses)
    ]
    return Group(name, tuple(outcomes))


def copy_of(policy: TabularPolicy) -> TabularPolicy:
    frozen = TabularPolicy(policy.size, seed=1)
    frozen.logits = policy.logits.copy()
    return frozen


def start_of(world: World) -> ScriptedLearner:
    """A frozen copy of the policy as it is now."""
    return ScriptedLearner(copy_of(world.policy))


def test_zero_spread_is_the_share_of_groups_with_one_outcome_among_those_that_can_be_compared() -> None:
    groups = [
        group("a", "right", "right"),
        group("b", "right", "wrong"),
        group("c", "wrong", "wrong", "unscorable"),
        group("d", "right", "wrong", "right"),
        group("e", "right", "unscorable"),
    ]
    assert zero_spread(groups) == 2 / 4
    assert zero_spread(groups[-1:]) is None


def test_the_start_kl_is_nothing_until_the_policy_moves_and_then_the_kl_of_the_two_tables(tmp_path: Path) -> None:
    world = make_world()
    world.parts = replace(world.parts, start=start_of(world).logprobs)
    rows = walk(world, tmp_path)
    assert rows[0].start_kl is None
    assert (rows[1].start_kl, rows[1].start_kl_k1) == (0.0, 0.0)
    found = [row.start_kl for row in rows[2:] if row.start_kl is not None]
    assert len(found) == 2
    assert 0 < found[0] < found[1]


def test_k1_and_k3_agree_with_the_exact_kl_on_many_tokens() -> None:
    """Sequences of two tokens after one prompt token: the KL of each token is that of two rows of the tables."""
    world = make_world()
    frozen, random = copy_of(world.policy), np.random.default_rng(3)
    world.policy.logits = world.policy.logits + random.normal(0, 0.7, world.policy.logits.shape)
    table, old = (np.exp(p.logprobs()) for p in (world.policy, frozen))
    groups: list[Group] = []
    exact = 0.0
    for i in range(4000):
        first = random.choice(len(table), p=table[0])
        second = random.choice(len(table), p=table[first])
        exact += sum(table[row] @ np.log(table[row] / old[row]) for row in (0, first))
        groups.append(group(str(i), "right", "wrong", ids=(first, second)))
    exact /= 2 * len(groups)
    found = start_kl(replace(world.parts, start=ScriptedLearner(frozen).logprobs), groups)
    assert found.left_out == 0
    assert found.k1 == pytest.approx(exact, rel=0.1)
    assert found.k3 == pytest.approx(exact, rel=0.1)


def test_log_ratios_that_are_not_finite_are_counted_and_left_out_of_the_mean() -> None:
    world = make_world()
    inner = start_of(world)

    def holed(pack: Pack) -> np.ndarray:
        column = inner.logprobs(pack).copy()
        places = np.flatnonzero(pack.trained)
        column[places[0]], column[places[1]] = -np.inf, np.nan
        return column - np.float32(0.5)

    groups = [group("a", "right", "wrong"), group("b", "wrong", "right")]
    found = start_kl(replace(world.parts, start=holed), groups)
    assert found.left_out == 2
    assert found.k1 == pytest.approx(0.5)
    assert found.k3 == pytest.approx(math.exp(-0.5) - 1 + 0.5, abs=1e-6)
    signals = {Need.LOG_RATIO: {"a/0": np.array([0.1, np.nan, -np.inf]), "a/1": np.array([np.inf, 0.0, 0.0])}}
    assert before_training(world.parts, groups, signals)["guarded_ratios"] == 3
    assert before_training(replace(world.parts, start=holed), groups, signals)["guarded_ratios"] == 5
    assert before_training(world.parts, groups, {})["guarded_ratios"] is None


def test_tokens_by_kind_add_up_over_the_rounds(tmp_path: Path) -> None:
    world, lengths, spent = make_world(), [0], SpentTokens(0, 0)
    trained = [0]

    def told() -> SpentTokens:
        nonlocal spent
        spent = SpentTokens(spent.judge + 10, spent.signal + 3)
        return spent

    world.parts = replace(world.parts, spent=told)
    watcher = Watcher(
        on_credit=lambda _index, credited: lengths.append(sum(len(c.advantages) for c in credited)),
        on_update=lambda update: trained.append(update.tokens),
    )
    rows = walk(world, tmp_path, replace(SETTINGS, passes=2), watcher)
    assert [row.sampled_tokens for row in rows] == np.cumsum(lengths).tolist()
    assert rows[-1].trained_tokens == sum(trained) > (rows[-1].sampled_tokens or 0)
    assert [row.judge_tokens for row in rows] == [10, 20, 30, 40]
    assert [row.signal_tokens for row in rows] == [3, 6, 9, 12]
    assert all(row.sampling_entropy and row.zero_spread is not None for row in rows[1:])
    assert [(row.broken, row.impossible) for row in rows[1:]] == [(0, 0)] * 3


def test_rows_tell_the_sizes_of_the_streams_where_the_rule_can_say_them(tmp_path: Path) -> None:
    asked: list[tuple[float, int]] = []
    world, plain = make_world(), make_world().parts.credit

    def sized(groups: Sequence[Group], judgements: Sequence[Judgement], /, **told: Unpack[InRound]) -> PaidRound:
        assert len(groups) == len({j.steps.rollout.group for j in judgements}) == SETTINGS.problems
        assert not told["signals"]
        asked.append((told["process_weight"], told["round_index"]))
        return replace(plain(groups, judgements, **told), sizes=CreditSizes(0.5 + told["round_index"]))

    world.parts = replace(world.parts, credit=sized)
    rows = walk(world, tmp_path / "told")
    assert [row.outcome_size for row in rows] == [None, 0.5, 1.5, 2.5]
    assert asked == [(1.0, 0), (1.0, 1), (1.0, 2)]
    assert {row.process_size for row in rows} == {None}
    assert {row.outcome_size for row in walk(make_world(), tmp_path / "other")} == {None}


def test_a_cut_run_tells_the_same_tokens(tmp_path: Path) -> None:
    class Cut(Exception):  # noqa: N818 -- stands for a kill
        pass

    def stop(row: RoundRow) -> None:
        if row.index == 1:
            raise Cut

    whole = walk(make_world(), tmp_path / "whole")
    with pytest.raises(Cut):
        walk(make_world(), tmp_path / "cut", watcher=Watcher(on_row=stop))
    again = walk(make_world(), tmp_path / "cut")
    assert [(r.sampled_tokens, r.trained_tokens) for r in again] == [
        (r.sampled_tokens, r.trained_tokens) for r in whole
    ]


NEW = (
    "sampled_tokens", "trained_tokens", "judge_tokens", "signal_tokens", "sampling_entropy", "start_kl", "start_kl_k1",
    "zero_spread", "guarded_ratios", "outcome_size", "process_size", "broken", "impossible",
)  # fmt: skip


def test_rows_of_older_versions_are_read_and_what_they_do_not_tell_stays_unknown(tmp_path: Path) -> None:
    """A run that an older version began goes on: tokens so far are unknown from then on, not counted from nothing."""
    walk(make_world(), tmp_path, replace(SETTINGS, rounds=1))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        old = dict(ledger.items(STAGE))
        for payload in old.values():
            payload["row"] = {name: value for name, value in payload["row"].items() if name not in NEW}
    with Ledger(tmp_path / "old.sqlite") as ledger:
        for key, payload in old.items():
            ledger.put(STAGE, key, payload)
        ledger.flush()
        rows = History.of(ledger).rows
    assert [row.index for row in rows] == [-1, 0]
    assert {getattr(row, name) for row in rows for name in NEW} == {None}
    assert rows[1].kl is not None

    class Nothing:
        outcomes = ()
        updates = ()

    told = tokens_so_far(make_world().parts, rows[-1], Nothing(), Nothing())  # type: ignore
    assert set(told.values()) == {None}

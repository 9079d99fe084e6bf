"""Signals that no record holds: asked for before anything is computed, in the order of the batch, and told of."""

import numpy as np
import pytest
from test_credit_batch import batch, scored

from stepcredit.core.errors import UsageError
from stepcredit.credit import RULES, Need
from stepcredit.credit.batch import assign
from stepcredit.credit.prl import PrlSettings
from stepcredit.credit.scored.line_level import LineLevelSettings
from stepcredit.credit.scored.math_shepherd import MathShepherdSettings
from stepcredit.credit.scored.pure import PureSettings
from stepcredit.credit.scored.vppo import VppoSettings

GROUPS, CUTS = batch({"a": [("right", "CC"), ("wrong", "UM")], "b": [("right", "C"), ("right", "CC")]})
TOKENS = 4 + 4 + 2 + 4
EXACT = {"std": "population", "epsilon": 0.0}


def prl(signals, **settings):
    return assign(GROUPS, CUTS, rule="prl", settings=PrlSettings(eta=1.0, **EXACT, **settings), signals=signals)


def test_log_ratios_reach_prl_in_the_order_of_the_groups():
    kappa = np.arange(TOKENS, dtype=np.float32)
    credited, summary = prl({Need.LOG_RATIO: kappa})
    np.testing.assert_array_equal(credited[0].advantages, [1 - 6, 1 - 6, 1 - 5, 1 - 5])
    np.testing.assert_array_equal(credited[3].advantages, [-46, -46, -25, -25])
    assert credited[0].signals == ("outcome", "log_ratio")
    assert credited[0].judgement is None
    assert (summary.outcome_size, summary.kept) == (pytest.approx(8 / 14), 4)


def test_groups_without_spread_are_counted_and_kept_for_their_log_ratio_alone():
    _, summary = prl({Need.LOG_RATIO: np.ones(TOKENS)})
    assert (summary.flat_groups, summary.flat_kept, summary.kept) == (1, 2, 4)
    _, summary = prl({Need.LOG_RATIO: np.ones(TOKENS)}, zero_spread="drop")
    assert (summary.flat_groups, summary.flat_kept, summary.kept) == (1, 0, 2)
    assert dict(summary.dropped) == {"zero advantage": 2}


def test_a_signal_that_is_missing_is_asked_for_before_anything_is_computed():
    with pytest.raises(UsageError, match=r"rule prl needs Need\.LOG_RATIO \(\[T\], one entry a completion token\);"):
        assign(GROUPS, [*CUTS, CUTS[0]], rule="prl", settings=PrlSettings())
    with pytest.raises(UsageError, match=r"needs Need\.LOG_RATIO .*, Need\.BONUS \(\[N\], one entry a rollout\)"):
        prl({}, bonus_weight=1.0)
    with pytest.raises(UsageError, match=r"rule math_shepherd needs Need\.VALUES \(\[S \+ N\], one entry a node\)"):
        assign(GROUPS, CUTS, rule="math_shepherd", settings=MathShepherdSettings(critic=True))


def test_a_signal_of_the_wrong_length_is_refused_with_the_length_that_fits():
    with pytest.raises(UsageError, match=r"rule prl: Need\.LOG_RATIO is \[T\], .* = \[14\] here, got \[13\]"):
        prl({Need.LOG_RATIO: np.ones(TOKENS - 1)})
    with pytest.raises(UsageError, match=r"got \[14, 1\]"):
        prl({Need.LOG_RATIO: np.ones((TOKENS, 1))})
    with pytest.raises(UsageError, match="signals: outcome is read from the records; leave it out"):
        prl({Need.LOG_RATIO: np.ones(TOKENS), Need.OUTCOME: np.ones(4)})


def test_without_a_process_weight_no_signal_is_asked_for_and_none_is_told_of():
    credited, _ = assign(GROUPS, [], rule="prl", settings=PrlSettings(process_weight=0.0, **EXACT))
    np.testing.assert_array_equal(credited[0].advantages, [1, 1, 1, 1])
    assert credited[0].signals == ("outcome",)


def test_optional_signals_are_read_where_they_are_given():
    trained = np.ones(TOKENS)
    trained[1] = 0.0
    kappa = np.ones(TOKENS)
    kappa[1] = np.nan
    credited, _ = prl({Need.LOG_RATIO: kappa, Need.TRAINED: trained})
    np.testing.assert_array_equal(credited[0].advantages, [-2, 0, -1, -1])
    assert credited[0].signals == ("outcome", "log_ratio", "trained")
    bonus, _ = prl({Need.LOG_RATIO: np.zeros(TOKENS), Need.BONUS: np.array([1.0, 0.0, 0.0, 0.0])}, bonus_weight=1.0)
    np.testing.assert_array_equal(bonus[0].advantages, [2, 2, 2, 2])


def test_a_rollout_with_an_unknown_signal_is_named_as_such():
    kappa = np.ones(TOKENS)
    kappa[3] = np.nan
    credited, summary = prl({Need.LOG_RATIO: kappa})
    assert [credit.note for credit in credited] == ["an unknown signal", "", "", ""]
    assert dict(summary.dropped) == {"an unknown signal": 1}


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("pure", PureSettings()),
        ("vppo", VppoSettings()),
        ("math_shepherd", MathShepherdSettings()),
        ("line_level", LineLevelSettings()),
    ],
)
def test_rules_of_scores_are_paid_from_judgements(rule, settings):
    credited, summary = assign(GROUPS, scored(CUTS, labels=False), rule=rule, settings=settings)
    assert summary.kept >= 1
    assert credited[0].judgement is not None
    assert set(credited[0].signals) == {str(need) for need in RULES[rule].needs}

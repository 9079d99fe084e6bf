"""SPCT's voted scores as credit, and the vote with its meta filter against the judge's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Verdict
from stepcredit.credit.algebra import standardise
from stepcredit.credit.spct import SpctSettings, spct, voted
from stepcredit.judges.outcome.spct import Vote, combined

LAYOUT = Layout(np.array([0, 0, 1, 2]), np.array([0, 1, 2]), np.zeros(3))
VOTES = np.array([[9.0, 4.0, 1.0], [2.0, 8.0, 3.0], [7.0, 7.0, 5.0], [1.0, 2.0, 9.0]])
TRUST = np.array([0.3, -2.0, 1.5, np.nan])


def test_by_hand() -> None:
    """Sums 19, 21, 18: mean 58/3, population variance 14/9."""
    assert voted(VOTES).tolist() == [19.0, 21.0, 18.0]
    found = spct(LAYOUT, voted(VOTES), settings=SpctSettings())
    want = (np.array([19.0, 19.0, 21.0, 18.0]) - 58 / 3) / np.sqrt(14 / 9)
    assert found.tolist() == pytest.approx(want, rel=1e-6)
    assert found.dtype == np.float32


def test_the_meta_filter_keeps_the_best_half() -> None:
    """Of four replies the two most trusted: 0 and 2; an unrated one is never among them."""
    assert voted(VOTES, trust=TRUST).tolist() == [16.0, 11.0, 6.0]
    assert voted(VOTES, trust=TRUST, kept=4).tolist() == [18.0, 19.0, 9.0]
    assert voted(VOTES[:1], trust=TRUST[:1]).tolist() == VOTES[0].tolist()


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4), st.booleans())
@settings(deadline=None)
def test_the_vote_is_the_judges_own(seed, replies, solutions, filtered) -> None:
    random = np.random.default_rng(seed)
    votes = random.integers(1, 11, (replies, solutions)).astype(float)
    votes[random.random(replies) < 0.2] = np.nan
    trust = np.where(random.random(replies) < 0.2, np.nan, random.integers(-2, 3, replies))
    records = [
        Vote(
            tuple(range(solutions)),
            () if np.isnan(scores).any() else tuple(int(score) for score in scores),
            "unread" if np.isnan(scores).any() else "",
            "",
            "c",
            Verdict(reason="unrated") if np.isnan(rating) else Verdict(float(rating)),
        )
        for scores, rating in zip(votes, trust, strict=True)
    ]
    kept = max(1, replies // 2) if filtered else None
    want = [np.nan if verdict.score is None else verdict.score for verdict in combined(records, solutions, kept=kept)]
    found = voted(votes, trust=trust if filtered else None)
    np.testing.assert_array_equal(found, want)


@given(st.integers(0, 2**31), st.floats(0.1, 20), st.floats(-5, 5))
@settings(deadline=None)
def test_sums_and_means_and_any_scale_give_the_same_credit(seed, factor, shift) -> None:
    scores = np.random.default_rng(seed).integers(1, 100, 3).astype(float)
    found = spct(LAYOUT, scores * factor + shift, settings=SpctSettings())
    np.testing.assert_allclose(found, spct(LAYOUT, scores, settings=SpctSettings()), atol=1e-4)


def test_unknown_scores_are_left_out_of_the_group() -> None:
    scores = np.array([np.nan, 5.0, 3.0])
    found = spct(LAYOUT, scores, settings=SpctSettings(std="sample"))
    np.testing.assert_allclose(found, standardise(scores, LAYOUT, std="sample")[[0, 0, 1, 2]], atol=1e-6)
    assert np.isnan(found).tolist() == [True, True, False, False]
    assert spct(LAYOUT, np.ones(3), settings=SpctSettings()).tolist() == [0.0] * 4
    assert np.isnan(voted(np.full((2, 3), np.nan))).all()
    assert np.isnan(voted(VOTES, trust=np.full(4, np.nan))).all()


def test_refused() -> None:
    with pytest.raises(CreditError, match="trust: got 3 entries for 4 replies"):
        voted(VOTES, trust=TRUST[:3])
    with pytest.raises(CreditError, match=r"kept must lie in 1\.\.4 replies, got 5"):
        voted(VOTES, trust=TRUST, kept=5)
    with pytest.raises(CreditError, match="give trust too"):
        voted(VOTES, kept=2)
    with pytest.raises(CreditError, match="got 2 entries, the layout has 3"):
        spct(LAYOUT, np.ones(2), settings=SpctSettings())

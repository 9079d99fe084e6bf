"""Statuses of chains and their counters."""

from stepcredit.judges.thinkprm.labels import StepLabels
from stepcredit.judges.thinkprm.signatures import Chain, ChainCounts, Status, closed


def test_statuses_follow_from_what_was_read():
    right = StepLabels((True,), 1)
    assert closed(Chain(Status.OK, 0.9, right)).status is Status.OK
    assert closed(Chain(Status.OK, 0.9, right, truncated=True)).status is Status.TRUNCATED
    assert closed(Chain(Status.OK, 0.1, right, truncated=True)).status is Status.CONTRADICTS
    assert closed(Chain(Status.OK, 0.9, None)).reason == "the critique lacks a step label"
    assert closed(Chain(Status.OK, None, right)).reason == "the critique lacks yes and no among the named tokens"


def test_counts_add_up_and_name_piled_up_scores():
    piled = [Chain(Status.OK, score) for score in [0.999] * 12 + [0.001] * 7]
    counts = ChainCounts().plus(piled)
    assert (counts.at_one, counts.at_zero, counts.saturation, counts.saturated) == (12, 7, 1.0, False)
    assert counts.plus([Chain(Status.OK, 0.9999)]).saturated
    assert not counts.plus([Chain(Status.OK, 0.5)] * 10).saturated
    more = counts.plus([Chain(Status.LOOP, tokens=7, resampled=True), Chain(Status.TRUNCATED, 0.4, truncated=True)])
    assert dict(more.statuses) == {Status.OK: 19, Status.LOOP: 1, Status.TRUNCATED: 1}
    assert (more.chains, more.scores, more.resampled, more.bounds, more.tokens) == (21, 20, 1, 1, 7)
    assert ChainCounts().saturation is None

"""Votes on replies: several readings of one task made into one, or into the say that they do not agree.

P2, P3 and P4 are voted on, reply by reply; P0 and P1 are asked once.

Source: tp_grpo.md 6, F3 (vote of n = 3 on P2-P4). Differs: what a tie does is ours: it blames and labels nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from stepcredit.judges.intrinsic.replies import Matches, Trace, TracedVerification, Verification

VoteT = TypeVar("VoteT")


def vote_trace(replies: Sequence[Trace]) -> Trace:
    """The source that most replies name, with the evidence of the first of these; none if sources tie.

    Args:
        replies: at least one.

    >>> vote_trace([Trace(2, "a"), Trace(1, "b"), Trace(1, "c")])
    Trace(source=1, evidence='b')
    >>> vote_trace([Trace(2, "a"), Trace(1, "b")])
    Trace(source=None, evidence='')
    """
    source = _most([reply.source for reply in replies])
    evidence = next((reply.evidence for reply in replies if reply.source == source), "")
    return Trace(source, "" if source is None else evidence)


def vote_verification(replies: Sequence[Verification]) -> Verification:
    """A step is wrong if more than half of the replies say so.

    Args:
        replies: at least one, all on the same steps.

    >>> vote_verification([Verification((True, True)), Verification((True, False))])
    Verification(wrong=(True, False))
    """
    ballots = zip(*(reply.wrong for reply in replies), strict=True)
    return Verification(tuple(2 * sum(ballot) > len(ballot) for ballot in ballots))


def vote_traced_verification(replies: Sequence[TracedVerification]) -> TracedVerification:
    """The source as in `vote_trace`; its steps are voted on by the replies that name it.

    Args:
        replies: at least one.

    >>> one, two = TracedVerification(1, "b", (True, True)), TracedVerification(0, "a", (True, False, False))
    >>> vote_traced_verification([two, one, TracedVerification(1, "c", (True, False))])
    TracedVerification(source=1, evidence='b', wrong=(True, False))
    """
    trace = vote_trace([Trace(reply.source, reply.evidence) for reply in replies])
    if trace.source is None:
        return TracedVerification(None, "", ())
    agreed = [Verification(reply.wrong) for reply in replies if reply.source == trace.source]
    return TracedVerification(trace.source, trace.evidence, vote_verification(agreed).wrong)


def vote_matches(replies: Sequence[Matches]) -> tuple[bool | None, ...]:
    """For each step what most replies say, `None` where they tie.

    Args:
        replies: at least one, all on the same steps.

    >>> vote_matches([Matches((True, False)), Matches((True, True))])
    (True, None)
    """
    ballots = zip(*(reply.matched for reply in replies), strict=True)
    return tuple(_most(list(ballot)) for ballot in ballots)


def _most(votes: Sequence[VoteT | None]) -> VoteT | None:
    """The most frequent vote, `None` if several are."""
    ranked = Counter(votes).most_common(2)
    tied = len(ranked) > 1 and ranked[0][1] == ranked[1][1]
    return None if tied else ranked[0][0]

"""Votes of checked attempts: which answers are one answer, and how many attempts are looked at."""

from collections.abc import Sequence

from stepcredit.tasks.equivalence import normalise, same

RIGHT = "\0right"
"""The vote of every attempt that the checker calls right: equal answers in other words are one answer."""


def votes_of(attempts: Sequence[tuple[bool, str | None]]) -> list[str | None]:
    r"""[n] the vote of each attempt at one problem: right ones are one answer, and so are wrong ones that are the same.

    Two wrong answers are the same where text, letters or numbers show it; formulas that only a proof could equate are
    two.

    Args:
        attempts: [n] whether it is right, and its answer as it was read; `None` does not vote, unless it is right.

    Source: own. Differs: none.

    >>> votes_of([(True, "4"), (False, "5"), (False, "5.0"), (False, None)])
    ['\x00right', '5', '5', None]
    """
    known: list[str] = []
    votes: list[str | None] = []
    for right, answer in attempts:
        if right or answer is None:
            votes.append(RIGHT if right else None)
            continue
        said = normalise(answer)
        found = next((other for other in known if other == said or same(other, said)), None)
        if found is None:
            known.append(said)
        votes.append(found or said)
    return votes


def powers(fewest: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to a number, and that number: the k of pass@k and maj@k where none is named.

    >>> powers(6)
    (1, 2, 4, 6)
    """
    return tuple(sorted({2**power for power in range(fewest.bit_length()) if 2**power <= fewest} | {fewest}))

"""What a chain of ThinkPRM wrote, as a rationale: its critique, cut where its step labels stand, and its answer."""

from itertools import pairwise

from stepcredit.core.rationales import Passage, Rationale
from stepcredit.judges.thinkprm.labels import label_ends
from stepcredit.judges.thinkprm.signatures import Chain


def critique_of_solution(chain: Chain, *, number: int, scores: tuple[float | None, ...]) -> Rationale:
    r"""A chain on the whole solution: every step has the stretch of the critique that ends with its label.

    Rounds before the one that the labels are of stand before, and speak of no single step; so does the whole critique
    where its labels are not complete.

    Args:
        chain: as it ended.
        number: of the chain, from 0.
        scores: [K] what it adds to each step's score.

    >>> from stepcredit.judges.thinkprm.labels import StepLabels
    >>> text = r"Step 1: \boxed{correct}. Step 2: 1 + 1 is 3? \boxed{incorrect}. Done"
    >>> chain = Chain("ok", 0.2, StepLabels((True, False), 3), text)
    >>> [(part.step, part.text) for part in critique_of_solution(chain, number=0, scores=(1.0, 0.0, 0.0)).passages]
    [(0, 'Step 1: \\boxed{correct}'), (1, '. Step 2: 1 + 1 is 3? \\boxed{incorrect}. Done')]
    """
    text, start = chain.critique, chain.labels_from
    if chain.labels is None:
        return _rationale(chain, number, first=0, scores=scores, passages=(Passage("written", text),))
    ends = [start + end for end in label_ends(text[start:], len(chain.labels.read))]
    bounds = [start, *ends[:-1], len(text)]
    before = (Passage("written", text[:start]),) if start else ()
    parts = tuple(Passage("written", text[a:b], step) for step, (a, b) in enumerate(pairwise(bounds)))
    return _rationale(chain, number, first=0, scores=scores, passages=(*before, *parts))


def critique_of_prefix(chain: Chain, *, number: int, step: int, score: float | None) -> Rationale:
    """A chain on the steps up to and with one, which alone it scores.

    Args:
        chain: as it ended.
        number: of the chain, from 0.
        step: index of the last step that it read.
        score: what it adds to that step's score.
    """
    passages = (Passage("written", chain.critique, step),)
    return _rationale(chain, number, first=step, scores=(score,), passages=passages)


def _rationale(
    chain: Chain, number: int, *, first: int, scores: tuple[float | None, ...], passages: tuple[Passage, ...]
) -> Rationale:
    said = "" if chain.score is None else f"probability of yes {chain.score:.3f}"
    said += ", a bound" if said and chain.truncated else ""
    ended = str(chain.status) + (f": {chain.reason}" if chain.reason else "")
    ended += "; a second try" if chain.resampled else ""
    kept = tuple(passage for passage in passages if passage.text)
    return Rationale(f"chain {number + 1}", first, scores, kept, said, ended)

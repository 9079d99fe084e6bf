"""Rationales of a run: kept in its ledger as soon as a solution is judged, read back for those that the page shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from stepcredit.core.rationales import Passage, Rationale
from stepcredit.core.records import Judgement
from stepcredit.store.codec import decode, encode, record_id
from stepcredit.store.ledger import Ledger

RATIONALES = "rationale"
"""Stage of the ledger: what the judge told of each solution, under its judgement's key."""

NOT_KEPT = "the run folder holds no text of the judge on this solution"
"""Said where a model judged, and an older version kept the verdicts alone."""

_CUT = "\n[... {left:,} characters are left out here, the run's ledger holds them ...]\n"
_LEAST = 400


@final
@dataclass(frozen=True)
class Told:
    """What the page shows of the judge's texts on one solution.

    Args:
        rationales: cut where the page has no room for all.
        note: why there are none, empty if there are, or if the judge writes none.
    """

    rationales: tuple[Rationale, ...] = ()
    note: str = ""


def keep_rationales(ledger: Ledger, key: str, said: Sequence[Rationale]) -> None:
    """Keep what a judge told, together with its judgement: texts are never lost, nor those of another judging.

    Args:
        ledger: of the run.
        key: of the judgement.
        said: as it was told; nothing leaves no row.
    """
    if said:
        ledger.put(RATIONALES, key, {"said": [encode(rationale) for rationale in said]})


def kept_rationales(ledger: Ledger, key: str) -> tuple[Rationale, ...]:
    """What a judge told of a judgement, empty if nothing was kept.

    Raises:
        StoreError: if the record is damaged.
    """
    payload = ledger.get(RATIONALES, key)
    return () if payload is None else tuple(decode(row) for row in payload["said"])


def told_of(
    ledger: Ledger, judgements: Iterable[Judgement | None], *, characters: int, writes: bool
) -> Mapping[str, Told]:
    """What the page shows of the judge's texts, by rollout id; one solution at a time is read whole.

    Every solution may take an equal share of what is left, so long texts are cut and none is missing.

    Args:
        ledger: of the run.
        judgements: of the solutions that the page shows; `None` where there is none.
        characters: most characters of all texts together.
        writes: True if the judge's model writes texts, so that none are missed.
    """
    found: dict[str, Told] = {}
    judged = [judgement for judgement in judgements if judgement is not None]
    left = characters
    for place, judgement in enumerate(judged):
        said = kept_rationales(ledger, record_id(judgement))
        missed = writes and not said and any(verdict.calls for verdict in judgement.verdicts)
        shown = shortened(said, left // (len(judged) - place)) if characters else ()
        left -= min(left, sum(rationale.characters for rationale in shown))
        found[judgement.steps.rollout.id] = Told(shown, NOT_KEPT if missed else "")
    return found


def shortened(said: Sequence[Rationale], most: int) -> tuple[Rationale, ...]:
    """Rationales whose texts are together about `most` characters: long passages lose their middle.

    Args:
        said: of one solution.
        most: characters; every passage keeps some 400, whatever this is.

    >>> [r.characters for r in shortened([Rationale("a", passages=(Passage("written", "x" * 2000),))], 900)]
    [975]
    """
    passages = sorted((len(part.text) for rationale in said for part in rationale.passages), reverse=True)
    over = sum(passages) - most
    if over <= 0:
        return tuple(said)
    # The longest are cut to one length, at which the sum fits.
    room, number = most, len(passages)
    for size in reversed(passages):
        if size * number > room:
            break
        room, number = room - size, number - 1
    each = max(room // max(number, 1), _LEAST)
    return tuple(replace(r, passages=tuple(_cut(part, each) for part in r.passages)) for r in said)


def _cut(part: Passage, most: int) -> Passage:
    left = len(part.text) - most
    if left <= 0:
        return part
    head = most // 2
    return replace(part, text=part.text[:head] + _CUT.format(left=left) + part.text[head + left :])

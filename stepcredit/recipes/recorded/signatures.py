"""Signatures of failure in a run's summary: what the judge's model did, summed over solutions and sessions."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from stepcredit.judges.tallies import OnTally, Tally
from stepcredit.report.views import TableView
from stepcredit.store.ledger import Ledger

SIGNATURES = "signature"
"""Stage of the ledger: the tally of each solution, once."""

_MANY = 20


def keeper(ledger: Ledger) -> OnTally:
    """Keeps tallies in the ledger; of a solution that is judged again after a kill, the first stays."""

    def keep(rollout: str, tally: Tally) -> None:
        ledger.put(SIGNATURES, rollout, dict(tally))

    return keep


def summed(ledger: Ledger) -> dict[str, int]:
    """All tallies of a run together; empty if its judge counts nothing."""
    total: Counter[str] = Counter()
    for _, tally in ledger.items(SIGNATURES):
        for name, count in tally.items():
            total[name] += count
    return dict(total)


def signature_figures(total: Mapping[str, int]) -> dict[str, Any] | None:
    """The sums, and two shares of them: `saturation` of scores at the ends, `interference` of labels given unseen.

    >>> signature_figures({"loop": 1, "scores": 4, "at_zero": 1, "at_one": 2})["saturation"]
    0.75
    """
    if not total:
        return None
    figures: dict[str, Any] = {**total, "saturation": _saturation(total)}
    if "compared" in total:
        figures["interference"] = total["sunk"] / total["compared"] if total["compared"] else None
    return figures


def signature_table(total: Mapping[str, int]) -> TableView:
    """What happened, as a table; rows that are 0 are left out."""
    rows = tuple((name.replace("_", " "), count) for name, count in total.items() if count)
    return TableView("what the judge's model did", ("what", "number"), rows)


def signature_warnings(total: Mapping[str, int]) -> tuple[str, ...]:
    """One line on each signature that says something about the whole run.

    >>> signature_warnings({"scores": 40, "at_zero": 20, "at_one": 19})[0][:45]
    'warning: 98% of the scores are within 0.01 of'
    """
    lines: list[str] = []
    saturation = _saturation(total)
    if saturation is not None and saturation >= 0.9 and total["scores"] >= _MANY:
        mend = "they order hardly anything; several votes or a fitted decision temperature spread them"
        lines.append(f"warning: {saturation:.0%} of the scores are within 0.01 of 0 or 1: {mend}")
    if total.get("leaks"):
        mend = "is the tokenizer's chat template that of the served model?"
        lines.append(f"warning: {total['leaks']} texts of the model spell out special tokens of a chat; {mend}")
    return tuple(lines)


def _saturation(total: Mapping[str, int]) -> float | None:
    scores = total.get("scores", 0)
    return (total["at_zero"] + total["at_one"]) / scores if scores else None

"""Limits of a walk: solutions that sessions died on are left out; too many unknown verdicts end the walk."""

from collections import Counter
from typing import Literal, final

from stepcredit.core.digests import digest
from stepcredit.core.errors import PartialError
from stepcredit.recipes.recorded.settings import LimitsPart
from stepcredit.recipes.recorded.walk import Walked
from stepcredit.store.run_folder import RunFolder

DEATHS, QUARANTINE = "death", "quarantine"
"""Stages of the ledger: each death or failure of a solution; each solution that is left out, with the reason."""

Kind = Literal["beside", "alone", "failed"]
"""The process died of it or of another, or of it; or the judge failed on it."""

Turn = Literal["first", "beside", "last"]

_DIED = "the process died while it was worked on"


@final
class Quarantine:
    """Leaves out solutions that broke the judge or the process so many times, over all sessions of a run.

    A session that dies names all solutions that it had under way. One of them may be at fault, so each is tried with
    no other beside it from then on, after all others; one that a session died on alone comes first in the next, so
    that it is blamed again only if it is at fault, and not because somebody kills sessions at random. A failure of
    the judge counts only in sessions in which it answered for another solution: a server that is gone is no
    solution's fault.

    Args:
        folder: of the run; holds what was under way when the last session died.
        limit: deaths and failures after which a solution is left out, 0 for never; deaths beside others count once.

    Source: reliability.md B3 (poison item). Differs: none.
    """

    def __init__(self, folder: RunFolder, *, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._deaths: dict[Kind, Counter[str]] = {"beside": Counter(), "alone": Counter(), "failed": Counter()}
        self._reasons: dict[str, str] = {}
        self._now: dict[str, str] = {}
        self._answered = False
        for _, payload in folder.ledger.items(DEATHS):
            self._count(payload["item"], payload["kind"], payload["reason"])
        for name in folder.died_with:
            self._record(name, "alone" if len(folder.died_with) == 1 else "beside", _DIED)
        folder.ledger.flush()

    def begin(self, slot: int, item: str) -> None:
        """A solution is begun by one of the workers."""
        self._folder.under_way.begin(slot, digest(item))

    def end(self, slot: int) -> None:
        """The worker's solution is done."""
        self._folder.under_way.end(slot)

    def reason(self, item: str) -> str:
        """Why a solution is left out, empty if it is not."""
        name = digest(item)
        deaths = min(self._deaths["beside"][name], 1) + self._deaths["alone"][name] + self._deaths["failed"][name]
        if not self._limit or deaths < self._limit:
            return ""
        reason = f"quarantined after {deaths} deaths or failures: {self._reasons[name]}"
        self._folder.ledger.put(QUARANTINE, item, {"reason": reason, "deaths": deaths})
        return reason

    def turn(self, item: str) -> Turn:
        """When a solution is to be tried: alone before all others, beside others, or alone after them."""
        name = digest(item)
        if not self._limit:
            return "beside"
        return "first" if self._deaths["alone"][name] else "last" if self._deaths["beside"][name] else "beside"

    @property
    def any_suspect(self) -> bool:
        """True if a solution may have to be tried alone."""
        return bool(self._limit and (self._deaths["alone"] or self._deaths["beside"]))

    def heard(self, found: Walked) -> None:
        """A solution was walked."""
        if found.failed:
            self._now[found.rollout.id] = found.failed
        elif found.judgement is not None and not found.resumed:
            self._answered = True

    def close(self) -> dict[str, str]:
        """Count this session's failures, if they count; gives the solutions that are left out from now on."""
        if not self._answered:
            return {}
        for item, reason in self._now.items():
            self._record(digest(item), "failed", reason)
        over = {item: reason for item in self._now if (reason := self.reason(item))}
        self._now.clear()
        self._folder.ledger.flush()
        return over

    def _record(self, name: str, kind: Kind, reason: str) -> None:
        self._count(name, kind, reason)
        key = f"{name}/{kind}/{self._deaths[kind][name]}"
        self._folder.ledger.put(DEATHS, key, {"item": name, "kind": kind, "reason": reason})

    def _count(self, name: str, kind: Kind, reason: str) -> None:
        self._deaths[kind][name] += 1
        self._reasons[name] = reason


@final
class UnknownGuard:
    """Ends a walk in which a model's replies too often cannot be read, before more is spent on them.

    Only solutions that a model was asked about in this session count: those without a readable reply, or without any.

    Args:
        part: `[limits]` of the recipe.

    >>> UnknownGuard(LimitsPart(deaths=3, warn_unknown=0.02, stop_unknown=0.1, unknown_from=50)).warning
    ''
    """

    def __init__(self, part: LimitsPart) -> None:
        self._part = part
        self._asked, self._unknown = 0, 0
        self._reasons: Counter[str] = Counter()

    @property
    def share(self) -> float:
        """Share of replies that could not be read."""
        return self._unknown / self._asked if self._asked else 0.0

    @property
    def warning(self) -> str:
        """One line, empty if the share is within bounds."""
        return f"warning: {self._told()}" if self._unknown and self.share > self._part.warn_unknown else ""

    def heard(self, found: Walked) -> None:
        """A solution was walked.

        Raises:
            PartialError: if the share of unknown replies is over the limit.
        """
        verdicts = () if found.judgement is None else found.judgement.verdicts
        if found.resumed or found.quarantined or not (found.failed or any(verdict.calls for verdict in verdicts)):
            return
        self._asked += 1
        if not found.judged:
            self._unknown += 1
            self._reasons[found.failed or found.unknown_reason] += 1
        if self._asked >= self._part.unknown_from and self.share > self._part.stop_unknown:
            mend = "look at the judge, or raise limits.stop_unknown; the same command goes on"
            raise PartialError(f"{self._told()}, more than limits.stop_unknown = {self._part.stop_unknown:g}; {mend}")

    def _told(self) -> str:
        reason, times = self._reasons.most_common(1)[0]
        share = f"{self._unknown} of {self._asked} solutions have no readable reply ({self.share:.1%})"
        return f"{share}, {times} of them: {reason}"

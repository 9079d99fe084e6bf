"""The tally of a walk: counts that grow with each solution, so that no walk has to hold them all in memory."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import final

from stepcredit.recipes.recorded.walk import Walked
from stepcredit.steps import thoughts

NO_ENDING = "without think tags or an ending that states the answer"
NEVER_CLOSED = "with a think block that is never closed, or nothing behind it"


@final
@dataclass
class ModelTally:
    """Counts of one model's solutions; `judged` is `None` if no judge was asked."""

    solutions: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    judged: int | None = None
    steps: int = 0


@final
@dataclass(frozen=True)
class Counts:
    """What became of the solutions; `responses == judged + unknown` once a judge was asked.

    Args:
        responses: solutions in the file.
        judged: those with a verdict on any step, `None` if no judge was asked.
        unknown: those without, whatever the reason.
        unknown_reasons: why, counted.
        empty: solutions without text.
        finished: solutions that their model ended itself.
        sound: finished, scorable, and with an answer block: behind a closed think block, or, without think tags, an
            ending that states the answer.
        sound_judged: those of `sound` that were judged.
        sound_varied: those of `sound` whose steps have more than one label.
        steps: steps of all solutions, `None` if they were not cut.
        thoughts: thoughts of the labelled ones, `None` if the judge gives no labels.
        tokens: tokens of all solutions, `None` if no tokenizer was named.
        labels: steps by label.
        failed: solutions on which the judge itself failed.
        quarantined: solutions that were left out because earlier sessions died or failed on them.
        skipped: lines of the file that could not be used.
        unsound: why those that are not `sound` are not, counted; of several reasons the first.
    """

    responses: int
    judged: int | None
    unknown: int | None
    unknown_reasons: Mapping[str, int]
    empty: int
    finished: int
    sound: int
    sound_judged: int
    sound_varied: int
    steps: int | None
    thoughts: int | None
    tokens: int | None
    labels: Mapping[str, int]
    failed: int
    quarantined: int = 0
    skipped: int = 0
    unsound: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def judged_share(self) -> float | None:
        """Judged share of finished, closed, scorable solutions, `None` if there are none or no judge was asked."""
        return self.sound_judged / self.sound if self.sound and self.judged is not None else None

    @property
    def varied_share(self) -> float | None:
        """Share of the same whose labels are not all one, `None` as above or if the judge gives no labels."""
        return self.sound_varied / self.sound if self.sound and self.thoughts is not None else None

    @property
    def coverage(self) -> dict[str, int]:
        """Solutions asked for, and what became of them; the other numbers add up to `asked`; empty without a judge."""
        if self.judged is None or self.unknown is None:
            return {}
        return {
            "asked": self.responses,
            "answered": self.judged,
            "unknown": self.unknown - self.failed - self.quarantined,
            "failed": self.failed,
            "quarantined": self.quarantined,
        }


@final
class Tally:
    """Counts solutions as they are walked, in any order.

    Args:
        models: models of the file in the order of their first solution; tables keep it.
    """

    def __init__(self, models: Iterable[str] = ()) -> None:
        self.models = {model: ModelTally() for model in models}
        self.outcomes: Counter[str] = Counter()
        self.outcome_reasons: Counter[tuple[str, str]] = Counter()
        self.resumed = 0
        self._labels: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._unsound: Counter[str] = Counter()
        self._number: Counter[str] = Counter()

    @property
    def walked(self) -> int:
        """Solutions so far."""
        return self._number["walked"]

    def add(self, item: Walked) -> None:
        """Count one solution."""
        status, labels, number = item.outcome.status, labels_of(item), self._number
        self.outcomes[status] += 1
        self.outcome_reasons[status, item.outcome.reason] += 1
        self.resumed += item.resumed
        unsound = unsound_reason(item)
        sound = not unsound
        self._unsound.update([unsound] if unsound else [])
        found = {
            "walked": 1,
            "asked": item.judgement is not None,
            "judged": item.judged,
            "empty": not len(item.steps),
            "finished": item.rollout.finish == "stop",
            "sound": sound,
            "sound_judged": sound and item.judged,
            "sound_varied": sound and len(set(labels)) > 1,
            "steps": len(item.steps),
            "tokens": len(item.rollout.completion_ids),
            "failed": bool(item.failed),
            "quarantined": bool(item.quarantined),
        }
        number.update({name: int(value) for name, value in found.items()})  # a Counter keeps its first values as given
        if item.judgement is not None and not item.judged:
            self._unknown[item.unknown_reason] += 1
        if labels and item.judgement is not None:
            self._labels.update(labels)
            number.update(labelled=1, thoughts=len(thoughts(item.judgement).steps))
        self._add_to_model(item)

    def counts(self, *, split: bool, tokenised: bool, skipped: int = 0) -> Counts:
        """What was counted so far.

        Args:
            split: the walk cut the solutions.
            tokenised: their tokens are those of a tokenizer that was named, not bytes.
            skipped: lines of the file that could not be used.
        """
        number = self._number
        asked = number["asked"]
        return Counts(
            responses=number["walked"],
            judged=number["judged"] if asked else None,
            unknown=asked - number["judged"] if asked else None,
            unknown_reasons=ranked(self._unknown),
            empty=number["empty"],
            finished=number["finished"],
            sound=number["sound"],
            sound_judged=number["sound_judged"],
            sound_varied=number["sound_varied"],
            steps=number["steps"] if split else None,
            thoughts=number["thoughts"] if number["labelled"] else None,
            tokens=number["tokens"] if tokenised else None,
            labels=ranked(self._labels),
            failed=number["failed"],
            quarantined=number["quarantined"],
            skipped=skipped,
            unsound=ranked(self._unsound),
        )

    def _add_to_model(self, item: Walked) -> None:
        model = self.models.setdefault(item.rollout.policy, ModelTally())
        model.solutions += 1
        model.outcomes[item.outcome.status] += 1
        model.steps += len(item.steps)
        if item.judgement is not None:
            model.judged = (model.judged or 0) + item.judged


def labels_of(item: Walked) -> tuple[str, ...]:
    """Labels of a solution's labelled steps, in order."""
    verdicts = () if item.judgement is None else item.judgement.verdicts
    return tuple(verdict.label.value for verdict in verdicts if verdict.label is not None)


def ranked(counted: Mapping[str, int]) -> dict[str, int]:
    """The most frequent first, of equals by name.

    >>> ranked({"b": 1, "a": 1, "c": 2})
    {'c': 2, 'a': 1, 'b': 1}
    """
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def unsound_reason(item: Walked) -> str:
    """Why a solution does not count as sound, of several reasons the first; empty if it does."""
    if item.quarantined:
        return "left out"
    if item.rollout.finish != "stop":
        return "cut"
    if item.outcome.status == "unscorable":
        return "unscorable"
    if item.steps.closed:
        return ""
    if not len(item.steps):
        return "empty"
    return NO_ENDING if item.steps.form == "none" else NEVER_CLOSED

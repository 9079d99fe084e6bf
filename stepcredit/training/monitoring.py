"""Asking the monitors and acting on what they say: settings, firings, and what follows for the next rounds.

Everything here is a pure function of the run's recorded history, so that a resumed run decides as an undisturbed one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from math import sqrt
from typing import Any, Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Update
from stepcredit.training.monitor_facts import RoundFacts
from stepcredit.training.monitor_formulas import Value
from stepcredit.training.monitors import MONITORS, Action, EachRound, EachUpdate

STRENGTH: tuple[Action, ...] = ("log", "outcome_only", "end_round", "stop")
"""Actions from the weakest to the strongest; of several firings the strongest counts."""

When = Literal["update", "round"]


@final
@dataclass(frozen=True)
class RoundLength:
    """Adapting round length: L' = clip(L sqrt(target / KL), shortest, longest), L counted in problems.

    Args:
        target: KL(old || current) that a round should end at (k3 of its last update), nats per token.
        shortest: fewest problems of a round.
        longest: most problems of a round.

    Source: tp_grpo.md 6, F2. Differs: L is counted in problems, of which the updates are a fixed share.
    """

    target: float
    shortest: int
    longest: int

    def __post_init__(self) -> None:
        if self.target <= 0 or not 1 <= self.shortest <= self.longest:
            got = f"target {self.target}, shortest {self.shortest}, longest {self.longest}"
            raise UsageError(f"round length needs target > 0 and 1 <= shortest <= longest, got {got}")

    def after(self, problems: int, kl: float | None) -> int:
        """Problems of the next round after one of so many that ended at this KL; unchanged if it is unknown or 0.

        >>> RoundLength(0.01, 32, 512).after(128, 0.04), RoundLength(0.01, 32, 512).after(128, None)
        (64, 128)
        """
        if kl is None or kl <= 0:
            return problems
        return min(self.longest, max(self.shortest, round(problems * sqrt(self.target / kl))))


@final
@dataclass(frozen=True)
class MonitorSettings:
    """What is changed in the table of monitors, and how firings are acted upon.

    Args:
        act: False records every firing and does nothing else; for comparisons of methods.
        bounds: monitor -> bound in place of the table's.
        actions: monitor -> action in place of the table's.
        quiet_rounds: rounds in a row without a firing after which `outcome_only` ends.
        rejudge_share: share of each round's rollouts that is judged a second time, where the run has a judge for that.
        round_length: how rounds adapt to the drift, `None` keeps their length.

    Raises:
        UsageError: for an unknown monitor (names the nearest) or a value that makes no sense.
    """

    act: bool = True
    bounds: Mapping[str, float] = field(default_factory=dict[str, float])
    actions: Mapping[str, Action] = field(default_factory=dict[str, Action])
    quiet_rounds: int = 3
    rejudge_share: float = 0.05
    round_length: RoundLength | None = None

    def __post_init__(self) -> None:
        for name in (*self.bounds, *self.actions):
            _check_name(name)
        for name, action in self.actions.items():
            if action not in STRENGTH:
                raise UsageError(f"unknown action {action!r}; known: {', '.join(STRENGTH)}", item=name)
            if action == "end_round" and isinstance(MONITORS[name].asked, EachRound):
                raise UsageError(
                    "the monitor is asked after a round: there is none to end; take outcome_only", item=name
                )
        if self.quiet_rounds < 1 or not 0.0 <= self.rejudge_share <= 1.0:
            got = f"{self.quiet_rounds} and {self.rejudge_share}"
            raise UsageError(f"quiet_rounds must be at least 1 and rejudge_share in [0, 1], got {got}")

    def bound(self, name: str) -> float:
        """Bound of a monitor."""
        return self.bounds.get(name, MONITORS[name].bound)

    def action(self, name: str) -> Action:
        """What a firing of the monitor does; `log` for all if the settings do not act."""
        return self.actions.get(name, MONITORS[name].action) if self.act else "log"


@final
@dataclass(frozen=True)
class Firing:
    """One monitor at or beyond its bound.

    Args:
        monitor: its name.
        round: the round.
        rollouts: sampled so far, this round included.
        value: what the formula gave.
        bound: what it was compared with.
        action: what was done.
        update: index of the optimiser step, `None` for monitors that are asked after rounds.
        of: what the value is of, where there are several.
    """

    monitor: str
    round: int
    rollouts: int
    value: float
    bound: float
    action: Action
    update: int | None = None
    of: str = ""

    @property
    def sentence(self) -> str:
        """Name, value and bound, for logs.

        >>> Firing("catch_rate", 1, 2048, 0.76, 0.9, "outcome_only").sentence
        'catch_rate 0.76 (bound 0.9) in round 1'
        """
        name = f"{self.monitor} of {self.of}" if self.of else self.monitor
        return f"{name} {self.value:.4g} (bound {self.bound:g}) in round {self.round}"

    def as_payload(self) -> dict[str, Any]:
        """The firing as JSON-able mapping; `Firing(**payload)` gives an equal one."""
        return asdict(self)


@final
@dataclass(frozen=True)
class Readings:
    """What all monitors of one kind said at one moment.

    Args:
        values: monitor -> value, `None` where its inputs are absent: unknown.
        firings: the monitors that fired, by name.
    """

    values: Mapping[str, float | None]
    firings: tuple[Firing, ...]

    def as_row(self, index: int) -> dict[str, Any]:
        """One line of `metrics.jsonl`: values that are known, and the names of the monitors that are unknown."""
        known = {name: value for name, value in self.values.items() if value is not None}
        return {"kind": "monitors", "round": index, "values": known, "unknown": sorted(set(self.values) - set(known))}


def ask_round(settings: MonitorSettings, rounds: Sequence[RoundFacts]) -> Readings:
    """Ask the monitors of the rounds.

    Args:
        settings: bounds and actions.
        rounds: facts of the run so far, at least one; the newest is asked about.
    """
    values: dict[str, Value] = {
        name: monitor.asked.formula(rounds)
        for name, monitor in MONITORS.items()
        if isinstance(monitor.asked, EachRound)
    }
    newest = rounds[-1]
    return _readings(settings, values, round_index=newest.index, rollouts=newest.rollouts, update=None)


def ask_update(settings: MonitorSettings, updates: Sequence[Update], *, round_index: int, rollouts: int) -> Readings:
    """Ask the monitors of the updates.

    Args:
        settings: bounds and actions.
        updates: of the run so far, at least one; the newest is asked about.
        round_index: the round it belongs to.
        rollouts: sampled so far.
    """
    values: dict[str, Value] = {
        name: monitor.asked.formula(updates)
        for name, monitor in MONITORS.items()
        if isinstance(monitor.asked, EachUpdate)
    }
    return _readings(settings, values, round_index=round_index, rollouts=rollouts, update=updates[-1].index)


def strongest(firings: Sequence[Firing]) -> Action:
    """The strongest action of several firings; `log` for none."""
    told = {firing.action for firing in firings}
    found: Action = "log"
    for action in STRENGTH:
        found = action if action in told else found
    return found


def monitored_weight(
    settings: MonitorSettings, scheduled: tuple[float, str], *, round_index: int, firings: Sequence[Firing]
) -> tuple[float, str]:
    """process_weight of a round: the schedule's, or 0 while an `outcome_only` monitor fires or was not quiet for long.

    Args:
        settings: number of quiet rounds.
        scheduled: the schedule's weight and reason.
        round_index: the round about to be credited.
        firings: of the rounds before it.

    Returns:
        The weight and the reason for the switch log.

    Source: tp_grpo.md 6, F1 and F12. Differs: the spec alarms, we also switch.

    >>> fired = [Firing("catch_rate", 1, 2048, 0.76, 0.9, "outcome_only")]
    >>> monitored_weight(MonitorSettings(), (1.0, "process"), round_index=2, firings=fired)
    (0.0, 'monitor: catch_rate 0.76 (bound 0.9) in round 1; the schedule said process')
    >>> monitored_weight(MonitorSettings(), (1.0, "process"), round_index=5, firings=fired)
    (1.0, 'process')
    """
    first = round_index - settings.quiet_rounds
    recent = [f for f in firings if f.action == "outcome_only" and first <= f.round < round_index]
    if not recent or scheduled[0] == 0.0:
        return scheduled
    newest = max(firing.round for firing in recent)
    named = "; ".join(sorted({firing.sentence for firing in recent if firing.round == newest}))
    return 0.0, f"monitor: {named}; the schedule said {scheduled[1]}"


def _readings(
    settings: MonitorSettings, values: Mapping[str, Value], *, round_index: int, rollouts: int, update: int | None
) -> Readings:
    numbers = {name: value[0] if isinstance(value, tuple) else value for name, value in values.items()}
    fired: list[Firing] = []
    for name, value in sorted(values.items()):
        number, bound = numbers[name], settings.bound(name)
        if number is not None and MONITORS[name].beyond(number, bound):
            of = value[1] if isinstance(value, tuple) else ""
            fired.append(Firing(name, round_index, rollouts, number, bound, settings.action(name), update, of))
    return Readings(numbers, tuple(fired))


def _check_name(name: str) -> None:
    if name not in MONITORS:
        near = get_close_matches(name, MONITORS, n=1)
        mend = f"the nearest is {near[0]}" if near else f"there are {', '.join(MONITORS)}"
        raise UsageError(f"no such monitor; {mend}", item=name)

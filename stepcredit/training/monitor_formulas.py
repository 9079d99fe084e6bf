"""Formulas of the monitors: small pure functions from a run's history to one value; `None` is unknown.

A formula of the rounds reads `RoundFacts`, one of the updates reads `Update` records; the newest stand last. It never
looks at bounds or settings: those are the table's (`training.monitors`).
"""

from collections.abc import Callable, Sequence

from stepcredit.core.records import Update
from stepcredit.training.monitor_facts import RoundFacts, known, named_share

FLAT = 0.1
"""A rise of accuracy up to which a run counts as flat (F12)."""

Value = float | tuple[float, str] | None
"""What a formula gives: the value, with what it is of where there are several, or `None` for unknown."""

UpdateFormula = Callable[[Sequence[Update]], Value]
RoundFormula = Callable[[Sequence[RoundFacts]], Value]
Pick = Callable[[RoundFacts], float | None]


def of_update(name: str) -> UpdateFormula:
    """The newest update's own figure.

    Args:
        name: field of `Update`.
    """
    return lambda updates: known(getattr(updates[-1], name))


def of_two_updates(name: str, milder: Callable[[float, float], float] = min) -> UpdateFormula:
    """The milder figure of the newest two updates: one update's batch may hold a single token that outweighs the rest.

    Args:
        name: field of `Update`.
        milder: of two figures the one farther from firing.

    Source: tp_grpo.md 6, F2 ("moving KL"). Differs: the milder of two, which one token cannot move, for the mean.
    """

    def formula(updates: Sequence[Update]) -> float | None:
        newest = [known(getattr(update, name)) for update in updates[-2:]]
        if newest[-1] is None or newest[0] is None:
            return newest[-1]
        return milder(newest[0], newest[-1])

    return formula


def of_round(name: str) -> RoundFormula:
    """The newest round's own fact.

    Args:
        name: field of `RoundFacts`.
    """
    return lambda rounds: _number(getattr(rounds[-1], name))


def entropy_kept(updates: Sequence[Update]) -> float | None:
    """Entropy of the policy at the newest update as a multiple of that at the run's first.

    Source: tp_grpo.md 6, F5 (log entropy). Differs: relative, since entropy per token depends on the task.
    """
    first = next((entropy for update in updates if (entropy := known(update.entropy)) is not None), None)
    now = known(updates[-1].entropy)
    return now / first if now is not None and first else None


def skipped_in_a_row(updates: Sequence[Update]) -> float:
    """Newest updates in a row that were skipped because loss or gradient was not finite.

    Source: reliability.md B3 (NaN or inf loss). Differs: none.
    """
    count = 0
    for update in reversed(updates):
        if not unfinite(update):
            break
        count += 1
    return float(count)


def unfinite(update: Update) -> bool:
    """True for an update that was skipped although it had tokens to train on."""
    return bool(update.skipped) and update.tokens > 0


def worst_parse(rounds: Sequence[RoundFacts]) -> Value:
    """Lowest parse rate of the round's judge tasks, and which.

    Source: tp_grpo.md 6, F3. Differs: none.
    """
    rates = rounds[-1].parse
    return min((rate, task) for task, rate in sorted(rates.items())) if rates else None


def reference_changed(rounds: Sequence[RoundFacts]) -> float | None:
    """1 if the frozen reference has another fingerprint than when the run first named it, else 0."""
    named = [facts.reference for facts in rounds if facts.reference is not None]
    return float(named[-1] != named[0]) if named and rounds[-1].reference is not None else None


def against_start(pick: Pick) -> RoundFormula:
    """The newest round's figure as a multiple of the first known one.

    Args:
        pick: reads the figure.

    >>> tokens = against_start(lambda facts: facts.tokens)
    >>> tokens([RoundFacts(0, 8, tokens=100.0), RoundFacts(1, 16, tokens=150.0)])
    1.5
    """

    def formula(rounds: Sequence[RoundFacts]) -> float | None:
        start = next((value for facts in rounds if (value := pick(facts)) is not None), None)
        now = pick(rounds[-1])
        return now / start if now is not None and start else None

    return formula


def rise_of(pick: Pick) -> RoundFormula:
    """The newest round's figure less the first known one.

    Args:
        pick: reads the figure.
    """

    def formula(rounds: Sequence[RoundFacts]) -> float | None:
        start = next((value for facts in rounds if (value := pick(facts)) is not None), None)
        now = pick(rounds[-1])
        return now - start if now is not None and start is not None else None

    return formula


def step_length_change(rounds: Sequence[RoundFacts]) -> float | None:
    """Tokens of a think step against the run's start, as a factor of change in either direction, at least 1.

    >>> step_length_change([RoundFacts(0, 8, step_tokens=10.0), RoundFacts(1, 16, step_tokens=4.0)])
    2.5
    """
    kept = _number(against_start(lambda facts: facts.step_tokens)(rounds))
    return max(kept, 1 / kept) if kept else None


def consistency_kept(rounds: Sequence[RoundFacts]) -> float | None:
    """Answer consistency against the run's start: held-out where it was measured, else of the round's own rollouts.

    Source: tp_grpo.md 6, F12; embedded_world.md 8.1 (answer consistency). Differs: the task says what it is.
    """
    held_out = named_share(rounds[-1].held_out, "answer_consistency") is not None
    return _number(against_start(lambda facts: _figure(facts, "answer_consistency", held_out=held_out))(rounds))


def reflections_kept(rounds: Sequence[RoundFacts]) -> float | None:
    """Reflections per 1,000 tokens as a share of those of an earlier round from which accuracy has not risen.

    The smallest such share; rounds since which accuracy rose by more than `FLAT` do not count. A policy that has grown
    better may reflect less; one that has not is gaming.

    Source: tp_grpo.md 6, F12. Differs: compared with every earlier round, the run's start among them, so that a second
    fall is seen too.

    >>> def facts(index, rate, right): return RoundFacts(index, 8, reflections=rate, right=right)
    >>> reflections_kept([facts(0, 60.0, 0.2), facts(1, 15.0, 0.25)])
    0.25
    >>> reflections_kept([facts(0, 60.0, 0.2), facts(1, 15.0, 0.45)])
    1.0
    """
    found = _against_each(rounds, lambda facts: facts.reflections, lambda facts: facts.right)
    return min((1.0 if gain > FLAT else kept for kept, gain in found), default=None)


def catch_kept(rounds: Sequence[RoundFacts]) -> float | None:
    """Catch rate of own errors as a share of an earlier round's, plus the accuracy gained since beyond `FLAT`.

    The smallest such sum over all earlier rounds. Held-out figures where there are any, else those of the round's own
    rollouts. A better policy makes fewer errors, but has no reason to catch fewer of those that it makes: accuracy
    excuses a fall point for point only.

    Source: tp_grpo.md 6, F12; embedded_world.md 8.4 (the exhibit). Differs: as for the reflections; bounds are ours.

    >>> def facts(index, catch, accuracy): return RoundFacts(index, 8, accuracy=accuracy, held_out={"catch": catch})
    >>> catch_kept([facts(-1, 0.8, 0.2), facts(0, 0.4, 0.25)])
    0.5
    >>> round(catch_kept([facts(-1, 0.8, 0.2), facts(0, 0.4, 0.45)]), 3)
    0.65
    """
    if named_share(rounds[-1].held_out, "catch") is not None:
        found = _against_each(
            rounds, lambda facts: _figure(facts, "catch", held_out=True), lambda facts: facts.accuracy
        )
    else:
        found = _against_each(rounds, lambda facts: _figure(facts, "catch", held_out=False), lambda facts: facts.right)
    return min((kept + max(0.0, gain - FLAT) for kept, gain in found), default=None)


def pass_lost(rounds: Sequence[RoundFacts]) -> float | None:
    """pass@k lost since its best round, if avg@k has risen since; else 0: sharper, and less able to find an answer.

    Source: tp_grpo.md 6, F8 (best checkpoint and last). Differs: within the round's own groups.

    >>> pass_lost([RoundFacts(0, 8, right=0.5, pass_at_k=0.9), RoundFacts(1, 8, right=0.625, pass_at_k=0.65)])
    0.25
    """
    played = [facts for facts in rounds if facts.pass_at_k is not None and facts.right is not None]
    if not played or played[-1] is not rounds[-1]:
        return None
    best = max(played, key=lambda facts: facts.pass_at_k or 0.0)
    rose = (played[-1].right or 0.0) > (best.right or 0.0)
    return (best.pass_at_k or 0.0) - (played[-1].pass_at_k or 0.0) if rose else 0.0


def _against_each(rounds: Sequence[RoundFacts], pick: Pick, accuracy: Pick) -> list[tuple[float, float]]:
    """The newest figure as a share of each earlier round's, and the accuracy gained since; empty if unknown."""
    now, level = pick(rounds[-1]), accuracy(rounds[-1])
    if now is None or level is None:
        return []
    pairs = [(pick(facts), accuracy(facts)) for facts in rounds[:-1]]
    return [(now / value, level - then) for value, then in pairs if value and then is not None]


def _figure(facts: RoundFacts, name: str, *, held_out: bool) -> float | None:
    return named_share(facts.held_out if held_out else facts.own, name)


def _number(value: Value) -> float | None:
    return value[0] if isinstance(value, tuple) else value

"""How a policy behaves in an embedded world: the columns of embedded_world.md 8.1, counted from completion texts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.records import Outcome
from stepcredit.tasks.world_text import NO_WAIT, Solution, parse
from stepcredit.tasks.world_truth import truth_of


@final
@dataclass(frozen=True)
class WorldStatistics:
    """Shares of one batch of completions; `None` where nothing was there to count.

    A *guess* is a step with a guessed operator (reflection world: divisions; chain world: all); *wrong* and *right* are
    by its own operand. `checked` and the columns after it speak of the reflection that follows a guess at once.

    Args:
        rollouts: completions counted.
        accuracy: right outcomes.
        cut: completions that hit the token cap.
        readable: completions whose every unit could be read, with a closed think block and an answer.
        tokens: mean words of a completion.
        first_guess: right first guesses of a step number.
        attempts: mean guesses of a step number.
        checked_guesses: guesses followed by a check or `wait,`.
        checked: wrong guesses followed by one.
        caught: of those, answered by `no-wait` or `wait,`.
        wrong_guesses: wrong guesses counted: what `catch` is a share of.
        catch: wrong guesses answered by `no-wait` or `wait,`; `checked` times `caught`.
        redone: caught guesses followed by a redo.
        redo_right: right redos.
        false_alarm: right guesses that were checked and yet answered by `no-wait` or `wait,`.
        answer_consistency: answer blocks that restate the think block's last values, all of them.
        forward_facts: right products, of `*` and `+` steps and of checks.

    Source: embedded_world.md 8.1. Differs: none.
    """

    rollouts: int
    accuracy: float | None
    cut: float | None
    readable: float | None
    tokens: float | None
    first_guess: float | None
    attempts: float | None
    checked_guesses: float | None
    checked: float | None
    caught: float | None
    wrong_guesses: int
    catch: float | None
    redone: float | None
    redo_right: float | None
    false_alarm: float | None
    answer_consistency: float | None
    forward_facts: float | None


def statistics(outcomes: Sequence[Outcome], *, guessed: str = "/") -> WorldStatistics:
    """Count the table of 8.1 over checked rollouts.

    Args:
        outcomes: of one world.
        guessed: signs of the operators whose steps are guesses; a world's `guessed`.
    """
    tally: Counter[str] = Counter()
    for outcome in outcomes:
        text = outcome.rollout.text
        solution = parse(text)
        tally["right"] += outcome.status == "right"
        tally["cut"] += outcome.rollout.finish == "length"
        tally["tokens"] += len(text.split())
        tally["readable"] += (
            solution.closed and bool(solution.answers) and all(u.kind != "other" for u in solution.units)
        )
        _count(solution, guessed, tally)
    count = len(outcomes)

    def share(part: str, whole: str) -> float | None:
        return tally[part] / tally[whole] if tally[whole] else None

    tally["all"] = count
    return WorldStatistics(
        rollouts=count,
        accuracy=share("right", "all"),
        cut=share("cut", "all"),
        readable=share("readable", "all"),
        tokens=share("tokens", "all"),
        first_guess=share("first right", "first"),
        attempts=share("guess", "first"),
        checked_guesses=share("guess checked", "guess"),
        checked=share("wrong checked", "wrong"),
        caught=share("wrong caught", "wrong checked"),
        wrong_guesses=tally["wrong"],
        catch=share("wrong caught", "wrong"),
        redone=share("redo", "wrong caught"),
        redo_right=share("redo right", "redo"),
        false_alarm=share("right caught", "right checked"),
        answer_consistency=share("block same", "block"),
        forward_facts=share("product right", "product"),
    )


def _count(solution: Solution, guessed: str, tally: Counter[str]) -> None:
    facts = truth_of(solution)
    seen: set[int] = set()
    think = solution.units[: solution.thinks]
    for i, unit in enumerate(think):
        after = think[i + 1] if i + 1 < len(think) else None
        if unit.kind in ("step", "check") and unit.operator[0] in "*+":
            tally["product"] += 1
            tally["product right"] += unit.follows
        if unit.kind != "step" or unit.operator[0] not in guessed:
            continue
        truth = "right" if facts[i] else "wrong"
        tally["guess"] += 1
        tally[f"guess {truth}"] += 1
        if unit.number not in seen:
            seen.add(unit.number)
            tally["first"] += 1
            tally["first right"] += bool(facts[i])
        tally["wrong"] += truth == "wrong"
        if after is None or after.kind not in ("check", "wait"):
            continue
        tally["guess checked"] += 1
        tally[f"{truth} checked"] += 1
        if after.kind == "wait" or after.verdict == NO_WAIT:
            tally[f"{truth} caught"] += 1
            redo = think[i + 2] if i + 2 < len(think) else None
            if truth == "wrong" and redo is not None and redo.kind == "step" and redo.number == unit.number:
                tally["redo"] += 1
                tally["redo right"] += bool(facts[i + 2])
    answers = solution.answers
    if answers:
        last = {number: unit.value for number, unit in solution.last.items()}
        tally["block"] += 1
        tally["block same"] += all(last.get(number) == value for number, value in answers.items())

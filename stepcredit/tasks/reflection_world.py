"""Task E: chains of products and quotients in Z_17, where checking is easier than solving (embedded_world.md 8.1).

Dividing is a table of hard facts which the demonstrator half knows; a check multiplies back, which it does well. So
reflection is worth its tokens here, and training can raise both the first guess and the checking.

    prompt      Q 14 ; Step1 /15 ; Step2 *10 ?
    completion  ; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 ; check 10 *15 14 ok ; Step2 10 *10 15
                </think> answer ; Step1 10 ; Step2 15 <eos>
"""

from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import final

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Problem
from stepcredit.core.seeds import derive
from stepcredit.tasks.world_checker import WorldChecker
from stepcredit.tasks.world_text import (
    EOS,
    MODULUS,
    NO_WAIT,
    OK,
    THINK_END,
    Unit,
    apply,
    completion_of,
    prompt_of,
    read_prompt,
)
from stepcredit.tasks.world_truth import Demonstration

MAX_LENGTH = 6
WORDS = (
    "<pad>",
    EOS,
    *(str(x) for x in range(1, MODULUS)),
    *(f"*{k}" for k in range(2, MODULUS)),
    *(f"/{k}" for k in range(2, MODULUS)),
    *(f"Step{i}" for i in range(1, MAX_LENGTH + 1)),
    *("Q", ";", "?", "check", OK, NO_WAIT, THINK_END, "answer"),
)
"""The 62 words of the vocabulary."""


@final
@dataclass(frozen=True)
class ReflectionWorld:
    """A world: its table of half-known facts, its demonstrator, and the problems asked.

    Args:
        name: name of the task set, the problems' `source`.
        task_seed: draws the table of misconceptions.
        length: L, steps of a problem; at most 6.
        divisions: how many of the L steps are divisions, at random places.
        max_tokens: cap on completion tokens, `<eos>` included. The spec's 120 counts no `;`; with one `;` a unit the
            same number of attempts takes 150.
        check_rate: probability that a division is checked (the spec's qc).
        candidates: values that the demonstrator ever guesses for one division: the true one and fixed wrong ones.
        forward_right: probability that a product (a `*` step or a check) comes out right.
        hard_share: share of divisions ("hard facts") with one attractive wrong answer.
        hard_right: probability of the true value in a first guess at a hard fact.
        hard_wrong: probability of the attractive wrong value there.
        soft_right: probability of the true value in a first guess at any other division.
        retry_right: probability of the true value in a second or later guess, tried values left out.
        pass_wrong: probability of `ok` where the check shows a wrong value.
        false_alarm: probability of `no-wait` where the check shows a right value.
        ignore: probability of going on after one's own `no-wait`.

    Source: embedded_world.md 8.1. Differs: `;` is a word of the text (unit boundary), hence the larger cap; where the
    spec gives a range (hard_wrong, soft_right, pass_wrong, ignore), the end that fits its table after SFT is taken.
    """

    name: str = "reflection-e"
    task_seed: int = 0
    length: int = 6
    divisions: int = 6
    max_tokens: int = 150
    check_rate: float = 0.8
    candidates: int = 4
    forward_right: float = 0.99
    hard_share: float = 0.6
    hard_right: float = 0.3
    hard_wrong: float = 0.4
    soft_right: float = 0.5
    retry_right: float = 0.6
    pass_wrong: float = 0.05
    false_alarm: float = 0.03
    ignore: float = 0.05

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary, `<pad>` and `<eos>` first."""
        return WORDS

    @property
    def guessed(self) -> str:
        """Signs of the operators whose first guesses are counted: divisions."""
        return "/"

    @property
    def checker(self) -> WorldChecker:
        """The outcome checker of this world."""
        return WorldChecker()

    @cached_property
    def guesses(self) -> dict[tuple[int, int], tuple[tuple[int, ...], tuple[float, ...]]]:
        """(k, x) -> candidate values of x / k, the true one first, and their weights in a first guess."""
        return {(k, x): self._fact(k, x) for k in range(2, MODULUS) for x in range(1, MODULUS)}

    def problems(
        self, count: int, *, seed: int, length: int | None = None, divisions: int | None = None
    ) -> tuple[Problem, ...]:
        """`count` problems drawn with the seed; equal seeds give equal problems.

        Args:
            count: how many.
            seed: of the draw.
            length: L, the world's own by default.
            divisions: divisions among the L steps, the world's own by default; -1 tosses a coin for each step.

        Raises:
            UsageError: if length or divisions are out of range.
        """
        length = self.length if length is None else length
        divisions = min(self.divisions, length) if divisions is None else divisions
        if not 1 <= length <= MAX_LENGTH or not -1 <= divisions <= length:
            raise UsageError(
                f"{self.name}: length must be 1..{MAX_LENGTH} and divisions -1..length, got {length}, {divisions}"
            )
        return tuple(self._problem(i, seed, length, divisions) for i in range(count))

    def demonstrations(
        self, count: int, *, seed: int, length: int | None = None, divisions: int | None = None
    ) -> tuple[Demonstration, ...]:
        """Solutions of fresh problems by the demonstrator; arguments as in `problems`.

        Here `divisions` is by default -1: every step is a division with probability one half, which is what the policy
        sees in supervised fine-tuning.
        """
        divisions = -1 if divisions is None else divisions
        problems = self.problems(count, seed=derive(seed, "demonstrations"), length=length, divisions=divisions)
        return tuple(self.demonstrate(p, seed=derive(seed, "demonstrator", i)) for i, p in enumerate(problems))

    def demonstrate(self, problem: Problem, *, seed: int) -> Demonstration:
        """One solution by the demonstrator."""
        random = Random(seed)
        value, operators = read_prompt(problem.text)
        units: list[Unit] = []
        lines: list[Unit] = []
        for number, operator in enumerate(operators, 1):
            if operator[0] == "*":
                result = self._product(operator, value, random)
                units.append(Unit("step", 0, number, value, operator, result))
            else:
                result = self._divide(units, number, value, operator, random)
            lines.append(Unit("answer", 0, number, value=result))
            value = result
        text = completion_of((*units, *lines), len(units))
        return Demonstration(problem, text)

    def _problem(self, index: int, seed: int, length: int, divisions: int) -> Problem:
        random = Random(derive(seed, "problem", self.name, length, divisions, index))
        if divisions < 0:
            signs = [random.choice("*/") for _ in range(length)]
        else:
            signs = ["/"] * divisions + ["*"] * (length - divisions)
            random.shuffle(signs)
        start = random.randrange(1, MODULUS)
        operators = tuple(f"{sign}{random.randrange(2, MODULUS)}" for sign in signs)
        value = start
        for operator in operators:
            value = apply(operator, value)
        name = f"{self.name}/L{length}d{divisions}/{seed}/{index}"
        return Problem(name, prompt_of(start, operators), str(value), self.name)

    def _fact(self, k: int, x: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        random = Random(derive(self.task_seed, "fact", k, x))
        true = apply(f"/{k}", x)
        wrong = random.sample([y for y in range(1, MODULUS) if y != true], self.candidates - 1)
        if random.random() < self.hard_share:
            rest = (1.0 - self.hard_right - self.hard_wrong) / (self.candidates - 2)
            return (true, *wrong), (self.hard_right, self.hard_wrong, *([rest] * (self.candidates - 2)))
        rest = (1.0 - self.soft_right) / (self.candidates - 1)
        return (true, *wrong), (self.soft_right, *([rest] * (self.candidates - 1)))

    def _product(self, operator: str, x: int, random: Random) -> int:
        true = apply(operator, x)
        if random.random() < self.forward_right:
            return true
        return random.choice([y for y in range(1, MODULUS) if y != true])

    def _divide(self, units: list[Unit], number: int, x: int, operator: str, random: Random) -> int:
        """Write guesses and checks of one division until the demonstrator goes on; returns the last guess."""
        k = int(operator[1:])
        values, weights = self.guesses[k, x]
        guess = random.choices(values, weights)[0]
        tried: list[int] = []
        while True:
            units.append(Unit("step", 0, number, x, operator, guess))
            tried.append(guess)
            if random.random() >= self.check_rate:
                return guess
            product = self._product(f"*{k}", guess, random)
            slip = random.random() < (self.false_alarm if product == x else self.pass_wrong)
            verdict = OK if (product == x) != slip else NO_WAIT
            units.append(Unit("check", 0, number, guess, f"*{k}", product, verdict))
            if verdict == OK or random.random() < self.ignore:
                return guess
            guess = self._retry(values, tried, random)

    def _retry(self, values: tuple[int, ...], tried: list[int], random: Random) -> int:
        wrong = [value for value in values[1:] if value not in tried]
        if not wrong or (values[0] not in tried and random.random() < self.retry_right):
            return values[0]
        return random.choice(wrong)


WORLD_E = ReflectionWorld()
"""World E, "checks a lot": the default; reinforcement learning asks 6 divisions out of 6."""

WORLD_A = ReflectionWorld(
    "reflection-a",
    divisions=3,
    check_rate=0.4,
    candidates=3,
    hard_wrong=0.45,
    soft_right=0.55,
    pass_wrong=0.10,
    ignore=0.15,
)
"""World A, "rarely checks": 3 divisions out of 6."""

WORLD_D = ReflectionWorld("reflection-d", divisions=3, max_tokens=84)
"""World D: the checkpoint of E, 3 divisions, and a tight cap (the spec's 66, with one `;` a unit)."""

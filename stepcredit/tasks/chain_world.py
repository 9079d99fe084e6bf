"""The task of embedded_world.md 1, a negative control: sums and products in Z_17, where `wait,` only redoes a step.

Checking is as hard as solving here, so reflection has little to say, and the exact intrinsic rule is not expected to
beat outcome-only credit.

    prompt      Q 14 ; Step1 +13 ; Step2 *16 ?
    completion  ; Step1 14 +13 10 ; Step2 10 *16 8 ; wait, ; Step2 10 *16 7 </think> answer ; Step2 7 <eos>
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
    THINK_END,
    WAIT,
    Unit,
    apply,
    completion_of,
    prompt_of,
    read_prompt,
)
from stepcredit.tasks.world_truth import Demonstration

MAX_LENGTH = 10
OPERATORS = (*(f"+{k}" for k in range(1, MODULUS)), *(f"*{k}" for k in range(2, MODULUS)))
"""The 31 operators; with 17 operands they make 527 facts."""

WORDS = (
    "<pad>",
    EOS,
    *(str(x) for x in range(MODULUS)),
    *OPERATORS,
    *(f"Step{i}" for i in range(1, MAX_LENGTH + 1)),
    *("Q", ";", "?", WAIT, THINK_END, "answer"),
)
"""The 66 words of the vocabulary."""


@final
@dataclass(frozen=True)
class ChainWorld:
    """The negative control: its table of misconceptions, its demonstrator, and the problems asked.

    Args:
        name: name of the task set, the problems' `source`.
        task_seed: draws which facts are hard and their fixed wrong answers.
        length: L, steps of a problem; at most 10.
        max_tokens: cap on completion tokens, `<eos>` included.
        hard_share: share of the 527 facts that the demonstrator half knows.
        hard_right: probability of the true value at a hard fact.
        fixed_wrong: probability of the fixed wrong value where it errs at a hard fact; else any wrong value.
        easy_right: probability of the true value at any other fact.
        wait_rate: probability that the demonstrator takes a wrong step back.

    Source: embedded_world.md 1. Differs: units are opened by `;` and carry no `=`; the think block is closed by
    `</think>` and the answer block is one line `; StepL y`, so that both worlds read alike; "mostly" is .8.
    """

    name: str = "chain"
    task_seed: int = 0
    length: int = 8
    max_tokens: int = 96
    hard_share: float = 0.25
    hard_right: float = 0.35
    fixed_wrong: float = 0.8
    easy_right: float = 0.98
    wait_rate: float = 0.3

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary, `<pad>` and `<eos>` first."""
        return WORDS

    @property
    def guessed(self) -> str:
        """Signs of the operators whose first guesses are counted: all."""
        return "+*"

    @property
    def checker(self) -> WorldChecker:
        """The outcome checker of this world."""
        return WorldChecker(whole_block=False)

    @cached_property
    def misconceptions(self) -> dict[tuple[str, int], int]:
        """(operator, x) -> the fixed wrong value of each hard fact."""
        random = Random(derive(self.task_seed, "misconceptions"))
        facts = [(operator, x) for operator in OPERATORS for x in range(MODULUS)]
        hard = random.sample(facts, round(self.hard_share * len(facts)))
        return {fact: _wrong(apply(*fact), random) for fact in hard}

    def problems(self, count: int, *, seed: int, length: int | None = None) -> tuple[Problem, ...]:
        """`count` problems drawn with the seed; equal seeds give equal problems.

        Args:
            count: how many.
            seed: of the draw.
            length: L, the world's own by default.

        Raises:
            UsageError: if the length is out of range.
        """
        length = self.length if length is None else length
        if not 1 <= length <= MAX_LENGTH:
            raise UsageError(f"{self.name}: length must be 1..{MAX_LENGTH}, got {length}")
        return tuple(self._problem(i, seed, length) for i in range(count))

    def demonstrations(self, count: int, *, seed: int, length: int | None = None) -> tuple[Demonstration, ...]:
        """Solutions of fresh problems by the demonstrator; arguments as in `problems`."""
        problems = self.problems(count, seed=derive(seed, "demonstrations"), length=length)
        return tuple(self.demonstrate(p, seed=derive(seed, "demonstrator", i)) for i, p in enumerate(problems))

    def demonstrate(self, problem: Problem, *, seed: int) -> Demonstration:
        """One solution by the demonstrator."""
        random = Random(seed)
        value, operators = read_prompt(problem.text)
        units: list[Unit] = []
        for number, operator in enumerate(operators, 1):
            true = apply(operator, value)
            result = self._guess(operator, value, true, random)
            units.append(Unit("step", 0, number, value, operator, result))
            while result != true and random.random() < self.wait_rate:
                result = self._guess(operator, value, true, random)
                units.append(Unit("wait", 0, number))
                units.append(Unit("step", 0, number, value, operator, result))
            value = result
        line = Unit("answer", 0, len(operators), value=value)
        return Demonstration(problem, completion_of((*units, line), len(units)))

    def _problem(self, index: int, seed: int, length: int) -> Problem:
        random = Random(derive(seed, "problem", self.name, length, index))
        start = random.randrange(MODULUS)
        operators = tuple(random.choices(OPERATORS, k=length))
        value = start
        for operator in operators:
            value = apply(operator, value)
        return Problem(f"{self.name}/L{length}/{seed}/{index}", prompt_of(start, operators), str(value), self.name)

    def _guess(self, operator: str, x: int, true: int, random: Random) -> int:
        fixed = self.misconceptions.get((operator, x))
        if random.random() < (self.easy_right if fixed is None else self.hard_right):
            return true
        if fixed is not None and random.random() < self.fixed_wrong:
            return fixed
        return _wrong(true, random)


def _wrong(true: int, random: Random) -> int:
    return (true + random.randrange(1, MODULUS)) % MODULUS

"""Solutions of a small world E as cut rollouts: what the judges that are trained inside the loop are tried on."""

import copy
from dataclasses import replace
from random import Random

import numpy as np

from stepcredit.core.records import Judgement, Outcome, Rollout, Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import Delimiter, align
from stepcredit.tasks.reflection_world import WORDS, ReflectionWorld

TOKENIZER = FileTokenizer.from_words(WORDS)
WORLD = ReflectionWorld(length=2, divisions=2)


def model(seed: int = 0, **sizes: int) -> CausalLM:
    shape = {"dim": 32, "heads": 2, "hidden": 64, "max_positions": 256} | sizes
    return CausalLM(ModelConfig(len(WORDS), **shape), seed=seed)


def solutions(problems: int, *, group_size: int = 4, seed: int = 0, world: ReflectionWorld = WORLD) -> list[Steps]:
    """Groups of the demonstrator's solutions, checked and cut at every `;`."""
    splitter = Delimiter(";", form="world")
    found: list[Steps] = []
    for place, problem in enumerate(world.problems(problems, seed=seed)):
        prompt = TOKENIZER.encode(problem.text)
        for sample in range(group_size):
            text = world.demonstrate(problem, seed=derive(seed, "solution", place, sample)).text
            ids = TOKENIZER.encode(text)
            text, starts = align(ids, TOKENIZER)
            rollout = Rollout(f"g{place}-s{sample}", problem, f"g{place}", sample, text, prompt, ids, starts)
            found.append(splitter.split(world.checker.outcome(rollout)))
    return found


def unjudged(cuts: list[Steps]) -> list[Judgement]:
    """Judgements as `fit` takes them; no verdict is read."""
    return [Judgement(steps, (Verdict(reason="none"),) * len(steps), "none") for steps in cuts]


def with_shuffled_outcomes(cuts: list[Steps], seed: int = 0) -> list[Steps]:
    """The same solutions, each with another one's outcome: the control, in which there is nothing to learn."""
    statuses = [steps.outcome.status for steps in cuts]
    Random(seed).shuffle(statuses)
    return [
        replace(steps, outcome=Outcome(steps.rollout, status)) for steps, status in zip(cuts, statuses, strict=True)
    ]


def rewards(cuts: list[Steps]) -> np.ndarray:
    return np.array([steps.outcome.reward for steps in cuts], np.float64)


def copied(of: CausalLM) -> CausalLM:
    return copy.deepcopy(of)

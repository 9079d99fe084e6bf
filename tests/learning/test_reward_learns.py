"""A small reward model learns a preference on the embedded world, and PCRM keeps near-identical answers close."""

from random import Random

import numpy as np
import pytest

from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.reward import Pair, RewardModel, RewardSettings, RewardTrainer
from stepcredit.recipes.demo_settings import WorldPart
from stepcredit.recipes.world import WorldTask

pytestmark = pytest.mark.learning

TASK = WorldTask(WorldPart(length=1))
UPDATES, BATCH, HELD_OUT = 150, 32, 256


def pairs_of(count: int, *, seed: int, shuffled: bool = False) -> list[Pair]:
    """Demonstrations, and the same with another last answer than the one that was worked out; shuffled, by a coin."""
    random = Random(derive(seed, "pairs"))
    found = []
    for each in TASK.demonstrations(count, seed=seed, length=1):
        words = each.text.split()
        other = random.choice([str(value) for value in range(1, 17) if str(value) != words[-2]])
        sides = [each.text, " ".join([*words[:-2], other, words[-1]])]
        if shuffled and random.random() < 0.5:
            sides.reverse()
        ids = [TASK.tokenizer.encode(text) for text in (each.problem.text, *sides)]
        found.append(Pair(*(np.array(part) for part in ids)))
    return found


def trained(loss: str, *, shuffled: bool = False, seed: int = 0) -> RewardTrainer:
    words = TASK.world.words
    model = CausalLM(ModelConfig(len(words), dim=48, layers=2, heads=2, kv_heads=2, hidden=96), seed=seed)
    settings = RewardSettings(3e-3, loss=loss, optimiser="muon", matrix_learning_rate=0.02)
    it = RewardTrainer(RewardModel(model, width=48), settings)
    pairs = pairs_of(UPDATES * BATCH, seed=derive(seed, "train"), shuffled=shuffled)
    for index in range(UPDATES):
        assert not it.update(pairs[index * BATCH : (index + 1) * BATCH]).skipped
    return it


@pytest.fixture(scope="module")
def plain() -> RewardTrainer:
    return trained("bradley_terry")


def test_a_preference_is_learnt_and_a_shuffled_one_is_not(plain: RewardTrainer) -> None:
    held_out = pairs_of(HELD_OUT, seed=99)
    assert plain.measure(held_out).accuracy > 0.9
    assert trained("bradley_terry", shuffled=True).measure(held_out).accuracy < 0.65


def test_pcrms_ceiling_bounds_the_gap_of_near_identical_answers(plain: RewardTrainer) -> None:
    """Lengths are equal here: the ceiling is 20 / 1.001 - 15 = 4.98, and the best margin half of it."""
    held_out = pairs_of(HELD_OUT, seed=99)
    free, capped = plain.measure(held_out), trained("pcrm").measure(held_out)
    assert capped.accuracy > 0.9
    assert 1.0 < capped.margin < 4.98 / 2 + 0.5
    assert capped.largest < 4.98 < free.largest

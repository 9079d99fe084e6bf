"""Fixtures of the steps tests: a byte-level tokenizer trained here, and outcomes made from texts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from stepcredit.core.protocols import Tokenizer
from stepcredit.core.records import Finish, Outcome, Problem, Rollout
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import retokenise

OutcomeOf = Callable[..., Outcome]
CORPUS = ["Okay, so 3 × 4 = 12.\n\nWait, let me check 答案 😀 — naïve café.\n\n", "The answer is 12. <think>\n"] * 20
DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def small() -> FileTokenizer:
    """Byte-level BPE of 300 tokens, so few that emoji and ideographs are cut between tokens."""
    raw = RawTokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    raw.train_from_iterator(CORPUS, trainer)
    return FileTokenizer(raw, "<|end|>")


@pytest.fixture(scope="session")
def outcome_of(small: FileTokenizer) -> OutcomeOf:
    """Outcome of a rollout with the given text."""

    def make(text: str, tokenizer: Tokenizer = small, *, finish: Finish = "stop") -> Outcome:
        ids, text, char_starts = retokenise(text, tokenizer)
        rollout = Rollout("r", Problem("p", "?", "1"), "g", 0, text, np.zeros(0), ids, char_starts, finish=finish)
        return Outcome(rollout, "right")

    return make


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with recorded data, beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"no recorded data at {DATA.name} beside the repository")
    return DATA

"""TP-GRPO in TRL learns what its credit points at, and shuffled credit does not. Task E: test_trl_example.py."""

from pathlib import Path
from typing import Any

import pytest

from stepcredit.core.records import Steps
from stepcredit.credit.tp_grpo import TpGrpoSettings
from stepcredit.judges.oracle import OracleJudge
from stepcredit.steps import Fixed

cases = pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")

pytestmark = pytest.mark.filterwarnings("ignore")

WRONG = frozenset(cases.WORLD_E.words[2::2])
"""Every second word: half of what a random policy writes."""


def truth(steps: Steps) -> list[bool]:
    return [not WRONG & set(text.split()) for text in steps.texts]


def shares_of_wrong_words(folder: Path, **changes: Any) -> list[float]:
    """Share of wrong words in the completions of each batch; outcomes are a coin, so that they teach nothing."""
    credit = cases.tp_grpo(
        splitter=Fixed(1, form="none"),
        judge=OracleJudge(truth, "every second word"),
        settings=TpGrpoSettings(alpha=2.0, scale="fixed", sides="correct", on_unknown="outcome_only"),
        **changes,
    )
    trainer = cases.ours(folder, credit, max_steps=24, per_device_train_batch_size=16)
    trainer.train()
    found: list[float] = []
    for batch in trainer.batches:
        written = batch["completion_ids"][batch["completion_mask"].bool()].tolist()
        found.append(sum(cases.WORLD_E.words[token] in WRONG for token in written) / len(written))
    return found


def test_credit_teaches_what_it_points_at_and_shuffled_credit_does_not(tmp_path: Path) -> None:
    """Of 24 batches of 16 completions; the first is of the start policy in both."""
    paid, control = shares_of_wrong_words(tmp_path), shares_of_wrong_words(tmp_path, shuffled=0)
    assert paid[0] == control[0]
    assert 0.4 < paid[0] < 0.6
    assert sum(paid[-4:]) / 4 < 0.5 * paid[0]
    assert sum(control[-4:]) / 4 > 0.75 * control[0]

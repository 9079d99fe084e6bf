"""What the tests of the TRL adapter share: a tiny policy with the words of world E, and trainers over it.

Importing this needs TRL; `pytest.importorskip("trl_cases")` leaves a test module out where there is none.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from stepcredit.adapters.trl import StepCredit, StepCreditGRPOTrainer
from stepcredit.core.digests import digest
from stepcredit.core.records import Steps
from stepcredit.credit.tp_grpo import TpGrpoSettings
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.oracle import OracleJudge
from stepcredit.steps import Fixed
from stepcredit.tasks.reflection_world import WORLD_E

WORDS = FileTokenizer.from_words(WORLD_E.words)
MAX_TOKENS = 16


def coin(*parts: object) -> bool:
    """Heads or tails, always the same for the same things."""
    return int(digest(*parts)[:8], 16) % 2 == 0


def lucky(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """Outcome of a completion that no tiny random model could earn: a coin that its tokens toss."""
    return [float(coin(list(ids))) for ids in completion_ids]


def truth(steps: Steps) -> list[bool]:
    """Truth of each step: a coin that its words toss."""
    return [coin(text) for text in steps.texts]


def tp_grpo(**changes: Any) -> StepCredit:
    """TP-GRPO with four words a step, the coin's truth, and outcomes from the reward function."""
    given: dict[str, Any] = {
        "rule": "tp_grpo",
        "splitter": Fixed(4, form="none"),
        "outcome": lucky,
        "judge": OracleJudge(truth, "coin"),
        "settings": TpGrpoSettings(),
    }
    return StepCredit(**{**given, **changes})


def policy(seed: int = 0) -> LlamaForCausalLM:
    """A tiny random Llama over the world's words."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORLD_E.words),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def words(folder: Path) -> PreTrainedTokenizerFast:
    """The world's words as a tokenizer of transformers."""
    WORDS.save(folder)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def problems(count: int = 8, *, length: int = 2) -> Dataset:
    """Problems of world E as a data set of TRL."""
    found = WORLD_E.problems(count, seed=0, length=length)
    return Dataset.from_list([{"prompt": problem.text, "answer": problem.answer} for problem in found])


def config(folder: Path, **changes: Any) -> GRPOConfig:
    """Small, on the CPU, and quiet."""
    given: dict[str, Any] = {
        "output_dir": str(folder / "trl"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": MAX_TOKENS,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "beta": 0.0,
        "temperature": 1.0,
        "scale_rewards": "none",
        "shuffle_dataset": False,
        "seed": 0,
    }
    return GRPOConfig(**{**given, **changes})


class Recording:
    """Keeps each batch as it left the hook, before TRL shuffles it."""

    batches: list[dict[str, Any]]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        parent: Any = super()
        out = parent._generate_and_score_completions(inputs)
        self.__dict__.setdefault("batches", []).append(dict(out))
        return out


class Ours(Recording, StepCreditGRPOTrainer):
    """Our trainer, recording."""


class Theirs(Recording, GRPOTrainer):
    """TRL's trainer, recording."""


def ours(folder: Path, credit: StepCredit | None = None, *, rewards: Any = (), **changes: Any) -> Ours:
    """Our trainer over the tiny policy."""
    options = {"train_dataset": problems(), "processing_class": words(folder)}
    return Ours(policy(), credit or tp_grpo(), args=config(folder, **changes), reward_funcs=rewards, **options)


def theirs(folder: Path, **changes: Any) -> Theirs:
    """TRL's trainer over the same policy, with outcomes from the same function."""
    options = {"train_dataset": problems(), "processing_class": words(folder)}
    return Theirs(model=policy(), reward_funcs=lucky, args=config(folder, **changes), **options)


def weights(trainer: GRPOTrainer) -> torch.Tensor:
    """All weights of a trainer's policy, end to end."""
    return torch.cat([part.detach().flatten() for part in trainer.model.parameters()])


def loss_and_gradient(trainer: GRPOTrainer, batch: dict[str, Any]) -> tuple[float, torch.Tensor]:
    """TRL's loss of a batch, and its gradient with respect to all weights."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.model.parameters()]
    return loss.item(), torch.cat([part.flatten() for part in parts])

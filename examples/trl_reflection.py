"""TP-GRPO in TRL on the reflection world (task E): a tiny policy is fine-tuned, then trained by StepCreditGRPOTrainer.

    pip install 'stepcredit[train,trl]'
    HF_HUB_OFFLINE=1 python examples/trl_reflection.py --out runs/trl

Prints one line an optimiser step (share of right rollouts, sizes of both streams of credit) and the accuracy on
held-out problems before and after. The world's words take the place of a language, so it needs no download and no GPU.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig

from stepcredit.adapters.trl import StepCredit, StepCreditGRPOTrainer
from stepcredit.core.records import Problem, Rollout
from stepcredit.core.seeds import derive
from stepcredit.credit.tp_grpo import TpGrpoSettings
from stepcredit.engines.embedded.checkpoint import save_checkpoint
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner, demonstration_pack
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges import JUDGES
from stepcredit.steps import Delimiter, align
from stepcredit.tasks.reflection_world import WORLD_E

TOKENIZER = FileTokenizer.from_words(WORLD_E.words)


class Printed(TrainerCallback):
    """One line an optimiser step."""

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write what the trainer logs under `stepcredit/`."""
        names = ("right", "parse_rate", "unknown_steps", "outcome_size", "process_size")
        found = {name: (logs or {}).get(f"stepcredit/{name}") for name in names}
        if found["right"] is not None:
            told = "  ".join(f"{name} {float(value):.3f}" for name, value in found.items() if value is not None)
            sys.stdout.write(f"step {state.global_step:3d}  {told}\n")


def fine_tuned(folder: Path, options: argparse.Namespace) -> Path:
    """A policy that has read demonstrations: it solves some problems, and checks itself."""
    torch.manual_seed(options.seed)
    config = ModelConfig(vocab_size=len(WORLD_E.words), dim=options.dim, hidden=2 * options.dim, max_positions=192)
    policy = CausalLM(config, seed=options.seed)
    settings = LearnerSettings(
        learning_rate=3e-3, optimiser="muon", matrix_learning_rate=0.03,
        schedule="linear", total_updates=options.updates, final_fraction=0.1,
    )  # fmt: skip
    learner = TorchLearner(policy, settings)
    for index in range(options.updates):
        found = WORLD_E.demonstrations(48, seed=derive(options.seed, "demonstrations", index), length=options.length)
        pairs = [(TOKENIZER.encode(d.problem.text), TOKENIZER.encode(d.text)) for d in found]
        update = learner.imitate(demonstration_pack(pairs))
        if (index + 1) % 100 == 0:
            sys.stdout.write(f"fine-tuning {index + 1}/{options.updates}  loss {update.loss:.3f}\n")
    return save_checkpoint(policy, folder, tokenizer=TOKENIZER)


def asked(options: argparse.Namespace, count: int, name: str) -> tuple[Problem, ...]:
    """Problems of which every step is a division, as reinforcement learning asks them."""
    seed = derive(options.seed, name)
    return WORLD_E.problems(count, seed=seed, length=options.length, divisions=options.length)


def rollout_of(problem: Problem, ids: Sequence[int]) -> Rollout:
    """A completion as the checker reads it."""
    text, starts = align(np.array(ids, np.int32), TOKENIZER)
    return Rollout(problem.id, problem, "", 0, text, np.zeros(0, np.int32), np.array(ids, np.int32), starts)


def accuracy(model: Any, problems: Sequence[Problem], *, max_tokens: int) -> float:
    """Share of right answers, one sample a problem at temperature 1; what is drawn after it does not change."""
    eos = TOKENIZER.eos_id
    prompts = torch.tensor([TOKENIZER.encode(problem.text).tolist() for problem in problems])
    training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"do_sample": True, "top_k": 0, "max_new_tokens": max_tokens, "pad_token_id": 0}
        written = model.generate(prompts.to(model.device), **options)
    model.train(training)
    right = 0
    for problem, row in zip(problems, written[:, prompts.shape[1] :].tolist(), strict=True):
        ids = row[: row.index(eos) + 1] if eos in row else row
        right += WORLD_E.checker.outcome(rollout_of(problem, ids)).status == "right"
    return right / len(problems)


def step_credit() -> StepCredit:
    """How completions are paid: TP-GRPO on the steps that the world's words mark."""
    return StepCredit(
        "tp_grpo",
        Delimiter(";", form="world"),
        WORLD_E.checker,
        JUDGES["world-markers"].make(),
        settings=TpGrpoSettings(on_unknown="outcome_only"),  # what was cut before its answer cannot be judged
    )


def config(options: argparse.Namespace, *, scale_rewards: str = "none") -> GRPOConfig:
    """TRL's settings."""
    return GRPOConfig(
        output_dir=str(options.out / "trl"),
        scale_rewards=scale_rewards,
        loss_type="dapo",
        epsilon=0.2,
        epsilon_high=0.28,
        beta=0.0,
        num_generations=8,
        per_device_train_batch_size=options.batch,
        max_completion_length=options.max_tokens,
        max_steps=options.steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        logging_steps=1,
        seed=options.seed,
        log_completions=options.log_completions,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )


def parts(checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What any trainer of TRL takes beside credit and settings: the policy, its words and the problems."""
    problems = asked(options, options.steps * options.batch // 8, "train")
    rows = [{"prompt": problem.text, "answer": problem.answer} for problem in problems]
    return {
        "model": LlamaForCausalLM.from_pretrained(checkpoint),
        "processing_class": PreTrainedTokenizerFast.from_pretrained(
            checkpoint, pad_token=WORLD_E.words[0], padding_side="left"
        ),
        "train_dataset": Dataset.from_list(rows),
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("runs/trl"))
    made.add_argument("--policy", type=Path, help="checkpoint to start from, in place of fine-tuning one")
    made.add_argument("--length", type=int, default=2, help="steps of a problem")
    made.add_argument("--dim", type=int, default=64)
    made.add_argument("--updates", type=int, default=400, help="of fine-tuning")
    made.add_argument("--steps", type=int, default=40, help="of TRL")
    made.add_argument("--batch", type=int, default=128, help="completions of a step")
    made.add_argument("--max-tokens", type=int, default=56)
    made.add_argument("--learning-rate", type=float, default=1e-3)
    made.add_argument("--held-out", type=int, default=512)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--log-completions", action="store_true", help="keep the log that retro-credit reads")
    return made


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Fine-tune, measure, train, measure; the result also goes to OUT/result.json."""
    options = parser().parse_args(words)
    checkpoint = options.policy or fine_tuned(options.out / "policy", options)
    trained = StepCreditGRPOTrainer(
        credit=step_credit(), args=config(options), callbacks=[Printed()], **parts(checkpoint, options)
    )
    problems = asked(options, options.held_out, "held out")
    before = accuracy(trained.model, problems, max_tokens=options.max_tokens)
    sys.stdout.write(f"held-out accuracy {before:.3f}\n")
    trained.train()
    after = accuracy(trained.model, problems, max_tokens=options.max_tokens)
    sys.stdout.write(f"held-out accuracy {before:.3f} -> {after:.3f} in {options.steps} steps\n")
    rows = [row for row in trained.state.log_history if "stepcredit/right" in row]
    result = {"before": before, "after": after, "right": [row["stepcredit/right"] for row in rows]}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return result


if __name__ == "__main__":
    main()

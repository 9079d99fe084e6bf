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


def accuracy(model: Any, problems: Sequence[Problem], *, max_tokens: int) -> float:
    """Share of right answers, one sample a problem at temperature 1."""
    eos = TOKENIZER.eos_id
    prompts = torch.tensor([TOKENIZER.encode(problem.text).tolist() for problem in problems])
    torch.manual_seed(0)
    model.eval()
    with torch.no_grad():
        written = model.generate(prompts, do_sample=True, top_k=0, max_new_tokens=max_tokens, pad_token_id=0)
    right = 0
    for problem, row in zip(problems, written[:, prompts.shape[1] :].tolist(), strict=True):
        ids = row[: row.index(eos) + 1] if eos in row else row
        text, starts = align(torch.tensor(ids).numpy(), TOKENIZER)
        rollout = Rollout(problem.id, problem, "", 0, text, prompts[0].numpy(), torch.tensor(ids).numpy(), starts)
        right += WORLD_E.checker.outcome(rollout).status == "right"
    return right / len(problems)


def trainer(checkpoint: Path, options: argparse.Namespace) -> StepCreditGRPOTrainer:
    """TRL's trainer on our credit."""
    credit = StepCredit(
        "tp_grpo",
        Delimiter(";", form="world"),
        WORLD_E.checker,
        JUDGES["world-markers"].make(),
        settings=TpGrpoSettings(),
    )
    args = GRPOConfig(
        output_dir=str(options.out / "trl"),
        scale_rewards="none",
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
    problems = asked(options, options.steps * options.batch // 8, "train")
    rows = Dataset.from_list([{"prompt": problem.text, "answer": problem.answer} for problem in problems])
    words = PreTrainedTokenizerFast.from_pretrained(checkpoint, pad_token=WORLD_E.words[0], padding_side="left")
    model = LlamaForCausalLM.from_pretrained(checkpoint)
    return StepCreditGRPOTrainer(
        model, credit, args=args, train_dataset=rows, processing_class=words, callbacks=[Printed()]
    )


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Fine-tune, measure, train, measure; the result also goes to OUT/result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/trl"))
    parser.add_argument("--policy", type=Path, help="checkpoint to start from, in place of fine-tuning one")
    parser.add_argument("--length", type=int, default=2, help="steps of a problem")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--updates", type=int, default=400, help="of fine-tuning")
    parser.add_argument("--steps", type=int, default=40, help="of TRL")
    parser.add_argument("--batch", type=int, default=128, help="completions of a step")
    parser.add_argument("--max-tokens", type=int, default=56)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--held-out", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-completions", action="store_true", help="keep the log that retro-credit reads")
    options = parser.parse_args(words)
    checkpoint = options.policy or fine_tuned(options.out / "policy", options)
    trained = trainer(checkpoint, options)
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

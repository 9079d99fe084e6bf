"""One iteration of GRPO, sampling and update, beside TRL's GRPOTrainer: same model, prompts, lengths and batch.

    pip install trl    # in an environment of its own, beside stepcredit[train]
    python benchmarks/beside_trl.py [--threads 1] [--work 1,2,4] [--steps 3]

Both sides start from the same weights and write completions of the same lengths: TRL's rows are ended by a logits
processor, ours by `max_tokens`. TRL's steps and ours take turns inside one process, so that every ratio is of two
neighbouring measurements. TRL samples all rollouts in one `generate` call, as it does by default, and trains in
micro-batches of the size that is fastest for it at the smallest work. Our side, the lengths and where our time goes:
iteration_speed.py.

Writes results/beside_trl.json and beside_trl.md.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
import argparse
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from iteration_speed import (
    CONTEXT,
    GROUP_SIZE,
    QUANTILES,
    ROLLOUTS,
    Clock,
    Ours,
    alternating,
    gflop,
    lengths,
    profile_table,
    where_it_goes,
)
from transformers import LlamaForCausalLM, LogitsProcessor, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from stepcredit.engines.embedded.checkpoint import save_checkpoint
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.tasks.reflection_world import ReflectionWorld

RESULTS = Path(__file__).parent / "results"
MICRO_BATCHES = (32, 64, 256)


class EndAt(LogitsProcessor):
    """Ends row i at its length, and nothing before."""

    def __init__(self, ends: Sequence[int], *, prompt: int, eos: int) -> None:
        self.ends, self.prompt, self.eos = torch.tensor(ends), prompt, eos

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores with the end token forced or forbidden."""
        last = self.ends == input_ids.shape[1] - self.prompt + 1
        scores[:, self.eos] = float("-inf")
        scores[last] = float("-inf")
        scores[last, self.eos] = 0.0
        return scores


class TheirModel(LlamaForCausalLM):
    """The same network for TRL; `generate` ends rows at the lengths of the moment."""

    ends: np.ndarray
    eos: int

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As always, with rows ended."""
        prompt = kwargs["input_ids"].shape[1]
        kwargs["logits_processor"] = [EndAt(self.ends.tolist(), prompt=prompt, eos=self.eos)]
        parent: Any = super()
        return parent.generate(*args, **kwargs)


class TakeTurns(TrainerCallback):
    """After each of TRL's steps, one of ours; the first of each is warm-up and not counted."""

    def __init__(self, ours: Ours, theirs: "Theirs") -> None:
        self.ours, self.theirs = ours, theirs

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step of TRL begins."""
        self.theirs.draw()
        self.theirs.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It ends, and ours goes."""
        whole = time.perf_counter() - self.theirs.began
        self.theirs.clock.whole.append(whole)
        self.theirs.clock.update.append(whole - self.theirs.clock.sample[-1])
        self.ours.iterate(self.theirs.model.ends)


class Theirs(GRPOTrainer):
    """TRL's trainer with a clock around sampling."""

    clock: Clock
    kind: str
    began: float
    seed_of_lengths: int = 0

    def draw(self) -> None:
        """New lengths for the next step."""
        count = self.args.generation_batch_size
        self.model.ends, self.seed_of_lengths = (
            lengths(self.kind, count, seed=self.seed_of_lengths),
            self.seed_of_lengths + 1,
        )

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        found = super()._generate_single_turn(*args, **kwargs)
        self.clock.sample.append(time.perf_counter() - began)
        return found


def measure(kind: str, *, rollouts: int, micro: int, steps: int) -> dict[str, Any]:
    """Ratios TRL / ours of one setting, with the spread over the steps."""
    world = ReflectionWorld()
    tokenizer = FileTokenizer.from_words(world.words)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        model = CausalLM(ModelConfig(vocab_size=tokenizer.size, max_positions=CONTEXT))
        save_checkpoint(model, checkpoint, tokenizer=tokenizer)
        texts = [problem.text for problem in world.problems(rollouts // GROUP_SIZE, seed=0)]
        ours = Ours(checkpoint, [tokenizer.encode(text) for text in texts])
        theirs = their_trainer(
            kind, checkpoint, Path(folder), texts=texts, micro=micro, steps=steps + 1, rollouts=rollouts
        )
        theirs.add_callback(TakeTurns(ours, theirs))
        theirs.train()
    return summary(ours, theirs, kind=kind, rollouts=rollouts, micro=micro)


def their_trainer(
    kind: str, checkpoint: Path, folder: Path, *, texts: Sequence[str], micro: int, steps: int, rollouts: int
) -> Theirs:
    """TRL's trainer on the same work."""
    theirs_model = TheirModel.from_pretrained(checkpoint)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(checkpoint / "tokenizer.json"), pad_token="<pad>", eos_token="<eos>"
    )
    theirs_model.eos, theirs_model.ends = FileTokenizer.load(checkpoint).eos_id or 0, np.zeros(rollouts, int)
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=rollouts // micro,
        generation_batch_size=rollouts,
        num_generations=GROUP_SIZE,
        max_completion_length=max(QUANTILES[kind]) + 1,
        max_steps=steps,
        learning_rate=1e-6,
        beta=0.0,
        temperature=1.0,
        shuffle_dataset=False,
    )
    rows = Dataset.from_list([{"prompt": text} for text in texts])
    trainer = Theirs(
        model=theirs_model, reward_funcs=alternating, args=config, train_dataset=rows, processing_class=tokenizer
    )
    trainer.clock, trainer.kind = Clock(), kind
    return trainer


def summary(ours: Ours, theirs: Theirs, *, kind: str, rollouts: int, micro: int) -> dict[str, Any]:
    """Medians and ranges over the counted steps."""
    row: dict[str, Any] = {"lengths": kind, "rollouts": rollouts, "micro_batch": micro, "tokens": ours.tokens}
    row["our_gflops"] = round(gflop(ours.model, ours.tokens) / float(np.median(ours.clock.whole[1:])), 1)
    for part in ("sample", "update", "whole"):
        mine = np.array(getattr(ours.clock, part)[1:])
        other = np.array(getattr(theirs.clock, part)[1:])
        ratio = other / mine
        row[part] = {
            "ours_s": round(float(np.median(mine)), 4),
            "trl_s": round(float(np.median(other)), 4),
            "ratio": round(float(np.median(ratio)), 3),
            "ratio_range": [round(float(ratio.min()), 3), round(float(ratio.max()), 3)],
        }
    return row


def peak_gflops() -> float:
    """Best of ten float32 products of two 1024 x 1024 matrices, GFLOP/s."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - began)
    return 2 * 1024**3 / best / 1e9


def markdown(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The table."""
    head = [
        "lengths",
        "rollouts",
        "TRL micro-batch",
        "sampling",
        "update",
        "together",
        "ours s",
        "TRL s",
        "our GFLOP/s",
    ]
    lines = ["# One GRPO iteration beside TRL\n", ", ".join(f"{k} {v}" for k, v in facts.items()) + "\n"]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        parts = [row[part] for part in ("sample", "update", "whole")]
        cells = [f"{p['ratio']:.2f}x [{p['ratio_range'][0]:.2f}, {p['ratio_range'][1]:.2f}]" for p in parts]
        ends = [f"{row['whole']['ours_s']:.2f}", f"{row['whole']['trl_s']:.2f}", str(row["our_gflops"])]
        lines.append(
            "| " + " | ".join([row["lengths"], str(row["rollouts"]), str(row["micro_batch"]), *cells, *ends]) + " |"
        )
    note = "\nMedian ratio TRL / ours over the steps, with its range; TRL runs its fastest micro-batch."
    return "\n".join([*lines, note]) + "\n"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", default="1,2,4", help="multiples of 256 rollouts")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--lengths", default=",".join(QUANTILES))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows: list[dict[str, Any]] = []
    for kind in asked.lengths.split(","):
        sizes = MICRO_BATCHES
        for times in map(int, asked.work.split(",")):
            found = [measure(kind, rollouts=ROLLOUTS * times, micro=micro, steps=asked.steps) for micro in sizes]
            rows.append(min(found, key=lambda row: row["whole"]["trl_s"]))
            sizes = (rows[-1]["micro_batch"],)
            print(json.dumps(rows[-1]), flush=True)
    facts = {
        "threads": asked.threads,
        "torch": torch.__version__,
        "trl": trl.__version__,
        "machine": platform.machine(),
        "peak GFLOP/s": round(peak_gflops(), 1),
    }
    RESULTS.mkdir(exist_ok=True)
    profiles = {kind: where_it_goes(kind) for kind in asked.lengths.split(",")}
    report = {"facts": facts, "rows": rows, "profiles": profiles}
    (RESULTS / "beside_trl.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(rows, facts) + profile_table(profiles)
    (RESULTS / "beside_trl.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

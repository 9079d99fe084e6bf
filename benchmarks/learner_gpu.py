"""One update of the learner on one NVIDIA GPU beside TRL's GRPOTrainer: tokens a second and model FLOP utilisation.

    pip install trl    # in an environment of its own with a CUDA build of torch, beside stepcredit[train]
    CUDA_VISIBLE_DEVICES=0 python benchmarks/learner_gpu.py [--models 100m,350m,1b] [--work 1,2,4] [--steps 5]
    python benchmarks/learner_gpu.py --device cpu --models tiny    # its own smoke, in float32, written to --out only

Both sides train the same random Llama on the same random rollouts: equal weights at the start, lengths, rewards, old
log probabilities, loss (DAPO's), AdamW and number format (float32 weights under bf16 autocast). TRL's updates and ours
take turns in one process: every ratio is of two neighbours. Sampling, TRL's padding and our packing stand outside the
clock. Each side runs its fastest micro-batch of about 8,192, 16,384 or 32,768 tokens (TRL: padding included) that
fits the memory. Lengths: `short`, uniform from 64 to 256 tokens; `traces`, as recorded ones, shrunk to at most 4,096.

Tokens are real ones, prompts included. FLOP of an update: 6 N a token, with N the weights of the matrix products (the
head's for trained tokens alone: neither side needs it on others), and 12 L d s for attention in a sequence of s
tokens, causal or not, as is usual. MFU is FLOP a second over the device's dense bf16 peak, from a table; a device that
is not in it has none, unless `--peak-tflops` names its peak.

Writes results/learner_gpu.json and learner_gpu.md after every row. Rows of models that were not asked for are kept if
device, versions and options are the same, so that models can be run one at a time.

To expect on an H100 or H200; this is reasoning from sizes, nothing was measured when it was written:
- about ten minutes, most of them TRL's at 1B on `traces`; the larger micro-batches at 1B want 80 GB.
- `traces`: TRL pads to the longest rollout, 5 to 9 tokens for each real one, and masks its attention: ratio 5 to 10.
  `short`: 1.4 tokens for each real one: ratio 1.1 to 1.5, least at 100M, where TRL's head is one fused kernel and ours
  moves 2 MB of float32 logits a trained token: 0.6 us, two thirds of the time of the model's products.
- MFU of ours 25 to 40% at 1B, 10 to 20% at 100M: norms, rotary embedding and activations are kernels of their own that
  move about 0.5 MB a token and layer at width 768, 1.3 MB at 2,048; at 100M that takes longer than the products.
- where `varlen_attn` has no `enable_gqa` (torch before 2.12), packed attention runs once a length: hundreds of small
  kernels a layer, whose launching is likely the limit. `packed attention` in the results says which it was.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
import argparse
import gc
import inspect
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from iteration_speed import GROUP_SIZE, QUANTILES, alternating
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback

from stepcredit.core.pack import Pack
from stepcredit.engines.learner import LearnerSettings, TorchLearner, demonstration_pack
from stepcredit.engines.learner.huggingface import HuggingFacePacked
from stepcredit.engines.learner.settings import Precision

RESULTS = Path(__file__).parent / "results"
RATE = 1e-6

PEAK_TFLOPS = {
    "NVIDIA H200": 989.4,
    "NVIDIA H100 80GB HBM3": 989.4,
    **dict.fromkeys(("NVIDIA H100 NVL", "NVIDIA H200 NVL"), 835.5),
    "NVIDIA H100 PCIe": 756.5,
    **dict.fromkeys(("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB"), 312.0),
    **dict.fromkeys(("NVIDIA A100 80GB PCIe", "NVIDIA A100-PCIE-40GB"), 312.0),
    "NVIDIA L40S": 362.05,
    "NVIDIA GeForce RTX 4090": 165.2,
}
"""Dense bf16 products with float32 sums, TFLOP/s, by the name that the driver gives; from the vendor's data sheets."""

SHAPES = {
    "tiny": (512, 128, 6, 4, 2, 384),
    "100m": (32000, 768, 8, 12, 3, 2048),
    "350m": (32000, 1024, 24, 16, 4, 2816),
    "1b": (32000, 2048, 20, 32, 8, 5632),
}
"""Words, width, layers, query heads, key heads and width of the SwiGLU layer: 1.3M, 99M, 336M and 1,033M weights."""


@dataclass(frozen=True)
class Sizes:
    """Rollouts at work 1, tokens of prompts and completions, and the micro-batches to choose from, in tokens."""

    rollouts: int = 64
    prompt: int = 64
    short: tuple[int, int] = (64, 256)
    longest: int = 4096
    micro_batches: tuple[int, ...] = (8192, 16384, 32768)


SIZES = {"cuda": Sizes(), "cpu": Sizes(16, 8, (8, 32), 240, (512, 2048))}
PRECISION: dict[str, Precision] = {"cuda": "bf16", "cpu": "fp32"}


@dataclass(frozen=True)
class Turn:
    """One update of each side on the same rollouts."""

    tokens: int
    padded: float
    flop: float
    attention_share: float
    grad_norm: float
    ours_s: float
    trl_s: float = float("nan")


@dataclass(frozen=True)
class Setting:
    """What both sides are measured on."""

    model: str
    device: str
    kind: str
    rollouts: int
    steps: int
    their_attention: str

    def fresh_model(self) -> LlamaForCausalLM:
        """The same random weights at every call."""
        names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        sizes = dict(zip((*names, "intermediate_size"), SHAPES[self.model], strict=True))
        config = LlamaConfig(**sizes, max_position_embeddings=8192, bos_token_id=1, eos_token_id=1)
        torch.manual_seed(0)
        with torch.device(self.device):
            return LlamaForCausalLM(config)

    def lengths(self, rng: np.random.Generator) -> np.ndarray:
        """[rollouts] completion lengths."""
        sizes = SIZES[self.device]
        if self.kind == "short":
            return rng.integers(*sizes.short, self.rollouts, endpoint=True)
        points = np.array(QUANTILES["traces"], float)
        drawn = np.interp(rng.random(self.rollouts) * (len(points) - 1), np.arange(len(points)), points)
        return np.ceil(drawn * (sizes.longest / points[-1])).astype(int)

    def pack(self, seed: int) -> Pack:
        """Random rollouts; advantages -1/2 and 1/2 in turn (rewards 0 and 1 less their mean), old logprobs unknown."""
        rng, words = np.random.default_rng([seed, self.rollouts]), SHAPES[self.model][0]
        prompts = rng.integers(2, words, (self.rollouts, SIZES[self.device].prompt))
        completions = [rng.integers(2, words, length) for length in self.lengths(rng)]
        found = demonstration_pack(list(zip(prompts, completions, strict=True)))
        return replace(found, advantages=np.repeat(np.resize([-0.5, 0.5], self.rollouts), np.diff(found.starts)))

    def now(self) -> float:
        """Seconds, when the device has done all that it was asked."""
        getattr(torch, self.device).synchronize()
        return time.perf_counter()


class Ours:
    """The learner on packed sequences."""

    def __init__(self, setting: Setting, *, micro_batch: int) -> None:
        self.setting, self.model = setting, setting.fresh_model()
        settings = LearnerSettings(RATE, token_budget=micro_batch, precision=PRECISION[setting.device])
        self.learner = TorchLearner(HuggingFacePacked(self.model), settings.with_preset("dapo"))

    def pack(self, seed: int) -> Pack:
        """Rollouts, and their log probabilities under the weights as they are."""
        found = self.setting.pack(seed)
        return found.with_old_logprobs(self.learner.logprobs(found))

    def turn(self, pack: Pack) -> Turn:
        """One update under the clock."""
        config, head, lengths = self.model.config, self.model.lm_head.weight.numel(), np.diff(pack.starts)
        began = self.setting.now()
        update = self.learner.update(pack)
        spent = self.setting.now() - began
        attention = 12 * config.num_hidden_layers * config.hidden_size * float((lengths**2).sum())
        body = self.model.num_parameters() - 2 * head
        flop = 6 * (body * len(pack.ids) + head * pack.trained_tokens) + attention
        padded = float(lengths.max()) * pack.sequences / len(pack.ids)
        return Turn(len(pack.ids), padded, flop, attention / flop, update.grad_norm, ours_s=spent)


class Theirs(TrainerCallback):
    """TRL's trainer on the same rollouts; after each of its updates, one of ours. The first of each is warm-up."""

    def __init__(self, ours: Ours, *, micro_batch: int) -> None:
        self.ours, self.setting, self.turns = ours, ours.setting, list[Turn]()
        rollouts, width = self.setting.rollouts, int(np.diff(self.setting.pack(0).starts).max())
        fits = [count for count in range(1, rollouts + 1) if rollouts % count == 0 and count * width <= micro_batch]
        self.trainer = their_trainer(self.setting, self.rollouts, micro=max(fits, default=1))
        self.prepare = self.trainer._generate_and_score_completions
        self.trainer._generate_and_score_completions = self.prepared
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.add_callback(self)
        self.trainer.train()

    def rollouts(self, *_: Any) -> dict[str, Any]:
        """The rollouts of the moment, where TRL would sample."""
        rows, prompt = np.split(self.pack.ids, self.pack.starts[1:-1]), SIZES[self.setting.device].prompt
        prompts, completions = [row[:prompt].tolist() for row in rows], [row[prompt:].tolist() for row in rows]
        return {"prompt_ids": prompts, "completion_ids": completions, "logprobs": None}

    def prepared(self, inputs: Any) -> Any:
        """TRL's padded batch with our old log probabilities; the clock starts when it is ready."""
        output, prompt = self.prepare(inputs), SIZES[self.setting.device].prompt
        old = torch.zeros(output["completion_ids"].shape)
        for place, row in enumerate(np.split(self.pack.old_logprobs, self.pack.starts[1:-1])):
            old[place, : len(row) - prompt] = torch.tensor(row[prompt:])
        output["old_per_token_logps"] = old.to(self.setting.device)
        self.began = self.setting.now()
        return output

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """New rollouts."""
        self.pack = self.ours.pack(len(self.turns))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """TRL is done, and ours goes."""
        spent = self.setting.now() - self.began
        self.turns.append(replace(self.ours.turn(self.pack), trl_s=spent))

    def gradient_gaps(self) -> list[float]:
        """Relative difference between the two sides' gradient norms, an entry an update; 0 for exactly equal work."""
        norms = [entry["grad_norm"] for entry in self.trainer.state.log_history if "grad_norm" in entry]
        return [abs(theirs / ours.grad_norm - 1) for theirs, ours in zip(norms, self.turns, strict=True)]


def their_trainer(setting: Setting, rollouts: Callable[..., Any], *, micro: int) -> Any:
    """TRL's trainer with micro-batches of `micro` rollouts."""
    trl = import_module("trl")
    model = setting.fresh_model()
    model.set_attn_implementation(setting.their_attention)
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    quiet = {"report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True}
    loss = {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28, "scale_rewards": "none", "beta": 0.0}
    rate = {"learning_rate": RATE, "lr_scheduler_type": "constant", "optim": "adamw_torch_fused"}
    sizes = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": setting.rollouts // micro}
    sizes |= {"generation_batch_size": setting.rollouts, "num_generations": GROUP_SIZE}
    config = trl.GRPOConfig(
        tempfile.gettempdir(),
        use_cpu=setting.device == "cpu",
        bf16=PRECISION[setting.device] == "bf16",
        gradient_checkpointing=False,
        max_steps=setting.steps + 1,
        **(quiet | loss | rate | sizes),
    )
    return trl.GRPOTrainer(
        model=model,
        reward_funcs=alternating,
        args=config,
        train_dataset=import_module("datasets").Dataset.from_list([{"prompt": ""}] * setting.rollouts),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"),
        rollout_func=rollouts,
    )


def within_memory(run: Callable[[], Any]) -> Any:
    """What `run` returns, or `None` if the device's memory does not hold it."""
    try:
        return run()
    except torch.OutOfMemoryError:
        return None
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def fastest(setting: Setting) -> tuple[int, int] | None:
    """Tokens of the micro-batch with the shortest second update, ours and TRL's; `None` if none fits the memory."""

    def last_turn(tokens: int) -> Turn:
        return Theirs(Ours(replace(setting, steps=1), micro_batch=tokens), micro_batch=tokens).turns[-1]

    tried = {tokens: within_memory(partial(last_turn, tokens)) for tokens in SIZES[setting.device].micro_batches}
    turns = {tokens: turn for tokens, turn in tried.items() if turn is not None}
    if not turns:
        return None
    return min(turns, key=lambda tokens: turns[tokens].ours_s), min(turns, key=lambda tokens: turns[tokens].trl_s)


def measure(setting: Setting, *, ours: int, trl: int, peak: float | None) -> dict[str, Any]:
    """One row: medians over the counted turns, each with its range."""

    def spread(values: Sequence[float], digits: int) -> list[float]:
        return [round(float(value), digits) for value in (np.median(values), min(values), max(values))]

    side = Theirs(Ours(setting, micro_batch=ours), micro_batch=trl)
    turns = side.turns[1:]
    row: dict[str, Any] = {"micro_batches": {"ours": ours, "trl": trl}}
    for name in ("tokens", "padded", "attention_share"):
        row[name] = spread([getattr(turn, name) for turn in turns], 4)
    row["gradient_gap"] = spread(side.gradient_gaps(), 8)
    row["ratio"] = spread([turn.trl_s / turn.ours_s for turn in turns], 3)
    for name in ("ours", "trl"):
        pairs = [(turn, getattr(turn, f"{name}_s")) for turn in turns]
        rates = [turn.flop / spent / 1e12 for turn, spent in pairs]
        row[name] = {"s": spread([spent for _, spent in pairs], 5), "tflops": spread(rates, 4)}
        row[name]["tokens_s"] = spread([turn.tokens / spent for turn, spent in pairs], 0)
        row[name]["mfu"] = None if peak is None else spread([rate / peak for rate in rates], 4)
    return row


def benchmark(asked: argparse.Namespace, peak: float | None) -> Iterator[dict[str, Any]]:
    """One row a model, kind of lengths and amount of work."""
    rollouts = [int(times) * SIZES[asked.device].rollouts for times in asked.work.split(",")]
    for model, kind in product(asked.models.split(","), asked.lengths.split(",")):
        first = Setting(model, asked.device, kind, rollouts[0], asked.steps, asked.their_attention)
        chosen = fastest(first)
        for setting in (replace(first, rollouts=count) for count in rollouts):
            row: dict[str, Any] = {"model": model, "lengths": kind, "rollouts": setting.rollouts}
            run = chosen and partial(measure, setting, ours=chosen[0], trl=chosen[1], peak=peak)
            yield row | ((run and within_memory(run)) or {"failed": "out of memory"})


def packed_attention(device: str) -> str:
    """Which attention `HuggingFacePacked` runs on packed sequences."""
    kernel = import_module("torch.nn.attention.varlen").varlen_attn if find_spec("torch.nn.attention.varlen") else None
    if device == "cuda" and kernel and "enable_gqa" in inspect.signature(kernel).parameters:
        return "varlen_attn"
    return "once a length" if device == "cpu" else "once a length (slow: varlen_attn wants torch 2.12)"


def markdown(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The table."""

    def cell(values: Sequence[float] | None, form: str) -> str:
        return "-" if values is None else f"{values[0]:{form}} [{values[1]:{form}}, {values[2]:{form}}]"

    head = ["model", "lengths", "rollouts", "tokens", "padded", "TRL / ours", "ours tokens/s", "TRL tokens/s"]
    head += ["ours MFU", "TRL MFU", "attention share", "gradient gap"]
    lines = ["# One update of the learner beside TRL's\n", ", ".join(f"{k} {v}" for k, v in facts.items()) + "\n"]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        figures: list[Any] = [(row.get(name), ".2f") for name in ("padded", "ratio")]
        figures += [(row.get(side, {}).get("tokens_s"), ",.0f") for side in ("ours", "trl")]
        figures += [(row.get(side, {}).get("mfu"), ".1%") for side in ("ours", "trl")]
        figures += [(row.get("attention_share"), ".1%"), (row.get("gradient_gap"), ".0e")]
        cells = [row["model"], row["lengths"], str(row["rollouts"]), row.get("failed") or cell(row["tokens"], ",.0f")]
        lines.append("| " + " | ".join(cells + [cell(*figure) for figure in figures]) + " |")
    notes = "Medians over the updates, with their range. Padded: tokens of TRL's rectangle for each real one. "
    notes += "Gradient gap: relative difference of the sides' gradient norms; near 1e-7 (bf16: 1e-3) for equal work."
    return "\n".join([*lines, "", notes]) + "\n"


def refusal(device: str) -> str:
    """Why this machine cannot run it, or nothing."""
    if device == "cuda" and not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU: run this on a GPU machine, or its smoke with --device cpu"
    if device == "cuda" and torch.cuda.device_count() > 1:
        return "TRL refuses several GPUs in one process: set CUDA_VISIBLE_DEVICES to one"
    return "" if find_spec("trl") else "trl is missing: pip install trl, in an environment of its own"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(SIZES), default="cuda")
    parser.add_argument("--models", default="100m,350m,1b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--work", default="1,2,4", help="multiples of 64 rollouts (on a CPU of 16)")
    parser.add_argument("--steps", type=int, default=5, help="counted updates of each side")
    parser.add_argument("--lengths", default="short,traces")
    parser.add_argument("--peak-tflops", type=float, help="the device's dense bf16 peak, for MFU")
    parser.add_argument("--their-attention", default="sdpa", help="TRL's, as transformers names it")
    parser.add_argument("--out", type=Path, help="folder of the results")
    asked = parser.parse_args()
    if reason := refusal(asked.device):
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(3)
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    device = platform.machine() if asked.device == "cpu" else torch.cuda.get_device_name()
    peak = asked.peak_tflops or PEAK_TFLOPS.get(device)
    facts: dict[str, Any] = {"device": device} | {name: version(name) for name in ("torch", "transformers", "trl")}
    facts |= {"precision": PRECISION[asked.device], "packed attention": packed_attention(asked.device)}
    facts |= {"TRL's attention": asked.their_attention, "peak TFLOP/s": peak or "unknown"}
    print(json.dumps(facts), flush=True)
    folder = asked.out or (RESULTS if asked.device == "cuda" else None)
    rows = kept_rows(folder, facts, asked.models.split(",")) if folder else []
    for row in benchmark(asked, peak):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "learner_gpu.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
            (folder / "learner_gpu.md").write_text(markdown(rows, facts))
    print(markdown(rows, facts))


def kept_rows(folder: Path, facts: dict[str, Any], models: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of an earlier run with the same facts, for models that are not asked for now."""
    path = folder / "learner_gpu.json"
    earlier = json.loads(path.read_text()) if path.exists() else {"facts": {}, "rows": []}
    return [row for row in earlier["rows"] if earlier["facts"] == facts and row["model"] not in models]


if __name__ == "__main__":
    main()

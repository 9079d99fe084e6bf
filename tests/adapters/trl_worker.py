"""One of several processes that train together; started by test_trl_processes.py with torch's variables set.

Arguments: folder, completions a process, groups a batch, and optionally `break` for a judge that breaks in process 1.
Writes what each process saw to FOLDER/RANK.npz.
"""

import os
import sys
from pathlib import Path

import numpy as np
import trl_cases as cases

from stepcredit.core.protocols import Scale
from stepcredit.core.records import Steps, Verdict


class Breaks:
    """Fails with a bug of its own in process 1; elsewhere it is the coin's truth."""

    fingerprint = "breaks"
    scale = Scale.BINARY

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        if os.environ["RANK"] == "1":
            raise RuntimeError("the judge lost its head")
        return await cases.tp_grpo().judge.judge(steps)


def fixed_policy() -> object:
    """The tiny policy, sampling by a rule that does not depend on the process: rows of a table by prompt and place."""
    model = cases.policy()
    table = np.random.default_rng(0).integers(2, len(cases.WORLD_E.words), (64, cases.MAX_TOKENS))
    rank, calls = int(os.environ.get("RANK", "0")), [0]

    def generate(input_ids: cases.torch.Tensor, **_: object) -> cases.torch.Tensor:
        count = len(input_ids)
        whole = count * int(os.environ.get("WORLD_SIZE", "1"))
        first = calls[0] * whole + rank * count
        calls[0] += 1
        rows = cases.torch.tensor(table[[k % 64 for k in range(first, first + count)]])
        return cases.torch.cat([input_ids, rows], dim=1)

    model.generate = generate
    return model


def main(folder: Path, size: int, broken: bool) -> None:
    """Train two steps and write the batches."""
    rank = int(os.environ.get("RANK", "0"))
    own = folder / f"rank{rank}"
    own.mkdir(parents=True, exist_ok=True)
    credit = cases.tp_grpo(judge=Breaks()) if broken else cases.tp_grpo()
    trainer = cases.Ours(
        fixed_policy(),
        credit,
        args=cases.config(own, per_device_train_batch_size=size, loss_type="dapo", optim="sgd", max_grad_norm=1e9),
        train_dataset=cases.problems(),
        processing_class=cases.words(own),
    )
    trainer.train()
    columns = {
        f"{name}{k}": batch[name].numpy()
        for k, batch in enumerate(trainer.batches)
        for name in ("advantages", "completion_ids", "completion_mask")
    }
    row = trainer.state.log_history[0]
    figures = {name: value for name, value in row.items() if name.startswith("stepcredit/")}
    np.savez(folder / f"{rank}.npz", weights=cases.weights(trainer).numpy(), figures=np.array(str(figures)), **columns)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["break"])

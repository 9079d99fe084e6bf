"""Runs of arms on the embedded worlds for a table: checkpoints made once, runs paired by seed, one JSON line a run.

Used by learning.py, judges.py and credit.py. A study is a TOML file: `[tasks.NAME]` changes the demo recipe into a
task, `[arms.NAME]` is an arm of a recipe, `[report]` says which checkpoints, seeds and rounds are reported.
`[references.NAME]`, which arms name by `reference_of`, makes frozen policies: the task's fine-tuning changed
(`changes`), or `rounds` rounds of an `arm` from the checkpoint.
"""

import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from stepcredit.core.errors import PartialError
from stepcredit.recipes.arms import ArmJob, ArmResult, run_arm
from stepcredit.recipes.demo_settings import RECIPE, ArmPart, DemoRecipe, load_demo
from stepcredit.recipes.pretraining import pretrain_to_gate
from stepcredit.recipes.teaching import teach_generative, teach_taught

HERE = Path(__file__).parent
RESULTS = HERE / "results"
NO_OVERRIDE = ("starts_from", "levels")
NOT_OF_ARM = ("rate_of", "rounds", "question", "reference_of", "beside")
"""Keys of `[arms.NAME]` that a study reads itself."""
TEACHERS = {"generative": teach_generative, "taught": teach_taught}
SPENT = ("sampled", "trained", "judge", "signal")
TOLD = ("sampling_entropy", "start_kl_k1", "zero_spread", "guarded_ratios", "impossible", "clip_low", "clip_high")
HARD = ("hard_avg_at_8", "hard_pass_at_8")
# Longer curves than the demo's; and a firing must not change what is compared.
FIXED = ("measure.problems=256", "measure.pass_problems=64", "monitors.act=false")


@dataclass(frozen=True)
class Run:
    """One line of the results: which arm, where from, with what."""

    task: str
    arm: str
    checkpoint: int
    seed: int
    learning_rate: float
    rounds: int

    @property
    def key(self) -> str:
        """Name of the run."""
        return f"{self.task}/{self.arm}/c{self.checkpoint}/s{self.seed}/lr{self.learning_rate:g}"


@final
@dataclass(frozen=True)
class Study:
    """The runs behind a set of tables; picklable.

    Args:
        name: start of the names of its results files.
        settings: its TOML file, read.
        changes: of the recipe, for all tasks, as `--set` takes them.
    """

    name: str
    settings: Mapping[str, Any]
    changes: Sequence[str] = field(default=FIXED)

    @property
    def arms(self) -> Mapping[str, Mapping[str, Any]]:
        """Its arms, as written."""
        return self.settings["arms"]

    def recipe_of(self, task: str, checkpoint: int, *, rounds: int, changes: Sequence[str] = ()) -> DemoRecipe:
        """The demo recipe, changed into a task, with one task table and pretraining seed a checkpoint."""
        part = self.settings["tasks"][task]
        own = [f"{key}={json.dumps(value)}" for key, value in part.items() if key not in NO_OVERRIDE]
        seeds = (f"world.task_seed={checkpoint}", f"pretrain.seed={checkpoint}", f"rounds.rounds={rounds}")
        arms = {
            name: ArmPart(**{key: value for key, value in arm.items() if key not in NOT_OF_ARM})
            for name, arm in self.arms.items()
        }
        return load_demo(RECIPE, overrides=(*seeds, *self.changes, *own, *changes)).model_copy(update={"arms": arms})

    def place_of(self, cache: Path, task: str, checkpoint: int) -> Path:
        """Where a task's checkpoint and its judges lie."""
        return cache / f"{self.settings['tasks'][task].get('starts_from', task)}-{checkpoint}"

    def reference_of(self, arm: str, start: Path) -> Path | None:
        """Where the frozen policy that an arm names lies, of a checkpoint."""
        name = self.arms[arm].get("reference_of")
        return start.with_name(f"{start.name}-{name}") if name else None

    def make_reference(self, task: str, checkpoint: int, name: str, folder: Path) -> None:
        """Make the frozen policy of that name; what is there is kept."""
        part, start = self.settings["references"][name], folder.with_name(folder.name.removesuffix(f"-{name}"))
        recipe = self.recipe_of(task, checkpoint, rounds=part.get("rounds", 1), changes=part.get("changes", ()))
        if "arm" not in part:
            pretrain_to_gate(recipe, folder)
            return
        arm = recipe.arms[part["arm"]].model_copy(update={"learning_rate": part["learning_rate"]})
        whole = recipe.model_copy(update={"arms": {part["arm"]: arm}})
        run_arm(ArmJob(whole, part["arm"], part["seed"], start, folder))

    def prepare(
        self, task: str, checkpoint: int, folder: Path, judges: Sequence[str], references: Sequence[str]
    ) -> bool:
        """Fine-tune a checkpoint to its gate, teach the judges, make the references; what is there is kept.

        Runs in a worker.

        Returns:
            False if the checkpoint missed its gate.
        """
        torch.set_num_threads(1)
        recipe = self.recipe_of(task, checkpoint, rounds=1)
        try:
            pretrain_to_gate(recipe, folder)
        except PartialError as error:
            print(f"{task} checkpoint {checkpoint}: {error}", flush=True)
            return False
        for name in judges:
            if not (folder / f"judge-{name}").exists():
                TEACHERS[name](recipe, folder)
        for name in references:
            self.make_reference(task, checkpoint, name, folder.with_name(f"{folder.name}-{name}"))
        return True

    def execute(self, run: Run, checkpoint: Path) -> dict[str, Any]:
        """Train one arm once; returns its line of the results. Runs in a worker."""
        torch.set_num_threads(1)
        recipe = self.recipe_of(run.task, run.checkpoint, rounds=run.rounds)
        changed: dict[str, Any] = {"learning_rate": run.learning_rate}
        if reference := self.reference_of(run.arm, checkpoint):
            changed["reference"] = str(reference)
        arms = {run.arm: recipe.arms[run.arm].model_copy(update=changed)}
        out = Path(tempfile.mkdtemp(prefix=f"stepcredit-{self.name}-"))
        try:
            job = ArmJob(recipe.model_copy(update={"arms": arms}), run.arm, run.seed, checkpoint, out / "run")
            return line_of(run, run_arm(job))
        finally:
            shutil.rmtree(out)

    def work(self, runs: Sequence[Run], *, name: str, cache: Path, workers: int) -> None:
        """Execute all runs that are not stored under this name yet; those without a passing checkpoint are left out."""
        done = {line["key"] for line in self.stored(name)}
        left = [run for run in runs if run.key not in done]
        places = sorted({(run.task, run.checkpoint) for run in left})
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            ready = {}
            for task, checkpoint in places:
                arms = [self.arms[run.arm] for run in left if run.task == task]
                judges = sorted({str(arm.get("judge", "none")) for arm in arms} & TEACHERS.keys())
                references = sorted({arm["reference_of"] for arm in arms if "reference_of" in arm})
                folder = self.place_of(cache, task, checkpoint)
                ready[task, checkpoint] = pool.submit(self.prepare, task, checkpoint, folder, judges, references)
            passed = {place for place, future in ready.items() if future.result()}
            futures = [
                pool.submit(self.execute, run, self.place_of(cache, run.task, run.checkpoint))
                for run in left
                if (run.task, run.checkpoint) in passed
            ]
            for future in as_completed(futures):
                line = future.result()
                self.store(name, line)
                print(f"{line['key']}: final {line['final_accuracy']:.3f}, {line['cpu_seconds']:.0f} CPU s", flush=True)

    def stored(self, name: str) -> list[dict[str, Any]]:
        """Lines of a results file, in order."""
        path = RESULTS / f"{self.name}_{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def store(self, name: str, line: Mapping[str, Any]) -> None:
        """Append one line to a results file."""
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{self.name}_{name}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def line_of(run: Run, result: ArmResult) -> dict[str, Any]:
    """One JSON line: the curve and the final figures."""
    rows = [row for row in result.rows if row.accuracy is not None]
    return {
        "key": run.key,
        "task": run.task,
        "arm": run.arm,
        "checkpoint": run.checkpoint,
        "seed": run.seed,
        "learning_rate": run.learning_rate,
        "rollouts": [row.rollouts for row in rows],
        "accuracy": [row.accuracy for row in rows],
        "first_guess": [round(row.figures.get("first_guess", float("nan")), 4) for row in rows],
        "catch": [round(row.figures.get("catch", float("nan")), 4) for row in rows],
        "tokens": [round(row.figures.get("tokens", float("nan")), 1) for row in rows],
        "kept": [row.kept for row in rows],
        "spent": {kind: [getattr(row, f"{kind}_tokens") or 0 for row in rows] for kind in SPENT},
        **{name: [getattr(row, name) for row in rows] for name in TOLD},
        **{name: [row.figures[name] for row in rows] for name in HARD if name in rows[-1].figures},
        "final_accuracy": sum(result.final_right) / len(result.final_right),
        "pass_at_8": sum(result.pass_at_8) / len(result.pass_at_8),
        "avg_at_8": sum(result.avg_at_8) / len(result.avg_at_8),
        "judge_tokens": result.judge_tokens,
        "signal_tokens": result.signal_tokens,
        "fired": sorted({firing.monitor for firing in result.firings}),
        "cpu_seconds": round(result.cpu_seconds, 1),
    }

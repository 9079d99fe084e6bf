"""Judges of the embedded task: building the judge that an arm names, and measuring judges on policy rollouts."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

from stepcredit.core.protocols import Judge
from stepcredit.core.records import Credit, Judgement, Label, Steps
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.checkpoint import load_checkpoint
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.cache import CachedJudge
from stepcredit.judges.intrinsic.embedded import EmbeddedReader
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.markers import world_markers
from stepcredit.judges.intrinsic.statistics import TaskCounts
from stepcredit.judges.oracle import OracleJudge
from stepcredit.judges.taught import TaughtJudge
from stepcredit.judges.wrappers import FlippedJudge
from stepcredit.recipes.demo_settings import ArmPart, DemoRecipe
from stepcredit.recipes.teaching import GENERATIVE, TAUGHT
from stepcredit.recipes.world import WorldTask, true_steps
from stepcredit.store.run_folder import RunFolder


@final
@dataclass(frozen=True)
class BuiltJudge:
    """A judge ready to work, with what must be closed after it and what it cost.

    Args:
        judge: what the rounds ask, wrappers included; `None` for outcome-only rules.
        inner: the judge behind the wrappers, for its statistics.
        sampler: its engine, if it has one.
    """

    judge: Judge | None
    inner: IntrinsicJudge | TaughtJudge | OracleJudge | None = None
    sampler: EmbeddedSampler | None = None

    async def aclose(self) -> None:
        """Close the judge's engine, if it has one."""
        if self.sampler is not None:
            await self.sampler.aclose()

    def parse_table(self) -> dict[str, Any]:
        """Parse statistics by task and kind of solution (F3); empty for judges that parse nothing."""
        if not isinstance(self.inner, IntrinsicJudge):
            return {}
        counts = self.inner.statistics.counts
        return {f"{task}/{kind}": _plain(found) for (task, kind), found in counts.items()}


def _plain(counts: TaskCounts) -> dict[str, Any]:
    values = {field.name: getattr(counts, field.name) for field in fields(counts)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


async def build_judge(arm: ArmPart, checkpoint: Path, folder: RunFolder, *, seed: int) -> BuiltJudge:
    """The judge that an arm names, with its flips and its cache.

    Args:
        arm: names the judge.
        checkpoint: folder of the starting policy; taught judges lie in it.
        folder: run folder, whose cache keeps the verdicts of model judges by content.
        seed: of the flips.
    """
    settings = IntrinsicSettings(include_reflection=arm.interval == "reflection")
    built = _named(arm.judge, checkpoint, settings)
    judge = built.judge
    if judge is not None and built.sampler is not None:
        judge = CachedJudge(judge, folder.cache)
    if judge is not None and arm.flip:
        judge = FlippedJudge(judge, arm.flip, seed=derive(seed, "flip"))
    return BuiltJudge(judge, built.inner, built.sampler)


def _named(name: str, checkpoint: Path, settings: IntrinsicSettings) -> BuiltJudge:
    if name == "none":
        return BuiltJudge(None)
    if name == "markers":
        inner = IntrinsicJudge(world_markers(), settings)
        return BuiltJudge(inner, inner)
    if name == "oracle":
        oracle = OracleJudge(true_steps, "world")
        return BuiltJudge(oracle, oracle)
    place = checkpoint / (GENERATIVE if name == "generative" else TAUGHT)
    sampler, tokenizer = EmbeddedSampler(load_checkpoint(place)), FileTokenizer.load(place)
    if name == "generative":
        inner = IntrinsicJudge(EmbeddedReader(sampler, tokenizer), settings)
        return BuiltJudge(inner, inner, sampler)
    taught = TaughtJudge(sampler, tokenizer)
    return BuiltJudge(taught, taught, sampler)


def judge_costs(built: BuiltJudge) -> tuple[int, int]:
    """(tokens, calls) that the judge's model read and wrote; nothing for judges without a model."""
    if isinstance(built.inner, TaughtJudge):
        return built.inner.tokens, built.inner.calls
    if isinstance(built.inner, IntrinsicJudge) and built.sampler is not None:
        counts = built.inner.statistics.counts.values()
        return sum(c.input_tokens + c.output_tokens for c in counts), sum(c.calls for c in counts)
    return 0, 0


def measure_judges(
    recipe: DemoRecipe, checkpoint: Path, credited: Sequence[tuple[str, int, Credit]]
) -> dict[str, dict[str, float | None]]:
    """How good each judge of the recipe is on policy rollouts, against exact truth and against markers.

    Args:
        recipe: its arms name the judges.
        checkpoint: folder of the starting policy, with the taught judges.
        credited: (arm, round, credit) of the rollouts to judge again.

    Returns:
        For each judge: `solutions`, `parse_rate` (share judged of the finished ones), `step_f1`, `precision` and
        `recall` of wrong steps against exact truth, and agreement with markers per protocol (share of equal labels).
    """
    task = WorldTask(recipe.world)
    cut = [task.splitter.split(credit.steps.outcome) for _, _, credit in credited]
    finished = [steps for steps in cut if steps.closed and steps.outcome.status != "unscorable"]
    names = list(dict.fromkeys(arm.judge for arm in recipe.arms.values() if arm.judge != "none"))
    if not finished:
        return {name: {"solutions": 0.0} for name in names}
    found = asyncio.run(_judged(checkpoint, [*dict.fromkeys(["markers", *names])], finished))
    return {name: _judge_row(found[name], found["markers"]) for name in names}


async def _judged(checkpoint: Path, names: Sequence[str], cut: Sequence[Steps]) -> dict[str, list[Judgement]]:
    found: dict[str, list[Judgement]] = {}
    for name in names:
        built = _named(name, checkpoint, IntrinsicSettings())
        judge = built.judge
        if judge is not None:
            verdicts = await asyncio.gather(*(judge.judge(steps) for steps in cut))
            found[name] = [Judgement(s, v, judge.fingerprint) for s, v in zip(cut, verdicts, strict=True)]
        await built.aclose()
    return found


def _judge_row(mine: Sequence[Judgement], markers: Sequence[Judgement]) -> dict[str, float | None]:
    row: dict[str, float | None] = {
        "solutions": float(len(mine)),
        "parse_rate": sum(judgement.known for judgement in mine) / len(mine),
    }
    for status, protocol in (("right", "reflection"), ("wrong", "matching")):
        pairs = [(a, b) for a, b in zip(mine, markers, strict=True) if a.steps.outcome.status == status and a.known]
        labels = [(x.label, y.label) for a, b in pairs for x, y in _think(a, b) if y.label is not None]
        row[f"agreement_{protocol}"] = sum(x == y for x, y in labels) / len(labels) if labels else None
        row |= {f"{key}_{protocol}": value for key, value in _against_truth([a for a, _ in pairs]).items()}
    both = _against_truth([judgement for judgement in mine if judgement.known])
    return {**row, "step_precision": both["precision"], "step_recall": both["recall"], "step_f1": both["f1"]}


def _think(mine: Judgement, other: Judgement) -> list[tuple[Any, Any]]:
    pairs = zip(mine.verdicts, other.verdicts, mine.steps.in_answer, strict=True)
    return [(a, b) for a, b, inside in pairs if not inside]


def _against_truth(judgements: Sequence[Judgement]) -> dict[str, float | None]:
    """Precision, recall and F1 of blame (`incorrect`, `matched`) on think steps that are truly wrong."""
    hits = blamed = wrong = 0
    for judgement in judgements:
        truths = true_steps(judgement.steps)
        for verdict, right, inside in zip(judgement.verdicts, truths, judgement.steps.in_answer, strict=True):
            if inside or right is None:
                continue
            flag = verdict.label in (Label.INCORRECT, Label.MATCHED)
            blamed, wrong, hits = blamed + flag, wrong + (not right), hits + (flag and not right)
    precision = hits / blamed if blamed else None
    recall = hits / wrong if wrong else None
    total = blamed + wrong
    return {"precision": precision, "recall": recall, "f1": 2 * hits / total if total else None}

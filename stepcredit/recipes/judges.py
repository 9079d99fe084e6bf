"""Judges of the embedded task: building the judge that an arm names, wrappers and cache included."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

from stepcredit.core.protocols import Judge
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
from stepcredit.recipes.demo_settings import ArmPart
from stepcredit.recipes.teaching import GENERATIVE, TAUGHT
from stepcredit.recipes.world import true_steps
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
    built = named_judge(arm.judge, checkpoint, settings)
    judge = built.judge
    if judge is not None and built.sampler is not None:
        judge = CachedJudge(judge, folder.cache)
    if judge is not None and arm.flip:
        judge = FlippedJudge(judge, arm.flip, seed=derive(seed, "flip"))
    return BuiltJudge(judge, built.inner, built.sampler)


def named_judge(name: str, checkpoint: Path, settings: IntrinsicSettings) -> BuiltJudge:
    """A judge of the embedded task by its name, without wrappers.

    Args:
        name: `none`, `markers`, `oracle`, `generative` or `taught`.
        checkpoint: folder of the starting policy; taught judges lie in it.
        settings: of the intrinsic judge.
    """
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

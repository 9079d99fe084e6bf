"""Judges of the embedded task: building the judge that an arm names, wrappers and cache included."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from stepcredit.judges.intrinsic.statistics import RejectedReply, TaskCounts
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

    def parse(self) -> dict[str, TaskCounts]:
        """Parse statistics by task and kind of solution (F3); empty for judges that parse nothing."""
        if not isinstance(self.inner, IntrinsicJudge):
            return {}
        return {f"{task}/{kind}": found for (task, kind), found in self.inner.statistics.counts.items()}

    def rejected(self) -> tuple[RejectedReply, ...]:
        """Replies that could not be read, in order of arrival."""
        return self.inner.statistics.rejected if isinstance(self.inner, IntrinsicJudge) else ()


SPENT, REJECTED = "spent", "rejected_reply"
"""Stages of an arm's ledger: what its sessions spent, part by part, and each reply that could not be read."""


@final
@dataclass(frozen=True)
class Spent:
    """What a run spent on its judge, how the judge's replies were read, and the time it took.

    Args:
        tokens: read and written by the judge.
        calls: calls of the judge.
        seconds: wall time.
        cpu_seconds: process CPU time.
        parse: parse statistics by task and kind of solution, `P1/right` and the like.
        signal_tokens: read and written for signals that no record holds (reference passes, continuations).
        complete: True once the run has come to its end; later sessions only look at it.
    """

    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    parse: Mapping[str, TaskCounts] = field(default_factory=dict[str, TaskCounts])
    complete: bool = False
    signal_tokens: int = 0

    def plus(self, other: "Spent", *, times: int = 1) -> "Spent":
        """Both together; with `times = -1` what came since the other was taken."""
        names = sorted({*self.parse, *other.parse})
        none = TaskCounts()
        return Spent(
            self.tokens + times * other.tokens,
            self.calls + times * other.calls,
            self.seconds + times * other.seconds,
            self.cpu_seconds + times * other.cpu_seconds,
            {name: self.parse.get(name, none).plus(other.parse.get(name, none), times=times) for name in names},
            self.complete or other.complete,
            self.signal_tokens + times * other.signal_tokens,
        )

    def as_payload(self) -> dict[str, Any]:
        """As JSON-able mapping."""
        return {**vars(self), "parse": {name: counts.as_payload() for name, counts in self.parse.items()}}


@final
class Account:
    """What an arm has spent over all its sessions, kept in its ledger; a killed session loses what it did not keep.

    Args:
        folder: the arm's run folder.
        judge: whose tokens, calls and replies are counted.
        signal_tokens: tokens that signals have cost in this session so far.
    """

    def __init__(self, folder: RunFolder, judge: BuiltJudge, *, signal_tokens: Callable[[], int] = lambda: 0) -> None:
        self._folder, self._judge, self._signal_tokens = folder, judge, signal_tokens
        self._start = time.monotonic(), time.process_time()
        self._parts, self._replies = folder.ledger.count(SPENT), folder.ledger.count(REJECTED)
        self._kept, self._told = Spent(), 0
        self._complete = self.total.complete

    @property
    def total(self) -> Spent:
        """Of all sessions, as far as it was kept."""
        found = Spent()
        for _, payload in self._folder.ledger.items(SPENT):
            parse: Any = {name: TaskCounts(**counts) for name, counts in payload["parse"].items()}
            found = found.plus(Spent(**{**payload, "parse": parse}))
        return found

    def keep(self, *, complete: bool = False) -> None:
        """Record what came since the last time; nothing once the run is complete."""
        if self._complete:
            return
        tokens, calls = judge_costs(self._judge)
        wall, cpu = time.monotonic() - self._start[0], time.process_time() - self._start[1]
        now = Spent(tokens, calls, wall, cpu, self._judge.parse(), complete, self._signal_tokens())
        ledger = self._folder.ledger
        ledger.put(SPENT, str(self._parts), now.plus(self._kept, times=-1).as_payload())
        for reply in self._judge.rejected()[self._told :]:
            ledger.put(REJECTED, str(self._replies), _reply(reply))
            self._replies += 1
        self._kept, self._told, self._parts = now, len(self._judge.rejected()), self._parts + 1
        self._complete = complete
        ledger.flush()


def _reply(reply: RejectedReply) -> dict[str, Any]:
    found = {name: value for name, value in vars(reply).items() if name != "reject"}
    return {**found, "reason": str(reply.reject.reason), "detail": reply.reject.detail}


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

"""Judges: a verdict on every step of a solution (Steps -> Judgement)."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, final

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatModel, Judge, Sampler, Tokenizer
from stepcredit.judges.cache import CachedJudge, MemoryCache, VerdictCache
from stepcredit.judges.critic import CriticJudge, CriticSettings
from stepcredit.judges.discriminative.judge import DiscriminativeJudge
from stepcredit.judges.genprm.judge import GenPrmJudge
from stepcredit.judges.genprm.settings import GenPrmSettings
from stepcredit.judges.intrinsic.embedded import EmbeddedReader
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.markers import text_markers, world_markers
from stepcredit.judges.intrinsic.server import ServerReader, ServerReaderSettings
from stepcredit.judges.intrinsic.statistics import ParseStatistics
from stepcredit.judges.metering import Meter, MeteredChat, Spending
from stepcredit.judges.oracle import OracleJudge
from stepcredit.judges.step_critic import StepCritic, StepCriticSettings
from stepcredit.judges.taught import TaughtJudge
from stepcredit.judges.thinkprm.chains import ThinkPRMSettings
from stepcredit.judges.thinkprm.judge import ThinkPRMJudge
from stepcredit.judges.wrappers import BudgetedJudge, CalibratedJudge, FlippedJudge, VotingJudge

__all__ = [
    "JUDGES",
    "BudgetedJudge",
    "CachedJudge",
    "CalibratedJudge",
    "CriticJudge",
    "CriticSettings",
    "DiscriminativeJudge",
    "EmbeddedReader",
    "FlippedJudge",
    "GenPrmJudge",
    "GenPrmSettings",
    "IntrinsicJudge",
    "IntrinsicSettings",
    "JudgeEntry",
    "MemoryCache",
    "Meter",
    "MeteredChat",
    "OracleJudge",
    "ParseStatistics",
    "ServerReader",
    "ServerReaderSettings",
    "Spending",
    "StepCritic",
    "StepCriticSettings",
    "TaughtJudge",
    "ThinkPRMJudge",
    "ThinkPRMSettings",
    "VerdictCache",
    "VotingJudge",
    "judge_entry",
]


@final
@dataclass(frozen=True)
class JudgeEntry:
    """How a judge is made.

    Args:
        make: builds it; takes what `needs` names, in that order, then its settings.
        needs: what the caller must bring: `reader`, `chat model`, `truth` ...; empty if nothing.
        what: one line for lists and help.
    """

    make: Callable[..., Judge]
    needs: tuple[str, ...]
    what: str


def _markers(settings: IntrinsicSettings | None = None, **more: Any) -> Judge:
    return IntrinsicJudge(text_markers(), settings, **more)


def _world_markers(settings: IntrinsicSettings | None = None, **more: Any) -> Judge:
    return IntrinsicJudge(world_markers(), settings, **more)


def _embedded(sampler: Sampler, tokenizer: Tokenizer, settings: IntrinsicSettings | None = None, **more: Any) -> Judge:
    return IntrinsicJudge(EmbeddedReader(sampler, tokenizer), settings, **more)


def _server(
    model: ChatModel,
    settings: IntrinsicSettings | None = None,
    *,
    reading: ServerReaderSettings | None = None,
    **more: Any,
) -> Judge:
    return IntrinsicJudge(ServerReader(model, reading), settings, **more)


JUDGES: dict[str, JudgeEntry] = {
    "markers": JudgeEntry(_markers, (), "intrinsic, read by marker words, numbers and expressions; no model"),
    "world-markers": JudgeEntry(_world_markers, (), "intrinsic, read by the grammar of the embedded worlds; no model"),
    "intrinsic": JudgeEntry(IntrinsicJudge, ("reader",), "intrinsic, read by the reader that is given"),
    "embedded": JudgeEntry(
        _embedded, ("sampler", "tokenizer"), "intrinsic, read by a small model taught from structure; embedded worlds"
    ),
    "server": JudgeEntry(_server, ("chat model",), "intrinsic, read by any chat model, in prompts of our own"),
    "taught": JudgeEntry(
        TaughtJudge, ("sampler", "tokenizer"), "a small model taught with true step labels; embedded worlds"
    ),
    "critic": JudgeEntry(CriticJudge, ("chat model",), "any chat model names the first wrong step (ProcessBench)"),
    "thinkprm": JudgeEntry(
        ThinkPRMJudge,
        ("writer", "tokenizer", "chat template"),
        "a ThinkPRM checkpoint writes a critique and answers yes or no",
    ),
    "genprm": JudgeEntry(
        GenPrmJudge,
        ("writer", "tokenizer", "chat template"),
        "a GenPRM checkpoint analyses step by step, with code if a runner is given",
    ),
    "oracle": JudgeEntry(OracleJudge, ("truth", "name"), "true step labels from outside, for measuring"),
    "discriminative": JudgeEntry(
        DiscriminativeJudge,
        ("token classifier", "step format"),
        "a reward model's class head or + and - tokens, read where each step ends",
    ),
    "step-critic": JudgeEntry(StepCritic, ("chat model",), "any chat model says yes or no to every step in one reply"),
}
"""Judges by name."""


def judge_entry(name: str) -> JudgeEntry:
    """A judge's entry by name.

    Raises:
        UsageError: for an unknown name, naming the nearest known one.

    >>> judge_entry("critic").needs
    ('chat model',)
    """
    if name in JUDGES:
        return JUDGES[name]
    near = get_close_matches(name, JUDGES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(JUDGES)}"
    raise UsageError(f"unknown judge {name!r}; {hint}")

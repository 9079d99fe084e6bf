"""Judges of whole solutions by name, on a server: built from the recipe, with the groups that they compare."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import final

import numpy as np

from stepcredit.core.errors import UsageError
from stepcredit.core.judge_parts import CritiqueRater, OutcomeJudge, TokenClassifier
from stepcredit.core.protocols import ChatModel, Judge, Scale
from stepcredit.core.records import Group, Outcome, Rollout
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.hub import tokenizer_folder
from stepcredit.engines.server.budget import Budget
from stepcredit.engines.server.transport import OnAttempt
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.cache import CachedChat
from stepcredit.judges.outcome.meta_rater import MetaRater
from stepcredit.judges.outcome.spct import SpctJudge
from stepcredit.judges.outcome.think_rm import ThinkRMPairJudge, ThinkRMPointJudge
from stepcredit.judges.outcome.whole import PairRater, WholeJudge
from stepcredit.recipes.extras import require_extra
from stepcredit.recipes.recorded.input import RecordedInput
from stepcredit.recipes.recorded.judges import CallLog, budget_of, judge_settings, server_settings
from stepcredit.recipes.recorded.outcome_parts import (
    SpctPart,
    ThinkRmPart,
    pair_settings,
    point_settings,
    spct_settings,
)
from stepcredit.recipes.recorded.reading import RequestFields
from stepcredit.recipes.recorded.settings import RecordedRecipe, RecordedSettings, ServerPart
from stepcredit.recipes.recorded.wrapping import check_probabilities


@final
class Groups:
    """The solutions of each problem, as outcome judges read them: texts without tokens; held in memory.

    Args:
        found: the file, grouped by problem. Solutions without text are left out: they get no score.
    """

    def __init__(self, found: RecordedInput) -> None:
        members: dict[str, list[Outcome]] = {}
        none = np.zeros(0, np.int32)
        for place, item in found.items():
            group, sample = found.grouping.names[place], found.grouping.samples[place]
            if item.response:
                rollout = Rollout(item.id, item.problem, group, sample, item.response, none, none, none)
                members.setdefault(group, []).append(Outcome(rollout, "unscorable", None, "not looked at"))
        self._groups = {name: Group(name, tuple(outcomes)) for name, outcomes in members.items()}

    def of(self, rollout: Rollout) -> Group:
        """The group of a rollout."""
        return self._groups[rollout.group]

    @property
    def compared(self) -> int:
        """Number of groups with at least two solutions."""
        return sum(len(group.outcomes) > 1 for group in self._groups.values())


@asynccontextmanager
async def opened_outcome(
    settings: RecordedSettings, recipe: RecordedRecipe, found: RecordedInput
) -> AsyncGenerator[tuple[Judge, CallLog]]:
    """The outcome judge of a walk, ready to be asked, as a judge of solutions that are one step.

    Args:
        settings: judge, server, model and limits are read.
        recipe: `[server]` and the judge's section are read.
        found: the file, whose solutions are grouped by problem.

    Raises:
        UsageError: for keys that do not fit, a meta reward model that cannot be used, or solutions that are alone.
        MachineError: if there is no server, or the meta reward model cannot be loaded here.
    """
    from stepcredit.engines.server.client import ServerClient  # noqa: PLC0415 -- loads the HTTP client

    judge_settings(settings.judge, recipe)
    groups = Groups(found)
    pairs = settings.judge == "think-rm" and recipe.think_rm.form == "pair"
    if pairs and not groups.compared:
        mend = "take --set think_rm.form=point, which scores every solution by itself"
        raise UsageError(f"no problem of the file has two solutions to compare; {mend}", item=str(found.file))
    budget = budget_of(recipe.server, settings.max_calls, settings.max_cost)
    log = CallLog(budget)
    where = server_settings(recipe.server, settings.server or "", settings.model, RequestFields())
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(ServerClient(where, budget=budget, on_attempt=log.take))
        log.identity = client.identity
        chat = CachedChat(client, lambda: log.cache)
        if settings.judge == "spct":
            meta = await _opened_meta(stack, recipe.spct, recipe.server, budget=budget, on_attempt=log.take)
            judge: OutcomeJudge = SpctJudge(chat, spct_settings(recipe.spct), meta=meta)
        else:
            judge = _think_rm(chat, recipe.think_rm)
        whole = WholeJudge(judge, groups.of, scale=Scale.SIGNED if pairs else Scale.RATING)
        if recipe.calibration.file is not None:
            check_probabilities(whole, settings.judge)
        yield whole, log


def _think_rm(chat: ChatModel, part: ThinkRmPart) -> OutcomeJudge:
    if part.form == "pair":
        return PairRater(ThinkRMPairJudge(chat, pair_settings(part)))
    return ThinkRMPointJudge(chat, point_settings(part))


async def _opened_meta(
    stack: AsyncExitStack, part: SpctPart, server: ServerPart, *, budget: Budget, on_attempt: OnAttempt
) -> CritiqueRater | None:
    """The meta reward model, here or on a server; `None` where none is named."""
    if part.meta is None:
        return None
    folder = tokenizer_folder(part.meta_tokenizer or part.meta)
    tokenizer, chat = FileTokenizer.load(folder), ChatTemplate.load(folder)
    if part.meta_server is not None:
        from stepcredit.engines.server.pooling import PoolingClient  # noqa: PLC0415 -- loads the HTTP client

        where = server_settings(server, part.meta_server, part.meta, RequestFields())
        pooling = PoolingClient(where, budget=budget, on_attempt=on_attempt)
        classifier: TokenClassifier = await stack.enter_async_context(pooling)
    else:
        require_extra("train", job="spct.meta without spct.meta_server")
        from stepcredit.engines.scoring import load_classifier  # noqa: PLC0415 -- loads torch

        device, dtype = part.meta_device or "cpu", part.meta_dtype or "float32"
        classifier = stack.enter_context(load_classifier(part.meta, device=device, dtype=dtype))
    return MetaRater(classifier, tokenizer, chat)

"""The GenPRM judge: passes over a solution, each a dialogue, and the mean of their rewards as score."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, MachineError, UsageError
from stepcredit.core.protocols import ChatRenderer, Scale, Tokenizer, Writer
from stepcredit.core.rationales import tell
from stepcredit.core.records import Steps, Verdict
from stepcredit.judges.genprm.execution import CodeRunner
from stepcredit.judges.genprm.passes import Pass, Setup
from stepcredit.judges.genprm.prompt import Prompts
from stepcredit.judges.genprm.rationales import critique_of_step
from stepcredit.judges.genprm.records import GenPrmStatistics, Status, StepRecord, skipped
from stepcredit.judges.genprm.settings import GenPrmSettings
from stepcredit.judges.tallies import OnTally, no_tally
from stepcredit.judges.together import together

RIGHT_FROM = 0.5
"""A step whose score is at least this counts as right (genprm.md 1)."""


@final
class GenPrmJudge:
    """Scores every step by the probability of Yes at GenPRM's verdict; the mean over passes (Maj@N).

    Reads neither the outcome nor the reference answer. A step without a readable verdict in any pass is unknown; a
    pass that has none for a step does not count in that step's mean. The reason of a scored step names what went
    wrong in its passes.

    Args:
        writer: goes on with token ids; the served GenPRM.
        tokenizer: the served model's.
        chat: its chat template.
        settings: a profile (`PROFILES`), or one of one's own.
        runner: runs model-written code; without one nothing is run.
        on_tally: gets the id and the counts of every solution that was judged.

    Raises:
        UsageError: if a mode needs a runner and there is none, or tokenizer or template do not fit (`Prompts`).

    Source: GenPRM, arXiv:2504.00891; genprm.md 4, 7, 11. Differs: no verdict is unknown, not 0.5; with `early_stop`
    the passes go step by step together, because the mean decides.
    """

    def __init__(
        self,
        writer: Writer,
        tokenizer: Tokenizer,
        chat: ChatRenderer,
        settings: GenPrmSettings | None = None,
        *,
        runner: CodeRunner | None = None,
        on_tally: OnTally = no_tally,
    ) -> None:
        settings = settings or GenPrmSettings()
        mode = settings.mode or ("analyze" if runner is None else "full")
        settings = replace(settings, mode=mode)
        coded = mode in ("full", "verify")
        if coded and settings.execute and runner is None:
            raise UsageError(
                f"mode {mode!r} runs code and has no runner; give one, set execute=False or mode='analyze'"
            )
        prompts = Prompts(tokenizer, chat, settings, direct=mode == "direct")
        used = runner if coded and settings.execute else None
        self._setup = Setup(writer, prompts, settings, mode, used)
        self._on_tally = on_tally
        self.statistics = GenPrmStatistics()

    @property
    def fingerprint(self) -> str:
        """Mode, settings, prompts, runner and the writer's fingerprint."""
        setup = self._setup
        runner = "" if setup.runner is None else setup.runner.fingerprint
        parts = (setup.mode, setup.settings, setup.prompts.fingerprint, runner, setup.writer.fingerprint)
        return f"genprm:{digest(*parts)}"

    @property
    def scale(self) -> Scale:
        """A probability; binary for one pass with `hard` rewards."""
        settings = self._setup.settings
        return Scale.BINARY if settings.reward_source == "hard" and settings.passes == 1 else Scale.PROBABILITY

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the writer or the code runner failed; carries the rollout id.
            BudgetError: if the writer reached a limit on calls or cost.
        """
        passes = await self.examine(steps)
        tell(critique_of_step(record, number=k) for k, records in enumerate(passes) for record in records)
        return tuple(combined(records) for records in zip(*passes, strict=True))

    async def examine(self, steps: Steps) -> tuple[tuple[StepRecord, ...], ...]:
        """[N, K] what every pass left of every step.

        Raises:
            JudgeError, BudgetError: as `judge`.
        """
        problem, rollout = steps.rollout.problem.text, steps.rollout.id
        passes = [Pass(self._setup, problem, rollout=rollout, number=k) for k in range(self._setup.settings.passes)]
        try:
            if self._setup.settings.early_stop:
                records = await _until_wrong(passes, steps.texts)
            else:
                records = await together(_through(each, steps.texts) for each in passes)
            await together(each.end() for each in passes)
        except (EngineError, MachineError) as error:
            await _abandon(passes)
            raise JudgeError(f"GenPRM could not go on: {error}", item=rollout) from error
        except BaseException:
            await _abandon(passes)
            raise
        found = GenPrmStatistics()
        for each in records:
            self.statistics.add(each)
            found.add(each)
        self._on_tally(rollout, found.tally())
        return tuple(tuple(each) for each in records)


def combined(records: Sequence[StepRecord]) -> Verdict:
    """One verdict from the records of one step: the mean reward of the passes that have one.

    Args:
        records: [N] one a pass, at least one.

    >>> combined([StepRecord(0, 1.0), StepRecord(0, 0.5), StepRecord(0, statuses=(Status.NO_VERDICT,))])
    Verdict(score=0.75, label=None, reason='mean of 2 of 3 passes; no_verdict in 1', calls=())
    >>> combined([StepRecord(0, statuses=(Status.NO_VERDICT,))]).reason
    'no verdict could be read'

    Source: genprm.md 4.6. Differs: none.
    """
    calls = tuple(call for record in records for call in record.calls)
    rewards = [record.reward for record in records if record.reward is not None]
    if not rewards:
        return Verdict(reason=records[0].reason, calls=calls)
    said = [f"mean of {len(rewards)} of {len(records)} passes"] if len(records) > 1 else []
    for status in Status:
        count = sum(status in record.statuses for record in records)
        if count:
            said.append(f"{status} in {count}" if len(records) > 1 else str(status))
    return Verdict(fmean(rewards), reason="; ".join(said), calls=calls)


async def _through(each: Pass, texts: Sequence[str]) -> list[StepRecord]:
    return [await each.step(index, text) for index, text in enumerate(texts)]


async def _until_wrong(passes: Sequence[Pass], texts: Sequence[str]) -> list[list[StepRecord]]:
    records: list[list[StepRecord]] = [[] for _ in passes]
    wrong = False
    for index, text in enumerate(texts):
        if wrong:
            row = [skipped(index, Status.NOT_JUDGED) for _ in passes]
        else:
            row = await together(each.step(index, text) for each in passes)
            score = combined(row).score
            wrong = score is not None and score < RIGHT_FROM
        for mine, record in zip(records, row, strict=True):
            mine.append(record)
    return records


async def _abandon(passes: Sequence[Pass]) -> None:
    """End the code sessions after an error; a runner that fails here too has nothing to add."""
    await asyncio.gather(*(each.end() for each in passes), return_exceptions=True)

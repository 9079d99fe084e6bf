"""One pass over a solution: the dialogue, its history, and what is dropped from it when the context fills."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.protocols import NextTokens, Writer, Writing, Written
from stepcredit.core.seeds import derive
from stepcredit.judges.genprm.execution import CodeRunner, Executed
from stepcredit.judges.genprm.loop import StepLoop
from stepcredit.judges.genprm.prompt import Dialogue, Prompts, first_turn
from stepcredit.judges.genprm.records import Part, Status, StepRecord, skipped
from stepcredit.judges.genprm.settings import GenPrmSettings, Mode

_MARGIN = 64
"""Tokens kept free beside a turn's bounds: its forced texts."""


@final
@dataclass(frozen=True)
class Setup:
    """What a pass works with; `runner` is `None` where no code is run."""

    writer: Writer
    prompts: Prompts
    settings: GenPrmSettings
    mode: Mode
    runner: CodeRunner | None


@final
class Pass:
    """Judges the steps of one solution in order, with a history, seeds and a code session of its own.

    Where the next turn might not fit the context, the code outputs of the oldest turn that has some are dropped, then
    of the next; then the oldest critique up to its verdict, then the next. What was dropped stays dropped.

    Args:
        setup: model, prompts, settings and runner.
        problem: text of the problem.
        rollout: id of the solution; part of the seeds and of the session's name.
        number: of this pass, from 0.

    Source: genprm.md 4.5 (overflow), 4.6 (passes), 10.3 (seeds). Differs: the reference has no overflow policy.
    """

    def __init__(self, setup: Setup, problem: str, *, rollout: str, number: int) -> None:
        self._setup, self._problem, self._rollout, self._number = setup, problem, rollout, number
        self.session = f"{rollout}/{number}"
        self._users: list[str] = []
        self._history: list[tuple[Part, ...]] = []
        self._truncated = False
        self._index = 0
        self._memory: dict[str, Int32[np.ndarray, " X"]] = {}

    async def step(self, index: int, text: str) -> StepRecord:
        """The record of the next step.

        Raises:
            EngineError, MachineError, BudgetError: from the writer and the runner.
        """
        text = text.strip()
        if not text:
            return skipped(index, Status.NO_TEXT)
        settings = self._setup.settings
        form = settings.first_turn
        self._users.append(text if self._users else first_turn(self._problem.strip(), text, form))
        self._index = index
        self._fit()
        record = await StepLoop(self, settings, self._setup.mode, index=index).judge(len(self._users))
        self._history.append(record.parts)
        if not self._truncated:
            return record
        found = {*record.statuses, Status.HISTORY_TRUNCATED}
        return replace(record, statuses=tuple(status for status in Status if status in found))

    async def write(self, opened: str, writing: Writing, *, call: int) -> tuple[Written, int]:
        """What follows the opened turn, and its seed."""
        seed = derive(self._setup.settings.seed, "genprm", self._rollout, self._number, self._index, call)
        return await self._setup.writer.write(self._ids(opened), writing, seed=seed), seed

    async def look(self, opened: str) -> NextTokens:
        """Log probabilities of Yes and No after the opened turn."""
        return await self._setup.writer.next_tokens(self._ids(opened), self._setup.prompts.candidates)

    async def run(self, code: str) -> Executed:
        """Run a block of code; without a runner it is imagined."""
        if self._setup.runner is None:
            return Executed("imagined")
        return await self._setup.runner.run(code, session=self.session)

    async def end(self) -> None:
        """Forget the code session."""
        if self._setup.runner is not None:
            await self._setup.runner.end(self.session)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return self._setup.prompts.plain.count(text)

    def leaks(self, text: str) -> bool:
        """True if a text of the model holds special tokens of the chat, spelt out."""
        return self._setup.prompts.plain.leaks(text)

    def room(self, opened: str) -> int:
        """Tokens that the context has left."""
        return self._setup.settings.context_tokens - len(self._ids(opened))

    def _ids(self, opened: str) -> Int32[np.ndarray, " P"]:
        critiques = tuple("".join(part.text for part in parts) for parts in self._history)
        return self._setup.prompts.ids(Dialogue(tuple(self._users), critiques, opened), self._memory)

    def _fit(self) -> None:
        settings = self._setup.settings
        turn = settings.verdict_tokens + _MARGIN
        turn += 0 if self._setup.mode == "direct" else settings.step_tokens
        while self.room("") < turn and self._drop():
            self._truncated = True

    def _drop(self) -> bool:
        """Shorten the history by one turn's code outputs, or else one critique; False if nothing is left to drop."""
        for k, parts in enumerate(self._history):
            rest = tuple(part for part in parts if part.kind != "feedback")
            if len(rest) < len(parts):
                self._history[k] = rest
                return True
        for k, parts in enumerate(self._history):
            text = "".join(part.text for part in parts)
            verdict = text[text.rfind("<output>") :] if "<output>" in text else ""
            if len(verdict) < len(text):
                self._history[k] = (Part("forced", verdict),)
                return True
        return False

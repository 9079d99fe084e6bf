"""One step: analysis, code with its real output, verdict, and at most one fallback (genprm.md 4.2)."""

import math
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Protocol, final

import numpy as np

from stepcredit.core.protocols import NextTokens, Writing, Written
from stepcredit.judges.genprm import prompt
from stepcredit.judges.genprm.execution import CodeBlock, Executed, all_code, feedback, last_code
from stepcredit.judges.genprm.records import Part, Status, StepRecord
from stepcredit.judges.genprm.reward import Answer, find_verdict, read_verdict, tempered
from stepcredit.judges.genprm.settings import GenPrmSettings, Mode
from stepcredit.judges.loops import is_looping
from stepcredit.judges.pair import Pair, read_pair


class Asking(Protocol):
    """How a step reaches the model and the code runner; knows the dialogue so far."""

    async def write(self, opened: str, writing: Writing, *, call: int) -> tuple[Written, int]:
        """What follows the opened turn, and the seed that it was written with."""
        ...

    async def look(self, opened: str) -> NextTokens:
        """Log probabilities of Yes and No after the opened turn."""
        ...

    async def run(self, code: str) -> Executed:
        """Run a block of code in this pass's session."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text."""
        ...

    def leaks(self, text: str) -> bool:
        """True if a text of the model holds special tokens of the chat, spelt out."""
        ...

    def room(self, opened: str) -> int:
        """Tokens that the context has left after the opened turn."""
        ...


class _NoRoomError(Exception):
    """The context is full."""


class _RefusedError(Exception):
    """The sandbox has no engine for the code."""


@final
@dataclass
class _Draft:
    """The step's record as it grows."""

    parts: list[Part] = field(default_factory=list)
    dropped: list[Part] = field(default_factory=list)
    kept: int = 0  # parts that the fallback keeps: the analysis
    analysis: str = ""
    blocks: list[CodeBlock] = field(default_factory=list)
    statuses: set[Status] = field(default_factory=set)
    seeds: list[int] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    input_tokens: int | None = 0
    output_tokens: int | None = 0

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)

    def readable(self, first: int = 0) -> str:
        """What we and the model wrote from a part on; never what a program printed."""
        return "".join(part.text for part in self.parts[first:] if part.kind != "feedback")

    def cut_to(self, parts: list[Part]) -> None:
        """Keep the first parts, of which the last may have lost its end; what else there was is dropped."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.parts, parts, strict=False)))
        gone = self.parts[same:]
        if same < len(parts):
            gone[0] = replace(gone[0], text=gone[0].text[len(parts[same].text) :])
        self.dropped += gone
        self.parts = parts

    @property
    def last_words(self) -> int:
        """First of the parts that can hold the verdict: after the analysis and the last code output."""
        outputs = [k + 1 for k, part in enumerate(self.parts) if part.kind == "feedback"]
        return max([self.kept, *outputs])


@final
class StepLoop:
    """Judges one step.

    A text that ends without its closing tag gets it. The verdict is forced (`raw`): after `</verify>`, or the
    analysis where there is no code, the judgement line is opened up to its brace and the next token is looked up; the
    likelier word goes into the history. Or it is written (`reference_v0`, `hard`) and read from the last output block;
    `reference_v0` then looks the token up at its place.

    Args:
        asking: model, runner and dialogue.
        settings: how to ask.
        mode: what is written before the verdict.
        index: of the step in the solution.

    Source: genprm.md 4.2, 4.4, 7. Differs: at most one fallback; code that is cut by length is not run; an analysis
    without its closing tag is closed; `</output>` at the very end counts without the newline after it.
    """

    def __init__(self, asking: Asking, settings: GenPrmSettings, mode: Mode, *, index: int) -> None:
        self._asking, self._settings, self._mode, self._index = asking, settings, mode, index
        self._draft = _Draft()
        self._forced = settings.reward_source == "raw"

    async def judge(self, number: int) -> StepRecord:
        """The step's record; `number` is that of the paragraph in the dialogue, from 1."""
        record = StepRecord(self._index)
        try:
            record = await self._judged(number, record)
        except _NoRoomError:
            self._draft.statuses.add(Status.NO_ROOM)
        except _RefusedError:
            self._draft.statuses.add(Status.SANDBOX_UNAVAILABLE)
        draft = self._draft
        if record.reward is None:
            draft.cut_to(_without_verdict(draft.parts, draft.kept))
            if draft.statuses.isdisjoint((Status.NO_ROOM, Status.SANDBOX_UNAVAILABLE)):
                draft.statuses.add(Status.NO_VERDICT)
        return replace(
            record,
            statuses=tuple(status for status in Status if status in draft.statuses),
            parts=tuple(draft.parts),
            dropped=tuple(draft.dropped),
            analysis=draft.analysis,
            blocks=tuple(draft.blocks),
            input_tokens=draft.input_tokens,
            output_tokens=draft.output_tokens,
            seeds=tuple(draft.seeds),
            calls=tuple(call for call in draft.calls if call),
        )

    async def _judged(self, number: int, record: StepRecord) -> StepRecord:
        coded = self._mode in ("full", "verify")
        if self._mode in ("full", "analyze"):
            await self._analyze(number)
        ended = await self._verify() if coded else True
        if ended:
            judged = await self._verdict(record)
            if judged.reward is not None or not coded:
                return judged
        self._draft.statuses.add(Status.CODE_DROPPED)
        self._draft.cut_to(self._draft.parts[: self._draft.kept])
        return await self._verdict(record)

    async def _analyze(self, number: int) -> None:
        draft = self._draft
        self._force(prompt.ANALYZE_OPEN.format(number=number))
        written = await self._write((prompt.ANALYZE_CLOSE,), self._settings.step_tokens)
        draft.analysis = written.text.partition("</analyze>")[0].strip()
        self._close(prompt.ANALYZE_CLOSE)
        draft.kept = len(draft.parts)

    async def _verify(self) -> bool:
        """Write and run code; True if the model went on to its verdict (or, where that is forced, closed the part)."""
        settings = self._settings
        self._force(prompt.VERIFY_OPEN)
        ends = (prompt.OUTPUT_CLOSE, prompt.VERIFY_CLOSE) if self._forced else (prompt.OUTPUT_CLOSE,)
        stops = (prompt.CODE_CLOSE, *ends) if settings.execute else ends
        for _ in range(settings.rounds if settings.execute else 1):
            budget = settings.step_tokens - self._asking.count(self._draft.text)
            if budget <= 0:
                return False
            try:
                written = await self._write(stops, budget)
            except _NoRoomError:
                return False  # without the code there may be room
            if written.text.rstrip().endswith(tuple(end.strip() for end in ends)):
                self._imagined()
                return True
            if written.finish == "length":
                self._imagined()
                return False
            if settings.execute:
                await self._execute()
        self._imagined()
        return False

    async def _execute(self) -> None:
        code = last_code(self._draft.readable())
        done = Executed("no_code") if code is None else await self._asking.run(code)
        if done.status == "refused":
            self._draft.blocks.append(CodeBlock(code or "", done.error, done.status, done.seconds))
            raise _RefusedError
        told = feedback(done, limit=self._settings.feedback_chars)
        self._draft.blocks.append(CodeBlock(code or "", told, done.status, done.seconds))
        self._draft.parts.append(Part("feedback", prompt.CODE_OUTPUT.format(feedback=told)))

    def _imagined(self) -> None:
        if not self._settings.execute:
            codes = all_code(self._draft.readable(self._draft.kept))
            self._draft.blocks += [CodeBlock(code, "", "imagined", 0.0) for code in codes]

    async def _verdict(self, record: StepRecord) -> StepRecord:
        return await (self._forced_verdict(record) if self._forced else self._written_verdict(record))

    async def _forced_verdict(self, record: StepRecord) -> StepRecord:
        draft = self._draft
        own = read_verdict(draft.readable())
        draft.cut_to(_without_verdict(draft.parts, draft.last_words))
        if self._mode in ("full", "verify") and len(draft.parts) > draft.kept:
            self._close(prompt.VERIFY_CLOSE)
        found = await self._look(draft.text + prompt.OUTPUT_OPEN + "{")
        if found is None:
            return record
        word: Answer = "Yes" if found.first >= found.second else "No"
        self._compare(own, found)
        self._force(prompt.OUTPUT.format(answer=word))
        return _scored(record, found.share(), found, word)

    async def _written_verdict(self, record: StepRecord) -> StepRecord:
        draft, settings = self._draft, self._settings
        if len(draft.parts) == draft.kept:
            self._force(prompt.OUTPUT_OPEN)
            await self._write((prompt.OUTPUT_CLOSE,), settings.verdict_tokens, in_turn=False)
        first = draft.last_words
        found = find_verdict(draft.readable(first))
        if found is None:
            return record
        word, place = found
        if settings.reward_source == "hard":
            return replace(record, reward=1.0 if word == "Yes" else 0.0, verdict=word)
        before = "".join(part.text for part in draft.parts[:first])
        looked = await self._look(before + draft.readable(first)[:place])
        if looked is None:
            return record
        self._compare(word, looked)
        both = np.array([looked.first, looked.second])
        shares = tempered(both, temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p)
        return _scored(record, shares[0], looked, word)

    def _compare(self, word: Answer | None, found: Pair) -> None:
        if word is not None and found.first != found.second and (word == "Yes") != (found.first > found.second):
            self._draft.statuses.add(Status.CONTRADICTS)

    async def _look(self, opened: str) -> Pair | None:
        if self._asking.room(opened) < 1:
            raise _NoRoomError
        looked = await self._asking.look(opened)
        self._draft.calls.append(looked.call)
        found = read_pair(looked)
        if found is not None and found.truncated:
            self._draft.statuses.add(Status.TRUNCATED)
        return found

    async def _write(self, stop: tuple[str, ...], max_tokens: int, *, in_turn: bool = True) -> Written:
        settings, draft = self._settings, self._draft
        opened = draft.text
        most = min(max_tokens, self._asking.room(opened))
        if most < 1:
            raise _NoRoomError
        writing = Writing(most, settings.temperature, settings.top_p, settings.top_k, stop, keep_stop=True)
        written, seed = await self._asking.write(opened, writing, call=len(draft.seeds))
        draft.parts.append(Part("written", written.text))
        draft.seeds.append(seed)
        draft.calls.append(written.call)
        draft.input_tokens = _sum(draft.input_tokens, written.input_tokens)
        draft.output_tokens = _sum(draft.output_tokens, written.output_tokens)
        if written.finish == "length" and in_turn:
            draft.statuses.add(Status.OVER_LONG)
            if is_looping(written.text):
                draft.statuses.add(Status.LOOP)
        if (
            written.finish == "stop"
            and in_turn
            and not written.text.rstrip().endswith(tuple(each.strip() for each in stop))
        ):
            draft.statuses.add(Status.STOPPED_EARLY)
        if self._asking.leaks(written.text):
            draft.statuses.add(Status.LEAKS)
        return written

    def _force(self, text: str) -> None:
        self._draft.parts.append(Part("forced", text))

    def _close(self, tag: str) -> None:
        """End the turn so far with a closing tag and its newline, where they are missing."""
        text = self._draft.text
        if text.endswith(tag):
            return
        bare = tag.rstrip("\n")
        if text.endswith(bare):
            self._force("\n")
        else:
            self._force(tag if text.endswith("\n") else f"\n{tag}")


def _without_verdict(parts: list[Part], first: int) -> list[Part]:
    """The parts without the output block that the model or we began after the part `first`."""
    kept = parts[:first]
    for part in parts[first:]:
        before, opening, _ = part.text.partition("<output>")
        if opening:
            return [*kept, Part(part.kind, before)] if before else kept
        kept.append(part)
    return kept


def _scored(record: StepRecord, reward: float, pair: Pair, word: Answer) -> StepRecord:
    yes, no = math.exp(pair.first), math.exp(pair.second)
    return replace(record, reward=reward, p_yes_raw=yes, p_no_raw=no, verdict=word)


def _sum(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more

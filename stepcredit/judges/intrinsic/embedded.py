"""The generative intrinsic judge: a small language model reads whole indexed solutions and writes the replies as text.

It is taught from the structure of demonstrations alone (which step was taken back, which value the answer restates),
never from what is right. Prompts and replies are words with single spaces, so that a word-level tokenizer serves; the
replies are JSON all the same, and go through the one strict parser.

    P1   <reflect> Step1 14 /15 4 [0] check 4 *15 9 no-wait [1] Step1 14 /15 10 [2] <reply>
         {"reflections":[ {"step":1,"kind":"error"} ]} <eos>
    P23  <trace> Step1 14 /15 4 [0] check 4 *15 9 no-wait [1] <reply>
         {"source":0,"evidence":" Step1 14 /15 4 ","verdicts":[ "wrong" ]} <eos>
    P4   <match> Step1 10 ; <steps> Step1 14 /15 4 [0] check 4 *15 9 no-wait [1] Step1 14 /15 10 [2] <reply>
         {"matches":[ [0,"no"] ,[1,"no"] ,[2,"match"] ]} <eos>
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Sampler, Sampling, Tokenizer
from stepcredit.core.seeds import derive
from stepcredit.judges.intrinsic.tasks import MatchTask, ReaderReply, ReflectTask, Task, TraceVerifyTask

MAX_STEPS = 64
"""Think steps that can be indexed; a longer solution is not read."""

REPLY = "<reply>"
_MARKS = ("</think>", "<eos>", ";", "answer")


@final
@dataclass(frozen=True)
class Lesson:
    """One demonstration of reading: a prompt and the reply that its structure gives, both as words."""

    prompt: str
    reply: str


def judge_words(words: Sequence[str], *, max_steps: int = MAX_STEPS) -> tuple[str, ...]:
    """Vocabulary of the judge: the policy's words, step tags, and the pieces of the replies.

    Args:
        words: the policy's vocabulary.
        max_steps: number of step tags.

    >>> len(judge_words(("a", "b"), max_steps=3)) == len(set(judge_words(("a", "b"), max_steps=3)))
    True
    """
    marks = ("<reflect>", "<trace>", "<match>", "<steps>", REPLY)
    frame = ('{"reflections":[', '{"matches":[', '","verdicts":[', "]}", '{"source":null,"evidence":"')
    verdicts = ('"wrong"', '"right"', ',"wrong"', ',"right"')
    indexed = [
        piece
        for k in range(max_steps)
        for piece in (
            f"[{k}]",
            f'{{"source":{k},"evidence":"',
            *(f'{comma}{{"step":{k},"kind":"{kind}"}}' for comma in ("", ",") for kind in ("error", "confirm")),
            *(f'{"," if k else ""}[{k},"{word}"]' for word in ("match", "no")),
        )
    ]
    return (*words, *marks, *frame, *verdicts, *indexed)


def prompt_text(task: Task) -> str:
    """Prompt of a reading task, as words.

    Raises:
        UsageError: for a task that this back end does not answer (P0, and P2 and P3 apart).
    """
    if isinstance(task, ReflectTask):
        return " ".join(["<reflect>", *_tagged(task.steps), REPLY])
    if isinstance(task, TraceVerifyTask):
        return " ".join(["<trace>", *_tagged(task.steps), REPLY])
    if isinstance(task, MatchTask):
        block = [word for text in task.answer for word in (*_words(text), ";")]
        return " ".join(["<match>", *block, "<steps>", *_tagged(task.steps), REPLY])
    raise UsageError(f"the embedded reader answers P1, P2+P3 merged and P4, not {task.name}; ask with merged = true")


def reflect_lesson(steps: Sequence[str], errors: Sequence[int], confirms: Sequence[int]) -> Lesson:
    """P1: reflections that took a step back (`errors`) and those that only confirmed."""
    kinds = {**dict.fromkeys(confirms, "confirm"), **dict.fromkeys(errors, "error")}
    items = [f'{"," if i else ""}{{"step":{k},"kind":"{kinds[k]}"}}' for i, k in enumerate(sorted(kinds))]
    return Lesson(prompt_text(ReflectTask("", tuple(steps))), " ".join(['{"reflections":[', *items, "]}"]))


def trace_lesson(steps: Sequence[str], *, source: int, wrong: Sequence[bool]) -> Lesson:
    """P2+P3: the step that the last of `steps` took back, and what of the interval is wrong."""
    words = ["wrong" if bad else "right" for bad in wrong]
    verdicts = [f'{"," if i else ""}"{word}"' for i, word in enumerate(words)]
    head = f'{{"source":{source},"evidence":"'
    reply = [head, *_words(steps[source]), '","verdicts":[', *verdicts, "]}"]
    return Lesson(prompt_text(TraceVerifyTask("", tuple(steps))), " ".join(reply))


def match_lesson(steps: Sequence[str], answer: Sequence[str], matched: Sequence[bool]) -> Lesson:
    """P4: which steps' values the answer block restates."""
    words = ["match" if same else "no" for same in matched]
    items = [f'{"," if k else ""}[{k},"{word}"]' for k, word in enumerate(words)]
    return Lesson(prompt_text(MatchTask("", tuple(steps), tuple(answer))), " ".join(['{"matches":[', *items, "]}"]))


@final
class EmbeddedReader:
    """Answers the reading tasks with a small language model, one sampler call a task, at temperature 0.

    A retry samples at temperature 1 with a new seed, since a deterministic model would repeat itself.

    Args:
        sampler: the judge model.
        tokenizer: over `judge_words`.
        max_tokens: longest reply.
    """

    def __init__(self, sampler: Sampler, tokenizer: Tokenizer, *, max_tokens: int = 2 * MAX_STEPS) -> None:
        if tokenizer.eos_id is None:
            raise UsageError("the judge's tokenizer names no end of sequence; save it with one")
        self._sampler, self._tokenizer, self._max_tokens = sampler, tokenizer, max_tokens
        self._stop = (tokenizer.eos_id,)

    @property
    def fingerprint(self) -> str:
        """Digest of the judge's weights, vocabulary and reply length."""
        return f"embedded:{digest(self._sampler.fingerprint, self._tokenizer.fingerprint, self._max_tokens)}"

    async def answer(self, task: Task, *, attempt: int, error: str) -> ReaderReply:
        """The model's reply, as text; a reply cut by length is returned as it is, and rejected by the parser."""
        del error
        prompt_ids = self._tokenizer.encode(prompt_text(task))
        sampling = Sampling(self._max_tokens, temperature=1.0 if attempt else 0.0, stop_ids=self._stop)
        completion = await self._sampler.sample(prompt_ids, sampling, seed=derive(0, "reader", task.name, attempt))
        ids = [token for token in completion.ids.tolist() if token not in self._stop]
        text = self._tokenizer.decode(ids)
        return ReaderReply(text, f"embedded:{attempt}", len(prompt_ids), len(completion.ids))


def _tagged(steps: Sequence[str]) -> list[str]:
    return [word for k, text in enumerate(steps) for word in (*_words(text), f"[{k}]")]


def _words(text: str) -> list[str]:
    return [word for word in text.split() if word not in _MARKS]

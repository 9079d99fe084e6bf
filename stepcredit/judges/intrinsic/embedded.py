"""The generative intrinsic judge: a small language model reads whole indexed solutions and writes the replies as text.

It is taught from the structure of demonstrations alone (which step was taken back, which value the answer restates),
never from what is right. Prompts and replies are words with single spaces, so that a word-level tokenizer serves; the
replies are JSON all the same, and go through the one strict parser.

Four choices make so small a model read reliably. It goes through all steps and names each, because an unnamed list
would have to be counted out. The mark that opens a step in the prompt is the word that opens its entry in the reply,
so that reading is copying what stands behind a mark. What a step ends with (its value, its verdict) and what it begins
with (its kind) stand behind a mark each: words are shown last first, and the first word behind the mark once more.
And before a verdict the judge restates what it compares. None of this reads the steps: it is the same for any words.

    P1   <reflect> @0 4 /15 14 @0 Step1 @1 no-wait 9 *15 4 @1 check @1 ]} <reply>
         {"reflections":[ @0 ","kind":"none"} @1 ","kind":"error"} ]} <eos>
    P23  <trace> @0 4 /15 14 @0 Step1 @1 no-wait 9 *15 4 @1 check @1 ]} <reply>
         {"source":0,"evidence":" 4 ","verdicts":["wrong"]} <eos>
    P4   <match> Step1 10 ; <steps> @0 4 /15 14 @0 Step1 @0 ]} <reply>
         {"matches":[ @0 4 Step1 10 ","verdict":"no"} ]} <eos>                  where @0 is {"step":0,"because":"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Sampler, Sampling, Tokenizer
from stepcredit.core.seeds import derive
from stepcredit.judges.intrinsic.tasks import MatchTask, ReaderReply, ReflectTask, Task, TraceVerifyTask

MAX_STEPS = 48
"""Think steps that can be named; a longer solution is not read."""

_REFLECT, _TRACE, _MATCH, _STEPS, _REPLY = "<reflect>", "<trace>", "<match>", "<steps>", "<reply>"
_REFLECTIONS, _MATCHES, _END = '{"reflections":[', '{"matches":[', "]}"
_WRONG = '","verdicts":["wrong"]}'
_KINDS = {kind: f'","kind":"{kind}"}}' for kind in ("none", "error", "confirm")}
_VERDICTS = {word: f'","verdict":"{word}"}}' for word in ("match", "no")}
NOTHING = "-"
"""Stands for a step or value that there is not."""

_IGNORED = ("</think>", "<eos>", ";", "answer")


@final
@dataclass(frozen=True)
class Lesson:
    """One demonstration of reading: a prompt and the reply that its structure gives, both as words."""

    prompt: str
    reply: str


@final
@dataclass(frozen=True)
class Comparison:
    """What P4 compares for one think step: the value it gives, the step it is about, and the answer's value for it."""

    claim: str
    about: str
    answer: str

    @property
    def verdict(self) -> str:
        """`match` if the answer restates the claim."""
        return "match" if self.claim == self.answer != NOTHING else "no"


def mark(step: int) -> str:
    """The word that opens a step in the prompt, and its entry in the reply.

    >>> mark(0), mark(12)
    ('{"step":0,"because":"', ',{"step":12,"because":"')
    """
    return f'{"," if step else ""}{{"step":{step},"because":"'


def judge_words(words: Sequence[str], *, max_steps: int = MAX_STEPS) -> tuple[str, ...]:
    """Vocabulary of the judge: the policy's words, the marks of the steps, and the pieces of the replies.

    Args:
        words: the policy's vocabulary.
        max_steps: steps that can be named.

    >>> judge_words(("a",), max_steps=1)[-2:]
    ('{"step":0,"because":"', '{"source":0,"evidence":"')
    """
    frame = (_REFLECT, _TRACE, _MATCH, _STEPS, _REPLY, _REFLECTIONS, _MATCHES, _END, _WRONG)
    marks = [piece for k in range(max_steps) for piece in (mark(k), _source(k))]
    return (*words, *frame, NOTHING, *_KINDS.values(), *_VERDICTS.values(), *marks)


def prompt_text(task: Task) -> str:
    """Prompt of a reading task, as words.

    Raises:
        UsageError: for a task that this back end does not answer (P0, and P2 and P3 apart).
    """
    if isinstance(task, ReflectTask):
        return " ".join([_REFLECT, *_marked(task.steps), _REPLY])
    if isinstance(task, TraceVerifyTask):
        return " ".join([_TRACE, *_marked(task.steps), _REPLY])
    if isinstance(task, MatchTask):
        lines = [_words(text) for text in task.answer]
        block = [word for line in lines if line for word in (*line, ";")]
        return " ".join([_MATCH, *block, _STEPS, *_marked(task.steps), _REPLY])
    raise UsageError(f"the embedded reader answers P1, P2+P3 merged and P4, not {task.name}; ask with merged = true")


def reflect_lesson(steps: Sequence[str], *, errors: Sequence[int], confirms: Sequence[int]) -> Lesson:
    """P1: reflections that took a step back (`errors`) and those that only confirmed; all other steps are `none`."""
    kinds = {**dict.fromkeys(confirms, "confirm"), **dict.fromkeys(errors, "error")}
    entries = [word for k in range(len(steps)) for word in (mark(k), _KINDS[kinds.get(k, "none")])]
    return Lesson(prompt_text(ReflectTask("", tuple(steps))), " ".join([_REFLECTIONS, *entries, _END]))


def trace_lesson(steps: Sequence[str], *, source: int) -> Lesson:
    """P2+P3: the step that the last of `steps` took back, which stands right before it; its claim is the evidence."""
    reply = [_source(source), _words(steps[source])[-1], _WRONG]
    return Lesson(prompt_text(TraceVerifyTask("", tuple(steps))), " ".join(reply))


def match_lesson(steps: Sequence[str], *, answer: Sequence[str], comparisons: Sequence[Comparison]) -> Lesson:
    """P4: for each step the value it speaks of, what it is about, the answer's value, and whether they are the same."""
    entries = [
        word for k, c in enumerate(comparisons) for word in (mark(k), c.claim, c.about, c.answer, _VERDICTS[c.verdict])
    ]
    prompt = prompt_text(MatchTask("", tuple(steps), tuple(answer)))
    return Lesson(prompt, " ".join([_MATCHES, *entries, _END]))


@final
@dataclass(frozen=True)
class Exercise:
    """One line of an exercise: two words behind a step's mark, and a third to compare the first with."""

    step: int
    ending: str
    beginning: str
    compared: str


EXERCISED = (False, True, True, False, True)
"""Which words of a line's reply can be told: those behind the mark, and whether the compared word is the same."""


def exercise_lesson(lines: Sequence[Exercise], *, order: Sequence[int]) -> Lesson:
    """Copying and comparing without any solution, in the form of P4; five words of reply a line.

    Args:
        lines: what the prompt shows; steps all different.
        order: in which order the reply goes through them, as indices.

    >>> exercise_lesson([Exercise(0, "4", "Step1", "5"), Exercise(2, "7", "check", "7")], order=(1, 0)).reply
    ',{"step":2,"because":" 7 check 7 ","verdict":"match"} {"step":0,"because":" 4 Step1 5 ","verdict":"no"}'
    """
    shown = [word for x in lines for word in (mark(x.step), x.ending, mark(x.step), x.beginning)]
    said: list[str] = []
    for line in (lines[place] for place in order):
        verdict = _VERDICTS["match" if line.ending == line.compared else "no"]
        said += [mark(line.step), line.ending, line.beginning, line.compared, verdict]
    return Lesson(" ".join([_STEPS, *shown, _REPLY]), " ".join(said))


@final
class EmbeddedReader:
    """Answers the reading tasks with a small language model, one sampler call a task, at temperature 0.

    A retry samples at temperature 1 with a new seed, since a deterministic model would repeat itself. Equal prompts are
    read once; what is said again costs no tokens. A solution with more than `MAX_STEPS` steps, or with words that the
    judge's vocabulary lacks, is not read: the reply says so, and the parser rejects it.

    Args:
        sampler: the judge model.
        tokenizer: over `judge_words`.
    """

    def __init__(self, sampler: Sampler, tokenizer: Tokenizer) -> None:
        if tokenizer.eos_id is None:
            raise UsageError("the judge's tokenizer names no end of sequence; save it with one")
        self._sampler, self._tokenizer = sampler, tokenizer
        self._stop = (tokenizer.eos_id,)
        self._said: dict[str, ReaderReply] = {}

    @property
    def fingerprint(self) -> str:
        """Digest of the judge's weights and vocabulary."""
        return f"embedded:{digest(self._sampler.fingerprint, self._tokenizer.fingerprint)}"

    async def answer(self, task: Task, *, attempt: int, error: str) -> ReaderReply:
        """The model's reply, as text; one cut by length is returned as it is, and rejected by the parser."""
        del error
        prompt = prompt_text(task)
        count = len(task.steps) if isinstance(task, ReflectTask | TraceVerifyTask | MatchTask) else 0
        if count > MAX_STEPS:
            return ReaderReply(f"{count} steps, at most {MAX_STEPS} can be read", input_tokens=0, output_tokens=0)
        if not attempt and prompt in self._said:
            return self._said[prompt]
        try:
            prompt_ids = self._tokenizer.encode(prompt)
        except UsageError as unread:  # a solution with words of another task
            return ReaderReply(f"not read: {unread}", input_tokens=0, output_tokens=0)
        sampling = Sampling(5 * count + 8, temperature=1.0 if attempt else 0.0, stop_ids=self._stop)
        completion = await self._sampler.sample(prompt_ids, sampling, seed=derive(0, "reader", task.name, attempt))
        ids = [token for token in completion.ids.tolist() if token not in self._stop]
        text, call = self._tokenizer.decode(ids), f"embedded:{attempt}"
        if not attempt:
            self._said[prompt] = ReaderReply(text, call, 0, 0)
        return ReaderReply(text, call, len(prompt_ids), len(completion.ids))


def _source(k: int) -> str:
    return f'{{"source":{k},"evidence":"'


def _marked(steps: Sequence[str]) -> list[str]:
    """Steps behind their marks, as the module says; at the end the last mark once more, closed like the reply."""
    shown: list[str] = []
    for k, text in enumerate(steps):
        words = _words(text)
        shown += [mark(k), *reversed(words[1:]), mark(k), *words[:1]]
    return [*shown, mark(max(len(steps) - 1, 0)), _END]


def _words(text: str) -> list[str]:
    return [word for word in text.split() if word not in _IGNORED]

r"""Formats of discriminative PRMs: how problem and steps are written, and after which token a step's number is read.

The strings in capitals are the interface that the published checkpoints were trained on.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatRenderer, Message, Tokenizer
from stepcredit.judges.discriminative.marking import Marked, Part, filled, marked, skeleton, tail_ids
from stepcredit.judges.plain_text import PlainText

QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
QWEN_MARK = "<extra_0>"
SHEPHERD_MARK = "ки"
GOOD, BAD = "+", "-"

PROMPT_VERSION = 1
"""Raised when what is sent changes; part of the fingerprint."""

_OWN_LABEL = re.compile(r"(?:#+\s*)?Step\s+[0-9]+\s*:")


@final
@dataclass(frozen=True)
class Asked:
    """What a model reads of one solution, and where.

    Args:
        ids: [X] token ids.
        places: [K] index of the token after which the step's number is read; -1 for a step that has no such token.
    """

    ids: Int32[np.ndarray, " X"]
    places: Int32[np.ndarray, " K"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", frozen(self.ids, np.int32))
        object.__setattr__(self, "places", frozen(self.places, np.int32))


class StepFormat(Protocol):
    """How one family of PRMs is asked; of its two classes `positive` is the one that speaks for a step."""

    @property
    def fingerprint(self) -> str:
        """Format, settings, tokenizer and template: part of every cache key."""
        ...

    @property
    def positive(self) -> int:
        """Index of the class of right steps."""
        ...

    def ask(self, problem: str, texts: Sequence[str]) -> Asked | None:
        """The prompt of one solution.

        Args:
            problem: text of the problem.
            texts: [K] the steps, none of them blank.

        Returns:
            `None` if the tokenizer does not give back the text that it read.
        """
        ...


@final
class MarkedFormat:
    """Qwen2.5-Math-PRM: one assistant turn, a mark behind every step; the model's two-class head is read at the marks.

    Class 1 is `right`.

    Args:
        tokenizer: the model's own; holds the mark as one token.
        chat: its chat template.
        system: the system turn; empty leaves it to the template.
        mark: text of the mark.

    Raises:
        UsageError: if the mark is not one token, or the template loses a turn.

    Source: Zhang et al. 2025, arXiv:2501.07301; the model card of Qwen2.5-Math-PRM-7B. Differs: steps are stripped;
    a mark inside problem or step is broken up.
    """

    positive = 1

    def __init__(
        self, tokenizer: Tokenizer, chat: ChatRenderer, *, system: str = QWEN_SYSTEM, mark: str = QWEN_MARK
    ) -> None:
        self._tokenizer, self._plain, self._mark = tokenizer, PlainText(tokenizer), mark
        ids = tokenizer.encode(mark).tolist()
        if len(ids) != 1:
            raise UsageError(
                f"the mark {mark!r} should be one token, the tokenizer makes {len(ids)} of it; "
                "give the tokenizer of the reward model, not that of its base model"
            )
        self._id = ids[0]
        turns = [Message("user", ""), Message("assistant", "")]
        if system:
            turns.insert(0, Message("system", system))
        self._skeleton = skeleton(chat, turns, held=("user", "assistant"))

    @property
    def fingerprint(self) -> str:
        """Prompt version, template as rendered, mark and tokenizer."""
        return digest("marked", PROMPT_VERSION, self._skeleton, self._mark, self._tokenizer.fingerprint)

    def ask(self, problem: str, texts: Sequence[str]) -> Asked | None:
        """The prompt; places are those of the marks."""
        solution: list[Part] = []
        for k, text in enumerate(texts):
            solution += [Part(text.strip(), ours=False), Part(self._mark, step=k)]
        parts = filled(self._skeleton, [[Part(problem, ours=False)], solution])
        return _asked(marked(self._plain, parts, steps=len(texts), tokens=[self._id]))


@final
class TaggedFormat:
    """Math-Shepherd: plain text, `ки` behind every step; the logits of `+` and `-` are read at the tag.

    Class 0 is `+`, right.

    Args:
        tokenizer: the model's own.
        bos: text of the token that begins the text; empty if the model wants none.
        numbered: True writes every step as `Step i: text` and leaves a label of its own; False writes the text alone.
        tag: text of the tag, with a space before it.

    Raises:
        UsageError: if `bos`, `+` or `-` is not one token.

    Source: Wang et al. 2023, arXiv:2312.08935; the model card of math-shepherd-mistral-7b-prm. Differs: steps are
    stripped; line breaks inside a step become spaces, as a line is a step there; a tag inside problem or step is
    broken up where it is one token, and is read at no place where it is not.
    """

    positive = 0

    def __init__(
        self, tokenizer: Tokenizer, *, bos: str = "<s>", numbered: bool = True, tag: str = SHEPHERD_MARK
    ) -> None:
        self._tokenizer, self._plain = tokenizer, PlainText(tokenizer)
        self._bos, self._numbered, self._tag = bos, numbered, tag
        self._head = [_single(tokenizer, bos)] if bos else []
        self.candidates: Int32[np.ndarray, " 2"] = frozen(_pair(tokenizer), np.int32)
        """[2] ids of `+` and `-`: the classes, for an engine that reads them from the vocabulary."""
        ids = tail_ids(tokenizer, f" {tag}")
        self._tokens = [*self._head, *(ids if len(ids) == 1 else [])]

    @property
    def fingerprint(self) -> str:
        """Prompt version, begin token, labels, tag and tokenizer."""
        parts = (self._bos, self._numbered, self._tag, self._tokenizer.fingerprint)
        return digest("tagged", PROMPT_VERSION, *parts)

    def ask(self, problem: str, texts: Sequence[str]) -> Asked | None:
        """The prompt; places are those of the tags' last tokens."""
        parts = [Part(problem.strip(), ours=False), Part(" ")]
        for k, text in enumerate(texts):
            line = " ".join(text.split("\n")).strip()
            label = f"Step {k + 1}: " if self._numbered and not _OWN_LABEL.match(line) else ""
            parts += [Part(label), Part(line, ours=False), Part(f" {self._tag}", step=k)]
            parts += [Part("\n")] if k + 1 < len(texts) else []
        found = _asked(marked(self._plain, parts, steps=len(texts), tokens=self._tokens))
        if found is None:
            return None
        shift = len(self._head)
        places = np.where(found.places < 0, -1, found.places + shift)
        return Asked(np.array([*self._head, *found.ids.tolist()], np.int32), places)


@final
class TurnsFormat:
    """RLHFlow: every step is a user turn, answered by `+`; the logits of `+` and `-` are read before each answer.

    All earlier answers are `+`, whatever the model thinks of those steps, so one pass reads all steps: up to the first
    wrong step that is what asking turn by turn gives. Class 0 is `+`, right.

    Args:
        tokenizer: the model's own.
        chat: its chat template.
        joint: between the problem and the first step, which share a turn: the ProcessBench script has a blank line,
            the authors' own evaluation a space.

    Raises:
        UsageError: if `+` or `-` is not one token, or the template loses a turn.

    Source: RLHFlow/RLHF-Reward-Modeling; ProcessBench, arXiv:2412.06559, genprm.md 9.5. Differs: one pass instead of
    one a step; steps are stripped.
    """

    positive = 0

    def __init__(self, tokenizer: Tokenizer, chat: ChatRenderer, *, joint: str = "\n\n") -> None:
        self._tokenizer, self._plain = tokenizer, PlainText(tokenizer)
        self._chat, self._joint = chat, joint
        self.candidates: Int32[np.ndarray, " 2"] = frozen([_single(tokenizer, GOOD), _single(tokenizer, BAD)], np.int32)
        """[2] ids of `+` and `-`: the classes, for an engine that reads them from the vocabulary."""
        self._skeletons: dict[int, tuple[str | int, ...]] = {}
        self._turns(1)

    @property
    def fingerprint(self) -> str:
        """Prompt version, template, joint and tokenizer."""
        parts = (self._chat.fingerprint, self._joint, self._tokenizer.fingerprint)
        return digest("turns", PROMPT_VERSION, *parts)

    def ask(self, problem: str, texts: Sequence[str]) -> Asked | None:
        """The prompt; places are those of the tokens before each answer."""
        said: list[list[Part]] = []
        for k, text in enumerate(texts):
            user = [Part(text.strip(), ours=False)]
            if k == 0:
                user = [Part(problem.strip(), ours=False), Part(self._joint), *user]
            said += [user, [Part(GOOD, step=k)]]
        found = _asked(marked(self._plain, filled(self._turns(len(texts)), said), steps=len(texts)))
        if found is None:
            return None
        answers = found.ids[np.maximum(found.places, 0)] == self.candidates[0]
        return Asked(found.ids, np.where(answers & (found.places > 0), found.places - 1, -1))

    def _turns(self, count: int) -> tuple[str | int, ...]:
        if count not in self._skeletons:
            turns = [Message(role, "") for role in ("user", "assistant") * count]
            self._skeletons[count] = skeleton(self._chat, turns, held=("user", "assistant"))
        return self._skeletons[count]


def _asked(found: Marked | None) -> Asked | None:
    return None if found is None else Asked(found.ids, found.ends)


def _single(tokenizer: Tokenizer, text: str) -> int:
    ids = tokenizer.encode(text).tolist()
    if len(ids) != 1:
        raise UsageError(
            f"{text!r} should be one token, the tokenizer makes {len(ids)} of it; give the reward model's own tokenizer"
        )
    return ids[0]


def _pair(tokenizer: Tokenizer) -> list[int]:
    """Ids of `+` and `-` as they stand in the text `+ -`, which is how the authors find them."""
    ids = tokenizer.encode(f"{GOOD} {BAD}").tolist()
    if len(ids) != 2:
        raise UsageError(f"'+ -' should be two tokens, the tokenizer makes {len(ids)} of it")
    return ids

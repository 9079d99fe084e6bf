r"""ThinkPRM's prompts as token ids: the interface of the published checkpoints, with the served model's own tokenizer.

What a user or a model wrote is encoded so that special tokens in it are plain text; only the chat template and the
named markers make special tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatRenderer, Message, Tokenizer
from stepcredit.judges.plain_text import PlainText

# The checkpoints were trained on these words: no character of them may change (thinkprm.md 4.1, 4.2, 4.4).
_OPENING = "You are given a math problem and a proposed step-by-step solution:\n\n[Math Problem]\n\n"
_BETWEEN = "\n\n[Solution]\n\n"
_CLOSING = (
    "\n\nReview and critique each step in the proposed solution to determine whether each step is correct. "
    "If the solution is incomplete, only verify the provided steps."
)
_LEAD_IN = "Let's verify step by step:"
_ASKED = "Is the solution correct?"
_USER, _ASSISTANT, _THINK, _END_THINK = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"

_SLOT = "stepcredit-user-message"
_OWN_LABEL = re.compile(r"\s*(?:#+\s*)?Step\s+[0-9]+\s*:")

WORDING = digest(_OPENING, _BETWEEN, _CLOSING, _LEAD_IN, _ASKED)
"""Digest of the prompt's words: part of every fingerprint, for the figures move with the wording."""


@final
@dataclass(frozen=True)
class Switches:
    """Where the released inference code and the training text differ; the values are those of training.

    Args:
        newline_after_think: newlines between `<think>` and the critique.
        close_think: True ends the think block before the final answer is read; the critique's trailing white space
            goes, as the training text has none there.
        label_case: `lower` reads ` yes` and ` no`, `capital` reads ` Yes` and ` No`.
        bos: begin-of-sequence tokens at the start; only the released server set-up had 2.
        step_prefix: True writes every step as `Step i: text` and removes a label of its own; False leaves it.

    Source: thinkprm.md 4.4 (table of switches). Differs: `reference` has one begin-of-sequence token, not two, and
    its steps are labelled, as in the released search; the released best-of-N leaves the label out.
    """

    newline_after_think: Literal[1, 2] = 1
    close_think: bool = True
    label_case: Literal["lower", "capital"] = "capital"
    bos: Literal[1, 2] = 1
    step_prefix: bool = True


PROFILES: dict[str, Switches] = {
    "reference": Switches(newline_after_think=2, close_think=False, label_case="lower"),
    "trained": Switches(),
}
"""`reference`: as the released code asks; `trained`: as the training text reads. Which is better is not known."""


def solution_text(steps: Sequence[str], *, step_prefix: bool = True) -> str:
    r"""The steps as the prompt shows them, one a line.

    >>> solution_text(["## Step 4: 1 + 1\nis 2. ", "So 2."])
    'Step 1: 1 + 1 is 2.\nStep 2: So 2.'
    >>> solution_text(["1 + 1\n\nis 2."], step_prefix=False)
    '1 + 1 is 2.'
    """
    lines: list[str] = []
    for number, step in enumerate(steps, 1):
        text = _OWN_LABEL.sub("", step, count=1) if step_prefix and _OWN_LABEL.match(step) else step
        line = re.sub(r"\s*[\r\n\v\f\x85\u2028\u2029]\s*", " ", text.strip())
        lines.append(f"Step {number}: {line}".rstrip() if step_prefix else line)
    return "\n".join(lines)


def user_message(problem: str, steps: Sequence[str], *, step_prefix: bool = True) -> str:
    """The user's turn; problem and solution are put in at once, so neither can hold a placeholder."""
    return f"{_OPENING}{problem.strip()}{_BETWEEN}{solution_text(steps, step_prefix=step_prefix)}{_CLOSING}"


def stop_strings(count: int) -> tuple[str, ...]:
    """What ends a critique of `count` steps; the last one stops it from judging a step that is not there.

    >>> stop_strings(12)
    ('Is the solution correct?', '</think>', 'Step 13:')
    """
    return (_ASKED, _END_THINK, f"Step {count + 1}:")


@final
class PromptBuilder:
    """Builds the prompts of one model under one set of switches.

    Args:
        tokenizer: the served model's own.
        chat: the served model's own chat template.
        switches: how the prompt is written.

    Raises:
        UsageError: if the template lacks the R1 role tokens or its begin-of-sequence token, switches thinking off or
            changes the message, or the tokenizer does not hold a named token as one token.

    Source: thinkprm.md 4.2, 4.4. Differs: a template that ends before `<think>` is gone on with it.
    """

    def __init__(self, tokenizer: Tokenizer, chat: ChatRenderer, switches: Switches) -> None:
        self._tokenizer, self._switches = tokenizer, switches
        self.plain = PlainText(tokenizer)
        """Encodes what a user or a model wrote."""
        head, tail = _frame(chat)
        named = [chat.bos, _USER, _ASSISTANT, _THINK, _END_THINK]
        for name in named:
            self.token(name)
        self._head = tokenizer.encode(chat.bos * switches.bos + head).tolist()
        breaks = "\n" * switches.newline_after_think
        # In one piece: byte-pair encodings may join the newlines of the template with ours.
        self._tail = tokenizer.encode(f"{tail}{_THINK}{breaks}{_LEAD_IN}").tolist()
        self._end_think = tokenizer.encode(f"{_END_THINK}\n{_ASKED}").tolist()
        yes, no = (" yes", " no") if switches.label_case == "lower" else (" Yes", " No")
        self.answers: Int32[np.ndarray, " 2"] = frozen([self.token(yes), self.token(no)], np.int32)
        """[2] ids of yes and no, with their leading space."""

    @property
    def fingerprint(self) -> str:
        """Digest of words, switches, template and tokenizer."""
        return digest(WORDING, self._switches, self._head, self._tail, self._tokenizer.fingerprint)

    def token(self, text: str) -> int:
        """Id of a text that must be one token.

        Raises:
            UsageError: if it is several, or none.
        """
        ids = self._tokenizer.encode(text).tolist()
        if len(ids) != 1:
            raise UsageError(
                f"{text!r} should be one token, the tokenizer makes {len(ids)} of it; "
                "give the tokenizer of the served ThinkPRM checkpoint"
            )
        return ids[0]

    def critique(self, problem: str, steps: Sequence[str]) -> Int32[np.ndarray, " P"]:
        """[P] ids of the prompt that the critique follows; the last ones are those of the lead-in."""
        message = user_message(problem, steps, step_prefix=self._switches.step_prefix)
        return frozen([*self._head, *self.plain.ids(message).tolist(), *self._tail], np.int32)

    def onward(self, prompt: Int32[np.ndarray, " P"], text: str) -> Int32[np.ndarray, " Q"]:
        """[Q] ids of a prompt and of what was written after it; the prompt's ids stay, so its cache serves again."""
        return frozen([*prompt.tolist(), *self.plain.ids(text).tolist()], np.int32)

    def answer(self, prompt: Int32[np.ndarray, " P"], critique: str) -> Int32[np.ndarray, " Q"]:
        """[Q] ids after which yes or no is read: no trailing space, it belongs to the answer's token."""
        if not self._switches.close_think:
            return self.onward(prompt, f"{critique}\n{_ASKED}")
        written = self.plain.ids(f"{critique.rstrip()}\n").tolist()
        return frozen([*prompt.tolist(), *written, *self._end_think], np.int32)


def _frame(chat: ChatRenderer) -> tuple[str, str]:
    """Text before the user's message without begin tokens, and after it up to the think block."""
    rendered = chat.render([Message("user", _SLOT)], add_generation_prompt=True)
    if _USER not in rendered or _ASSISTANT not in rendered:
        raise UsageError(
            f"the chat template has no {_USER} and {_ASSISTANT}: ThinkPRM was trained on the R1-Distill template; "
            "give the template of the served checkpoint, not a generic one"
        )
    head, slot, tail = rendered.partition(_SLOT)
    if not slot or _SLOT in tail:
        raise UsageError("the chat template must write the user's message once and unchanged")
    if not chat.bos or not head.startswith(chat.bos):
        raise UsageError(f"the chat template must begin with its begin-of-sequence token, got {rendered[:40]!r}")
    while head.startswith(chat.bos):
        head = head.removeprefix(chat.bos)
    before, _, after = tail.rpartition(_ASSISTANT)
    if after not in ("", _THINK, f"{_THINK}\n"):
        raise UsageError(
            f"the assistant's turn must begin with {_THINK} or nothing, got {after!r}; "
            "is thinking switched off? Give the template enable_thinking=True"
        )
    return head, before + _ASSISTANT

"""Prompts of GenPRM as token ids, from the served model's own tokenizer and chat template.

The strings in capitals are the interface that the published checkpoints were trained on. The template is rendered with
place holders for what people and models wrote, and its own text alone is read with special tokens recognised.
"""

import re
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatRenderer, Message, Tokenizer
from stepcredit.judges.genprm.settings import FirstTurn, GenPrmSettings
from stepcredit.judges.plain_text import PlainText

_ROLE = "You are a math teacher. Your task is to review and critique the paragraphs in solution "
SYSTEM = _ROLE + "step by step."
SYSTEM_DIRECT = _ROLE + (
    "directly. Output your judgement in the format of `\\boxed{Yes}` if the paragraph is correct, "
    "or `\\boxed{No}` if the paragraph is incorrect."
)
ANALYZE_OPEN = "<analyze>\nLet's analyze the Paragraph {number} step by step: "
ANALYZE_CLOSE = "</analyze>\n"
VERIFY_OPEN = "<verify>\nLet's use python code to find any potential error:\n```python\n"
VERIFY_CLOSE = "</verify>\n"
CODE_CLOSE = "\n```\n"
CODE_OUTPUT = "[Code Output]\n\n```\n{feedback}\n```\n"
OUTPUT_OPEN = "<output>\n**Judgement**: $\\boxed"
OUTPUT_CLOSE = "</output>\n"
OUTPUT = OUTPUT_OPEN + "{{{answer}}}$\n" + OUTPUT_CLOSE

PROMPT_VERSION = 1
"""Raised when what is sent changes; part of the fingerprint."""

_HOLDER = re.compile("\ue000([0-9]+)\ue001")
_THINK = "<think>"


@final
@dataclass(frozen=True)
class Dialogue:
    """What was said so far.

    Args:
        users: user turns, one a step; one more than there are critiques.
        critiques: assistant turns of earlier steps.
        opened: what stands of the turn that is being written.
    """

    users: tuple[str, ...]
    critiques: tuple[str, ...] = ()
    opened: str = ""


def first_turn(problem: str, step: str, form: FirstTurn) -> str:
    r"""The first user turn, which carries the problem.

    >>> first_turn("1 + 1?", "It is 2.", "question")
    'Question: 1 + 1?\n\nIt is 2.'

    Source: genprm.md 4.1. Differs: none.
    """
    return {"question": f"Question: {problem}\n\n{step}", "newline": f"{problem}\n{step}", "none": problem + step}[form]


@final
class Prompts:
    """Dialogues to token ids.

    Every text between two special tokens of the template is encoded as one, so that ordinary dialogues get the ids
    that the model's own tools give them; special tokens inside what a person, a model or a program wrote are broken up
    and do nothing (`PlainText`).

    Args:
        tokenizer: the served model's.
        chat: its chat template.
        settings: the profile.

    Raises:
        UsageError: if Yes and No are not single tokens of their own after the forced opening, if the template loses a
            turn, or writes no beginning-of-sequence token that could be doubled, or writes two.

    Source: genprm.md 4.1, 4.4. Differs: a template that changes a turn's text (strips it, cuts it at a think tag)
    does not do so here.
    """

    def __init__(self, tokenizer: Tokenizer, chat: ChatRenderer, settings: GenPrmSettings, *, direct: bool) -> None:
        self._tokenizer, self._chat, self._settings = tokenizer, chat, settings
        self.plain = PlainText(tokenizer)
        """Encodes what people, models and programs wrote."""
        self._system = SYSTEM_DIRECT if direct else SYSTEM
        self._skeletons: dict[int, list[str | int]] = {}
        self.candidates = _verdict_ids(tokenizer)
        self.ids(Dialogue(("",)), {})

    @property
    def fingerprint(self) -> str:
        """Prompt version, tokenizer and chat template."""
        return digest(PROMPT_VERSION, self._tokenizer.fingerprint, self._chat.fingerprint)

    def ids(self, dialogue: Dialogue, memory: dict[str, Int32[np.ndarray, " X"]]) -> Int32[np.ndarray, " P"]:
        """[P] token ids of a dialogue.

        Args:
            dialogue: what was said.
            memory: ids of texts that were encoded before; filled here, one a pass.

        Raises:
            UsageError: as the constructor.
        """
        turns = len(dialogue.users)
        if turns not in self._skeletons:
            self._skeletons[turns] = self._skeleton(turns)
        said = [self._system]
        for k, user in enumerate(dialogue.users):
            said += [user, *dialogue.critiques[k : k + 1]]
        found: list[Int32[np.ndarray, " X"]] = []
        run = ""
        for part in self._skeletons[turns]:
            if isinstance(part, int):
                found += [self._recalled(run, memory), np.array([part], np.int32)]
                run = ""
            else:
                held = _HOLDER.fullmatch(part)
                run += part if held is None else said[int(held[1])]
        return frozen(np.concatenate([*found, self._recalled(run + dialogue.opened, memory)]), np.int32)

    def _recalled(self, text: str, memory: dict[str, Int32[np.ndarray, " X"]]) -> Int32[np.ndarray, " X"]:
        if not text:
            return np.zeros(0, np.int32)
        if text not in memory:
            memory[text] = self.plain.ids(text)
        return memory[text]

    def _skeleton(self, turns: int) -> list[str | int]:
        """The template around `turns` user turns: ids of its special tokens, its other text, and place holders."""
        roles = ["system", *(("user", "assistant") * turns)[:-1]]
        messages = [Message(role, f"\ue000{place}\ue001") for place, role in enumerate(roles)]
        rendered = self._opened(messages)
        if [int(place) for place in _HOLDER.findall(rendered)] != [*range(len(roles))]:
            raise UsageError(f"the chat template does not render {', '.join(roles)} once each and in this order")
        rendered = self._begun(rendered)
        parts: list[str | int] = []
        for k, text in enumerate(_HOLDER.split(rendered)):
            if k % 2:
                parts.append(f"\ue000{text}\ue001")
                continue
            ids = self._tokenizer.encode(text)
            for number, piece in zip(ids.tolist(), self._tokenizer.pieces(ids), strict=True):
                parts.append(number if number in self.plain.markers else piece.decode("utf-8", "surrogateescape"))
        return _joined(parts)

    def _opened(self, messages: list[Message]) -> str:
        """The rendered text up to where the turn to write begins."""
        plain = self._chat.render(messages, add_generation_prompt=False)
        if self._settings.assistant_open == "off":
            return plain.removesuffix(self._chat.eos) if self._chat.eos else plain
        opened = self._chat.render(messages, add_generation_prompt=True)
        if not opened.startswith(plain):
            raise UsageError("the chat template's generation prompt is not an ending of the rendered messages")
        return plain + opened[len(plain) :].partition(_THINK)[0]

    def _begun(self, rendered: str) -> str:
        """The rendered text with as many beginning-of-sequence tokens as the profile says."""
        bos = self._chat.bos
        has = bool(bos) and rendered.startswith(bos)
        if has and rendered.startswith(bos + bos):
            raise UsageError("the chat template writes two beginning-of-sequence tokens")
        if self._settings.bos == 1:
            return rendered
        if not has:
            raise UsageError("the chat template writes no beginning-of-sequence token, so bos must be 1")
        return bos + rendered


def _verdict_ids(tokenizer: Tokenizer) -> Int32[np.ndarray, " C"]:
    """[2] ids of Yes and No, which must be single and leave the opening before them as it is."""
    before = tokenizer.encode(OUTPUT_OPEN + "{").tolist()
    found: list[int] = []
    for answer in ("Yes", "No"):
        ids = tokenizer.encode(answer).tolist()
        whole = tokenizer.encode(OUTPUT_OPEN + "{" + answer).tolist()
        if len(ids) != 1 or whole != [*before, *ids]:
            raise UsageError(f"{answer!r} is not one token of its own after the forced verdict: {whole[len(before) :]}")
        found += ids
    return frozen(found, np.int32)


def _joined(parts: list[str | int]) -> list[str | int]:
    """Neighbouring pieces of ordinary text as one; place holders stay apart."""
    joined: list[str | int] = []
    for part in parts:
        last = joined[-1] if joined else 0
        if (
            isinstance(part, str)
            and isinstance(last, str)
            and not _HOLDER.fullmatch(part)
            and not _HOLDER.fullmatch(last)
        ):
            joined[-1] = last + part
        else:
            joined.append(part)
    return [_mended(part) if isinstance(part, str) else part for part in joined]


def _mended(text: str) -> str:
    """Characters whose bytes were spread over several tokens, put together again."""
    return text.encode("utf-8", "surrogateescape").decode()

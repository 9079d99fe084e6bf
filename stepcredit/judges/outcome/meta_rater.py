"""The meta reward model: a scalar at the end of a critique, from any model that reads classes at tokens."""

from collections.abc import Sequence
from typing import final

import numpy as np

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.judge_parts import TokenClassifier
from stepcredit.core.protocols import ChatRenderer, Message, Tokenizer
from stepcredit.core.records import Verdict
from stepcredit.judges.discriminative.marking import Part, filled, marked, skeleton
from stepcredit.judges.plain_text import PlainText

PROMPT_VERSION = 1
"""Raised when what is shown changes; part of the fingerprint."""


@final
class MetaRater:
    """Implements `core.judge_parts.CritiqueRater`: the log odds that a critique's verdict is right.

    Problem and solutions stand in a user turn, the critique is the assistant's; the model's head is read at the last
    token of the critique. A head of one class gives the logit itself, one of two the difference to class 1.

    Args:
        classifier: the meta reward model.
        tokenizer: its own.
        chat: its chat template.

    Raises:
        UsageError: if the model has more than two classes, or the template loses a turn.

    Source: SPCT, arXiv:2504.02495, credit.md 2.8 (binary cross-entropy on 'was this verdict right'). Differs: what it
    is shown is ours, the authors' form is not known.
    """

    def __init__(self, classifier: TokenClassifier, tokenizer: Tokenizer, chat: ChatRenderer) -> None:
        if classifier.classes > 2:
            raise UsageError(f"a meta reward model has 1 or 2 classes, got {classifier.classes}")
        self._classifier, self._tokenizer, self._plain = classifier, tokenizer, PlainText(tokenizer)
        turns = [Message("user", ""), Message("assistant", "")]
        self._skeleton = skeleton(chat, turns, held=("user", "assistant"))

    @property
    def fingerprint(self) -> str:
        """Prompt version, template as rendered, tokenizer and the model's fingerprint."""
        parts = (PROMPT_VERSION, self._skeleton, self._tokenizer.fingerprint, self._classifier.fingerprint)
        return digest("MetaRater", *parts)

    async def rate_critique(self, problem: str, solutions: Sequence[str], critique: str) -> Verdict:
        """Log odds, higher is better; unknown if the text does not fit the model.

        Raises:
            EngineError: if the model gave no answer.
            BudgetError: if a limit on calls or cost is reached.
        """
        asked = [Part(problem.strip(), ours=False)]
        for k, text in enumerate(solutions, 1):
            asked += [Part(f"\n\nSolution {k}:\n"), Part(text.strip(), ours=False)]
        parts = filled(self._skeleton, [asked, [Part(critique.strip(), ours=False, step=0)]])
        found = marked(self._plain, parts, steps=1)
        if found is None or found.ends[0] < 0:
            return Verdict(reason="the tokenizer does not end the critique where it ends")
        context, needed = await self._classifier.context(), int(found.ends[0]) + 1
        if context is not None and needed > context:
            return Verdict(reason=f"the critique ends at token {needed}, the model reads {context}")
        read = await self._classifier.classify(found.ids[:needed], found.ends)
        row = read.values[0].astype(np.float64)
        score = float(row[0] if len(row) == 1 else row[1] - row[0])
        if not np.isfinite(score):
            return Verdict(reason="the meta reward model gave no finite number", calls=read.calls)
        return Verdict(score, calls=read.calls)

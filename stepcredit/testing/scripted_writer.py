"""A writer that goes on from a script, with stop strings as a server applies them."""

from collections.abc import Callable, Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError
from stepcredit.core.protocols import NextTokens, Tokenizer, Writing, Written

WriterScript = Callable[[str, Writing], str] | Sequence[str | Exception]
"""A function of the prompt as text, or texts in the order of the calls; an exception in the list is raised."""

NextScript = Callable[[str], Mapping[str, float]] | Mapping[str, float]
"""Next token as text -> probability; of the prompt as text, or always the same. What it does not name is NaN."""


@final
class ScriptedWriter:
    """Implements `core.protocols.Writer` from a script, and keeps what it was asked.

    Args:
        tokenizer: reads the prompts that come as ids.
        script: what would be written if nothing stopped it.
        following: probabilities of next tokens.
        name: part of the fingerprint.

    Lengths are counted in tokens: a text of more than `max_tokens` is cut, with finish `length`.
    """

    def __init__(
        self, tokenizer: Tokenizer, script: WriterScript, following: NextScript | None = None, *, name: str = "scripted"
    ) -> None:
        self._tokenizer, self._script, self._following, self._name = tokenizer, script, following or {}, name
        self.asked: list[tuple[str, Writing, int]] = []
        self.looked: list[str] = []

    @property
    def fingerprint(self) -> str:
        """Digest of the name."""
        return digest("ScriptedWriter", self._name)

    async def write(self, prompt_ids: Int32[np.ndarray, " P"], writing: Writing, *, seed: int) -> Written:
        """The script's next text, up to the first stop string.

        Raises:
            EngineError: if the script has no more texts, or holds an EngineError here.
        """
        prompt, number = self._tokenizer.decode(prompt_ids), len(self.asked)
        self.asked.append((prompt, writing, seed))
        if callable(self._script):
            answer = self._script(prompt, writing)
        elif number < len(self._script):
            answer = self._script[number]
        else:
            raise EngineError(f"the script has {len(self._script)} texts, this is call {number + 1}")
        if isinstance(answer, Exception):
            raise answer
        text, stop = stopped(answer, writing.stop)
        ids = self._tokenizer.encode(text + stop)
        cut = len(ids) > writing.max_tokens
        if cut:
            text, stop = self._tokenizer.decode(ids[: writing.max_tokens]), ""
        call = digest(self.fingerprint, prompt, str(writing), seed)[:16]
        whole = text + stop if writing.keep_stop else text
        counts = len(prompt_ids), min(len(ids), writing.max_tokens)
        return Written(whole, "length" if cut else "stop", stop, call, *counts)

    async def next_tokens(self, prompt_ids: Int32[np.ndarray, " P"], candidates: Int32[np.ndarray, " C"]) -> NextTokens:
        """Log probabilities from the script."""
        prompt = self._tokenizer.decode(prompt_ids)
        self.looked.append(prompt)
        named = self._following(prompt) if callable(self._following) else self._following
        found = [named.get(self._tokenizer.decode([candidate]), float("nan")) for candidate in candidates.tolist()]
        smallest = min(named.values(), default=0.0)
        with np.errstate(divide="ignore"):
            return NextTokens(np.log(np.array(found, np.float32)), float(np.log(np.float32(smallest))))


def stopped(text: str, stops: Sequence[str]) -> tuple[str, str]:
    """The text before the stop string that ends first, and that string; the whole text and "" if there is none.

    >>> stopped("one two three", ["three", "two"])
    ('one ', 'two')
    """
    ends = [(text.index(stop) + len(stop), stop) for stop in stops if stop in text]
    if not ends:
        return text, ""
    end, stop = min(ends)
    return text[: end - len(stop)], stop

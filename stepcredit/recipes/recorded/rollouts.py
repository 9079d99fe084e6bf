"""Recorded responses as rollouts: ids by re-tokenising, groups by problem, steps where a line brings its own."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Splitter, Tokenizer
from stepcredit.core.records import Outcome, Rollout, Steps
from stepcredit.recipes.recorded.settings import GroupBy
from stepcredit.steps import retokenise
from stepcredit.steps.partition import at_tokens, blocks_of
from stepcredit.tasks.jsonl import RecordedResponse


@final
@dataclass(frozen=True)
class Grouping:
    """Which recorded responses are compared.

    Args:
        names: [N] group of each response.
        samples: [N] its index inside the group.
        models: models of each group.
    """

    names: tuple[str, ...]
    samples: tuple[int, ...]
    models: dict[str, frozenset[str]]

    @property
    def sizes(self) -> Counter[int]:
        """Number of groups of each size."""
        return Counter(Counter(self.names).values())

    @property
    def mixed(self) -> int:
        """Groups whose responses come from more than one model: more than one policy."""
        return sum(len(models) > 1 for models in self.models.values())

    def told(self) -> str:
        """One line: how many groups, of which sizes, how many of mixed policy.

        >>> Grouping(("a", "a", "b"), (0, 1, 0), {"a": frozenset("xy"), "b": frozenset("x")}).told()
        '2 groups (1 of 1, 1 of 2), 1 of mixed policy'
        """
        sizes = ", ".join(f"{count} of {size}" for size, count in sorted(self.sizes.items()))
        return f"{len(self.models)} groups ({sizes}), {self.mixed} of mixed policy"


def grouped(recorded: Iterable[RecordedResponse], group_by: GroupBy) -> Grouping:
    """Group by problem text, and by model unless told otherwise.

    Args:
        recorded: [N] responses.
        group_by: `problem-and-model`, or `problem`, which mixes policies.
    """
    names: list[str] = []
    samples: list[int] = []
    models: dict[str, set[str]] = {}
    sizes: Counter[str] = Counter()
    known: dict[str, str] = {}
    for item in recorded:
        problem = digest(item.problem.text)[:12]
        name = problem if group_by == "problem" else f"{problem}/{item.model}"
        name = known.setdefault(name, name)  # one text a group, not one a response
        names.append(name)
        samples.append(sizes[name])
        sizes[name] += 1
        models.setdefault(name, set()).add(item.model)
    return Grouping(tuple(names), tuple(samples), {name: frozenset(found) for name, found in models.items()})


@final
class RolloutMaker:
    """Makes rollouts of recorded responses; each prompt is tokenised once.

    Args:
        tokenizer: for texts and prompts.
        source: file of the responses, for messages.
    """

    def __init__(self, tokenizer: Tokenizer, source: Path | str) -> None:
        self._tokenizer, self._source = tokenizer, source
        self._prompts: dict[str, Int32[np.ndarray, " P"]] = {}

    def make(self, item: RecordedResponse, *, group: str, sample: int) -> Rollout:
        """One rollout, marked `retokenised`.

        Raises:
            UsageError: if the tokenizer cannot represent the text; names the line.
        """
        place = f"{self._source}:{item.line}"
        try:
            prompt = self._prompts.get(item.problem.text)
            if prompt is None:
                prompt = self._prompts[item.problem.text] = self._tokenizer.encode(item.problem.text)
            ids, text, char_starts = retokenise(item.response, self._tokenizer)
        except UsageError as error:
            raise UsageError(f"{error}; {_MEND}", item=place) from error
        check_represents(item.response, text, place=place)
        return Rollout(
            item.id,
            item.problem,
            group,
            sample,
            text,
            prompt,
            ids,
            char_starts,
            finish=item.finish,
            policy=item.model,
            retokenised=True,
        )


_MEND = "--tokenizer must name the tokenizer of the model that wrote the text, or any byte-level one"


def check_represents(written: str, text: str, *, place: str) -> None:
    """Refuse a tokenizer that gives another text back; Unicode normalisation (NFC) is let pass.

    Raises:
        UsageError: naming place and first difference.
    """
    if text == written:
        return
    want = unicodedata.normalize("NFC", written)
    if unicodedata.normalize("NFC", text) == want:
        return
    first = next((k for k, (a, b) in enumerate(zip(want, text, strict=False)) if a != b), min(len(want), len(text)))
    told = f"{want[first : first + 12]!r} comes back as {text[first : first + 12]!r}"
    raise UsageError(f"the tokenizer cannot represent the text: at character {first} {told}; {_MEND}", item=place)


def cut(outcome: Outcome, splitter: Splitter, *, steps: Sequence[str] | None, place: str) -> Steps:
    """Steps of a checked rollout: those of the line where it brings them, else the splitter's.

    Args:
        outcome: whose completion is cut.
        splitter: cuts where the line brings no steps; its unit names the steps of both kinds.
        steps: the line's own steps, in order; text between two of them goes with the one before. Empty ones vanish.
        place: file and line, for messages.

    Raises:
        UsageError: if the line's steps are not found in its text, in order.
    """
    if steps is None:
        return splitter.split(outcome)
    text = outcome.rollout.text
    starts: list[int] = []
    at = 0
    for number, step in enumerate(steps):
        found = next((k for said in _spellings(step) if (k := text.find(said, at)) >= 0), None)
        if found is None:
            mend = "let both agree, or leave one of them out"
            raise UsageError(f"step {number} of `steps` does not follow in the text of the line; {mend}", item=place)
        starts.append(found)
        at = found + len(step)
    return _at_given(outcome, starts[1:], splitter.unit)


def _spellings(step: str) -> tuple[str, str]:
    """The step as written, and as a tokenizer may have normalised it."""
    return step, unicodedata.normalize("NFC", step)


def _at_given(outcome: Outcome, starts: Sequence[int], unit: str) -> Steps:
    """Steps from given characters; the one in which the answer block begins belongs to it, if not the first."""
    rollout = outcome.rollout
    blocks = blocks_of(rollout, "auto")
    if blocks.answer is not None:
        before = [start for start in starts if start <= blocks.border]
        blocks = replace(blocks, border=before[-1]) if before else blocks
    tokens = np.searchsorted(rollout.char_starts, np.array(starts, np.int64), side="left")
    return at_tokens(outcome, tokens, unit=unit, blocks=blocks)

"""Splitters that count tokens: fixed length, single tokens, the whole completion."""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Outcome, Steps
from stepcredit.steps.blocks import check_form
from stepcredit.steps.partition import at_tokens, blocks_of, border_token


@final
@dataclass(frozen=True)
class Fixed:
    """Cuts every `size` tokens, counted anew from the answer block.

    Args:
        size: tokens of a step; the last step of a block may be shorter.
        form: block format, see `find_blocks`.

    Source: PRL (credit.md), 256 tokens. Differs: a step does not reach over the think block's end.
    """

    size: int = 256
    form: str = "auto"
    unit: str = field(default="fixed", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)
        if self.size < 1:
            raise UsageError(f"fixed needs a size of at least 1 token, got {self.size}")

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion into runs of `size` tokens."""
        blocks = blocks_of(outcome.rollout, self.form)
        border, total = border_token(outcome.rollout, blocks), len(outcome.rollout.completion_ids)
        tokens = np.concatenate([np.arange(0, border, self.size), np.arange(border, total, self.size)])
        return at_tokens(outcome, tokens, unit=self.unit, blocks=blocks)


@final
@dataclass(frozen=True)
class Token:
    """Every token is a step.

    Args:
        form: block format, see `find_blocks`.

    Source: own. Differs: none.
    """

    form: str = "auto"
    unit: str = field(default="token", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion into its tokens."""
        tokens = np.arange(len(outcome.rollout.completion_ids))
        return at_tokens(outcome, tokens, unit=self.unit, blocks=blocks_of(outcome.rollout, self.form))


@final
@dataclass(frozen=True)
class Whole:
    """The whole completion is one step, for rules and judges that see only answers.

    Args:
        by_block: two steps, think block and answer block, where there is an answer block.
        form: block format, see `find_blocks`.

    Source: own. Differs: none.
    """

    by_block: bool = False
    form: str = "auto"
    unit: str = field(default="whole", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)

    def split(self, outcome: Outcome) -> Steps:
        """The completion as one step, or one a block."""
        blocks = blocks_of(outcome.rollout, self.form)
        tokens = np.array([border_token(outcome.rollout, blocks)] if self.by_block else [], np.int64)
        return at_tokens(outcome, tokens, unit=self.unit, blocks=blocks)

"""Two candidates as the next token, such as yes and no: how probable is the first against the second?"""

import math
from dataclasses import dataclass
from typing import final

from stepcredit.core.protocols import NextTokens

NEVER = -9999.0
"""Log probabilities this low are a server's way of writing minus infinity."""


@final
@dataclass(frozen=True)
class Pair:
    """Log probabilities of the two, in nats; at least one is finite.

    Args:
        first: of the first.
        second: of the second.
        truncated: True if the engine did not name one of the two, which then has the smallest that it named: a bound.
    """

    first: float
    second: float
    truncated: bool = False

    def share(self, temperature: float = 1.0) -> float:
        """exp(l_1 / t) / (exp(l_1 / t) + exp(l_2 / t)).

        Args:
            temperature: t, above 0.

        >>> round(Pair(math.log(0.6), math.log(0.2)).share(), 9)
        0.75

        Source: thinkprm.md 4.4, genprm.md 4.4 (`raw`, at t = 1). Differs: none.
        """
        top = max(self.first, self.second)
        first, second = (math.exp((value - top) / temperature) for value in (self.first, self.second))
        return first / (first + second)


def read_pair(found: NextTokens) -> Pair | None:
    """The two candidates that an engine was asked about.

    Args:
        found: log probabilities of the two, in their order.

    Returns:
        `None` if neither was named, or both have probability 0: no decision is no number.

    >>> import numpy as np
    >>> read_pair(NextTokens(np.array([-1.0, np.nan]), -4.0))
    Pair(first=-1.0, second=-4.0, truncated=True)

    Source: thinkprm.md 4.4, genprm.md 4.4 (bound), 4.5 (sentinels). Differs: a log probability of exactly 0 is one
    like any other, and nothing decided is unknown, neither 0.269 nor 0.5.
    """
    values = [float(value) for value in found.logprobs]
    missing = [math.isnan(value) for value in values]
    if all(missing) or (any(missing) and math.isnan(found.bound)):
        return None
    first, second = (_floored(found.bound if gone else value) for gone, value in zip(missing, values, strict=True))
    return None if first == second == -math.inf else Pair(first, second, any(missing))


def _floored(value: float) -> float:
    return -math.inf if value <= NEVER else value

"""Limits on what calls may cost, counted over all clients that share the budget."""

from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import BudgetError, DrainedError, UsageError


@final
@dataclass(frozen=True)
class Prices:
    """Prices of tokens, in any one currency.

    Args:
        input_per_million: price of a million tokens read.
        output_per_million: price of a million tokens written.

    >>> Prices(1.0, 4.0).cost(500_000, 250_000)
    1.5
    """

    input_per_million: float
    output_per_million: float

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Price of the tokens."""
        return (input_tokens * self.input_per_million + output_tokens * self.output_per_million) / 1e6


@final
class Budget:
    """Stops calls when a limit is reached; requests that are under way then still end, and are counted.

    Costs are known when answers come, so `max_cost` may be passed by what the requests under way then cost.

    Args:
        max_calls: most requests, tries that fail included; `None` has no limit.
        max_cost: most cost; needs prices.
        prices: prices of tokens; without them costs are unknown (`None`).
        spent_calls: requests of earlier processes of the run.
        spent_cost: cost of earlier processes of the run.

    Raises:
        UsageError: for a cost limit without prices, or one that is not positive.
    """

    def __init__(
        self,
        *,
        max_calls: int | None = None,
        max_cost: float | None = None,
        prices: Prices | None = None,
        spent_calls: int = 0,
        spent_cost: float = 0.0,
    ) -> None:
        if max_cost is not None and not max_cost > 0:  # NaN too
            raise UsageError(f"--max-cost must be more than 0, got {max_cost:g}; --judge markers costs nothing")
        if max_cost is not None and prices is None:
            mend = "add --set server.input_price=P --set server.output_price=P (for a million tokens)"
            raise UsageError(f"--max-cost needs the prices of tokens; {mend}")
        self._max_calls, self._max_cost, self._prices = max_calls, max_cost, prices
        self.calls, self.cost = spent_calls, spent_cost
        self._drained = False

    def drain(self) -> None:
        """Admit no request any more, further tries included; those under way end and are counted."""
        self._drained = True

    def admit(self) -> None:
        """Count one request.

        Raises:
            BudgetError: if a limit is reached.
            DrainedError: after `drain`.
        """
        if self._drained:
            raise DrainedError("the run is stopping and asks nothing new")
        if self._max_calls is not None and self.calls >= self._max_calls:
            raise BudgetError(f"--max-calls {self._max_calls} is reached; raise it and run the same command to go on")
        if self._max_cost is not None and self.cost >= self._max_cost:
            spent = f"--max-cost {self._max_cost:g} is reached ({self.cost:.4g} spent)"
            raise BudgetError(f"{spent}; raise it and run the same command to go on")
        self.calls += 1

    def spend(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """Count the tokens of one answer; returns its price, `None` if it is not known.

        Raises:
            UsageError: if there is a cost limit and the server does not tell the tokens.
        """
        if self._prices is None:
            return None
        if input_tokens is None or output_tokens is None:
            if self._max_cost is not None:
                raise UsageError("the server does not tell token counts, so --max-cost cannot be held; use --max-calls")
            return None
        cost = self._prices.cost(input_tokens, output_tokens)
        self.cost += cost
        return cost

"""What a judge's model calls spend: a meter, and a chat model that feeds one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatModel, Message, Reply


@final
@dataclass(frozen=True)
class Spending:
    """Tokens and money, spent or allowed.

    Args:
        tokens: read and written.
        cost: in any one currency.
    """

    tokens: int = 0
    cost: float = 0.0

    def plus(self, other: "Spending", *, times: int = 1) -> "Spending":
        """This and the other's, or with `times = -1` less the other's.

        >>> Spending(10, 2.5).plus(Spending(4, 1.0), times=-1)
        Spending(tokens=6, cost=1.5)
        """
        return Spending(self.tokens + times * other.tokens, self.cost + times * other.cost)


@final
class Meter:
    """Adds up what calls spend; feed it from `MeteredChat`, or from a server client's `on_attempt`.

    The second also counts tries that failed:
    `on_attempt=lambda tried: meter.spend(tried.input_tokens, tried.output_tokens)`.

    Args:
        input_price: of a million tokens read.
        output_price: of a million tokens written.

    Attributes:
        calls: answers counted.
        unmetered: those of them that told no token counts.
        spent: over all calls.

    Raises:
        UsageError: for a price below 0.

    >>> meter = Meter(input_price=1.0, output_price=4.0)
    >>> meter.spend(500_000, 250_000)
    >>> meter.spent, meter.unmetered
    (Spending(tokens=750000, cost=1.5), 0)
    """

    def __init__(self, *, input_price: float = 0.0, output_price: float = 0.0) -> None:
        if not (input_price >= 0 and output_price >= 0):  # NaN too
            raise UsageError(f"prices must be at least 0, got {input_price} and {output_price}")
        self._prices = (input_price, output_price)
        self.calls, self.unmetered, self.spent = 0, 0, Spending()

    @property
    def priced(self) -> bool:
        """True if tokens cost anything."""
        return any(self._prices)

    def spend(self, input_tokens: int | None, output_tokens: int | None) -> None:
        """Count one answer."""
        self.calls += 1
        self.unmetered += input_tokens is None or output_tokens is None
        read, written = input_tokens or 0, output_tokens or 0
        cost = (read * self._prices[0] + written * self._prices[1]) / 1e6
        self.spent = self.spent.plus(Spending(read + written, cost))


@final
class MeteredChat:
    """A chat model whose answers are counted by a meter; implements `core.protocols.ChatModel`.

    Args:
        model: who answers.
        meter: counts; may be shared.
    """

    def __init__(self, model: ChatModel, meter: Meter) -> None:
        self._model, self._meter = model, meter

    @property
    def fingerprint(self) -> str:
        """That of the model: counting changes no answer."""
        return self._model.fingerprint

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> Reply:
        """The model's answer; raises as the model."""
        reply = await self._model.complete(messages, max_tokens=max_tokens, temperature=temperature, seed=seed)
        self._meter.spend(reply.input_tokens, reply.output_tokens)
        return reply

"""All sequences that a small tabular policy can write, laid end to end: expectations over them are sums, not samples.

For tests of credit rules: whether what a rule pays has the gradient that it should have, to rounding.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import UsageError


@final
class Enumeration:
    """The complete sequences of a prefix tree, for policies with one row of logits a prefix.

    A policy is a table [R, V] of logits: `log p(v | prefix) = log softmax(logits[row of the prefix])[v]`, and a
    sequence's probability is the product over its tokens. The sequences must be all there are, so that probabilities
    add up to 1: none opens another, and every prefix goes on with every symbol.

    Args:
        sequences: N sequences of ids from 0 to V - 1.

    Raises:
        UsageError: if one is empty or opens another, or a prefix does not go on with every symbol.

    >>> tree = Enumeration([(0,), (1, 0), (1, 1)])
    >>> tree.rows, tree.edges
    (2, array([0, 1, 2, 1, 3]))
    >>> tree.probabilities(np.zeros((2, 2))).round(6)
    array([0.5 , 0.25, 0.25])
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        found: dict[tuple[int, ...], int] = {}
        whole = [tuple(sequence) for sequence in sequences]
        self.symbols = 1 + max((token for sequence in whole for token in sequence), default=-1)
        """V, symbols."""
        rows = [found.setdefault(sequence[:place], len(found)) for sequence in whole for place in range(len(sequence))]
        self.rows = len(found)
        """R, prefixes that go on."""
        self.lengths: Int64[np.ndarray, " N"] = frozen([len(sequence) for sequence in whole], np.int64)
        """[N] tokens of each sequence."""
        self.starts: Int64[np.ndarray, " N+1"] = frozen(np.cumsum([0, *self.lengths.tolist()]), np.int64)
        """[N + 1] first token of each sequence, and X."""
        self.row_of_token: Int64[np.ndarray, " X"] = frozen(rows, np.int64)
        """[X] row of the prefix before each token."""
        self.ids: Int64[np.ndarray, " X"] = frozen([token for sequence in whole for token in sequence], np.int64)
        """[X] all tokens, end to end."""
        edges = len(set(zip(rows, self.ids.tolist(), strict=True)))
        closed = len(set(whole)) == len(whole) == 1 + self.rows * (self.symbols - 1)
        if not edges == self.rows * self.symbols > 0 or not closed or set(whole) & set(found):
            told = f"{len(whole)} sequences are not all that {self.symbols} symbols can write"
            raise UsageError(f"{told}: give the ends of a tree in which every prefix goes on with every symbol")

    @property
    def edges(self) -> Int64[np.ndarray, " X"]:
        """[X] row * V + id: tokens of equal edges are the same choice in the same place."""
        return self.row_of_token * self.symbols + self.ids

    @property
    def owner(self) -> Int64[np.ndarray, " X"]:
        """[X] sequence of each token."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def logprobs(self, logits: Float64[np.ndarray, "R V"]) -> Float64[np.ndarray, " X"]:
        """[X] log probability in nats of each token after the tokens before it."""
        return log_softmax(logits)[self.row_of_token, self.ids]

    def log_probabilities(self, logits: Float64[np.ndarray, "R V"]) -> Float64[np.ndarray, " N"]:
        """[N] log probability in nats of each whole sequence."""
        return np.bincount(self.owner, weights=self.logprobs(logits), minlength=len(self.lengths))

    def probabilities(self, logits: Float64[np.ndarray, "R V"]) -> Float64[np.ndarray, " N"]:
        """[N] probability of each whole sequence; they add up to 1."""
        return np.exp(self.log_probabilities(logits))

    def gradient(
        self, logits: Float64[np.ndarray, "R V"], advantages: Float64[np.ndarray, " X"]
    ) -> Float64[np.ndarray, "R V"]:
        """Expected policy gradient: sum over sequences of p(sequence) * sum over tokens of A * grad log p(token).

        Args:
            logits: the policy.
            advantages: [X] what is paid for each token of each sequence; the whole reward of the sequence on all of its
                tokens gives the gradient of the expected reward.

        Returns:
            [R, V] gradient with respect to the logits.
        """
        return self.of_edges(logits, self.on_edges(self.probabilities(logits)[self.owner] * advantages))

    def on_edges(self, column: Float64[np.ndarray, " X"]) -> Float64[np.ndarray, "R V"]:
        """[R, V] a column's sum over the tokens of each edge."""
        return np.bincount(self.edges, weights=column, minlength=self.rows * self.symbols).reshape(-1, self.symbols)

    def of_edges(
        self, logits: Float64[np.ndarray, "R V"], paid: Float64[np.ndarray, "... R V"]
    ) -> Float64[np.ndarray, "... R V"]:
        """Gradient of the sum over edges of `paid * log p(edge)`: paid less p times what its row is paid in all."""
        return paid - np.exp(log_softmax(logits)) * paid.sum(-1, keepdims=True)

    def values(
        self, logits: Float64[np.ndarray, "R V"], rewards: Float64[np.ndarray, " N"]
    ) -> tuple[Float64[np.ndarray, " R"], Float64[np.ndarray, "R V"]]:
        """[R] expected reward before each choice, and [R, V] after each: V and Q of the policy."""
        mass = self.on_edges(self.probabilities(logits)[self.owner])
        paid = self.on_edges((self.probabilities(logits) * rewards)[self.owner])
        return paid.sum(1) / mass.sum(1), paid / mass


def log_softmax(logits: Float64[np.ndarray, "R V"]) -> Float64[np.ndarray, "R V"]:
    """[R, V] log probabilities of each row.

    >>> log_softmax(np.zeros((1, 2))).round(4)
    array([[-0.6931, -0.6931]])
    """
    top = logits - logits.max(-1, keepdims=True)
    return top - np.log(np.exp(top).sum(-1, keepdims=True))


def cosine(one: Float64[np.ndarray, "..."], other: Float64[np.ndarray, "..."]) -> float:
    """Cosine between two gradients of one shape; NaN if one of them is 0.

    >>> round(cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])), 4)
    0.7071
    """
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size else float("nan")

"""A tabular bigram policy with sampler, scorer and learner: a whole training loop in numpy, for tests of drivers.

The next token depends on the token before it alone: `log p(v | u) = log softmax(logits[u])[v]`.
"""

import io
import zipfile
from typing import final

import numpy as np
from jaxtyping import Float32, Float64, Int32

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError
from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Completion, Sampling
from stepcredit.core.records import Update
from stepcredit.core.seeds import derive


@final
class TabularPolicy:
    """The weights: a [V, V] table of logits, shared by the sampler that draws and the learner that changes them.

    Args:
        size: V, tokens of the vocabulary.
        seed: of the initial logits.
        spread: standard deviation of the initial logits; 0 starts uniform.
    """

    def __init__(self, size: int, *, seed: int = 0, spread: float = 0.1) -> None:
        generator = np.random.default_rng(derive(seed, "tabular", size))
        self.logits = (spread * generator.standard_normal((size, size))).astype(np.float64)

    @property
    def size(self) -> int:
        """V, tokens of the vocabulary."""
        return len(self.logits)

    @property
    def fingerprint(self) -> str:
        """Digest of the logits."""
        return digest("TabularPolicy", self.logits)

    def logprobs(self) -> Float64[np.ndarray, "V V"]:
        """[V, V] log probability in nats of each next token (column) after each token (row)."""
        top = self.logits.max(axis=1, keepdims=True)
        return self.logits - top - np.log(np.exp(self.logits - top).sum(axis=1, keepdims=True))

    def check(self, ids: Int32[np.ndarray, " X"]) -> None:
        """Raise if an id is outside the vocabulary.

        Raises:
            EngineError: names the id.
        """
        if len(ids) and (ids.min() < 0 or ids.max() >= self.size):
            raise EngineError(f"id {int(ids.max())} is outside the vocabulary of {self.size} tokens")


@final
class ScriptedSampler:
    """Implements `core.protocols.Sampler` on a table; equal seeds give equal completions.

    Args:
        policy: the weights, read at each call.
    """

    def __init__(self, policy: TabularPolicy) -> None:
        self._policy = policy

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that would write now."""
        return self._policy.fingerprint

    async def sample(self, prompt_ids: Int32[np.ndarray, " P"], sampling: Sampling, *, seed: int) -> Completion:
        """Write one completion.

        Raises:
            EngineError: for an empty prompt or an id outside the vocabulary.
        """
        prompt = np.asarray(prompt_ids, np.int32)
        self._policy.check(prompt)
        if not len(prompt):
            raise EngineError("the prompt is empty: a bigram needs a token to start from")
        table, generator = self._policy.logprobs(), np.random.default_rng(derive(seed, "sample"))
        ids: list[int] = []
        last, stopped = int(prompt[-1]), False
        while len(ids) < sampling.max_tokens and not stopped:
            last = _draw(table[last], sampling, generator)
            ids.append(last)
            stopped = last in sampling.stop_ids
        before = [int(prompt[-1]), *ids[:-1]]
        found = table[before, ids] if ids else np.zeros(0)
        written = np.array(ids, np.int32)
        return Completion(written, found.astype(np.float32), "stop" if stopped else "length", self.fingerprint)


@final
class ScriptedScorer:
    """Implements `core.protocols.Scorer` on a table.

    Args:
        policy: the weights, read at each call.
    """

    def __init__(self, policy: TabularPolicy) -> None:
        self._policy = policy

    async def score(self, ids: Int32[np.ndarray, " X"], *, first: int) -> Float32[np.ndarray, " Y"]:
        """[X - first] log probability in nats of `ids[first:]`; `first >= 1`.

        Raises:
            EngineError: if `first` is outside 1..X, or an id outside the vocabulary.
        """
        given = np.asarray(ids, np.int32)
        self._policy.check(given)
        if not 1 <= first <= len(given):
            raise EngineError(f"first must be in 1..{len(given)}, got {first}")
        return self._policy.logprobs()[given[first - 1 : -1], given[first:]].astype(np.float32)


@final
class ScriptedLearner:
    """Implements `core.protocols.Learner` on a table: clipped policy gradient by plain gradient ascent.

    The loss is `-sum(min(w A, clip(w) A)) / trained tokens` with `w = exp(logprob - old_logprob)`, over the whole pack.

    Args:
        policy: the weights, changed in place by `update` and `load`.
        learning_rate: step size on the logits.
        clip: half-width of the ratio's clip range.
    """

    def __init__(self, policy: TabularPolicy, *, learning_rate: float = 1.0, clip: float = 0.2) -> None:
        self._policy, self._learning_rate, self._clip = policy, learning_rate, clip
        self._updates = 0

    @property
    def fingerprint(self) -> str:
        """Digest of the current weights."""
        return self._policy.fingerprint

    def logprobs(self, pack: Pack) -> Float32[np.ndarray, " X"]:
        """[X] log probability in nats of each trained token, NaN elsewhere."""
        places = _trained_places(pack, self._policy)
        found = np.full(len(pack.ids), np.nan, np.float32)
        found[places] = self._policy.logprobs()[pack.ids[places - 1], pack.ids[places]]
        return found

    def update(self, pack: Pack) -> Update:
        """One gradient step on the whole pack.

        Raises:
            EngineError: if a trained token has no old logprob or stands first in its sequence.
        """
        places = _trained_places(pack, self._policy)
        old = pack.old_logprobs[places].astype(np.float64)
        if np.isnan(old).any():
            raise EngineError("a trained token has no old logprob; recompute them with `logprobs` before `update`")
        before, ids, advantages = pack.ids[places - 1], pack.ids[places], pack.advantages[places].astype(np.float64)
        table = self._policy.logprobs()
        log_ratio = table[before, ids] - old
        ratio, low, high = np.exp(log_ratio), 1 - self._clip, 1 + self._clip
        cut_low, cut_high = (advantages < 0) & (ratio < low), (advantages > 0) & (ratio > high)
        loss = -np.minimum(ratio * advantages, np.clip(ratio, low, high) * advantages).mean()
        weight = np.where(cut_low | cut_high, 0.0, ratio * advantages) / len(places)
        gradient = np.zeros_like(self._policy.logits)
        np.add.at(gradient, (before, ids), weight)
        pushed = np.bincount(before, weights=weight, minlength=self._policy.size)
        gradient -= pushed[:, None] * np.exp(table)
        self._policy.logits = self._policy.logits + self._learning_rate * gradient
        self._updates += 1
        return Update(
            index=self._updates - 1,
            loss=float(loss),
            rollouts=pack.sequences,
            tokens=len(places),
            kl_k1=float(-log_ratio.mean()),
            kl_k3=float((np.expm1(log_ratio) - log_ratio).mean()),
            log_ratio_p99=float(np.quantile(np.abs(log_ratio), 0.99)),
            ess=float(ratio.sum() ** 2 / (len(ratio) * (ratio**2).sum())),
            clip_low=float(cut_low.mean()),
            clip_high=float(cut_high.mean()),
            entropy=float(-(np.exp(table) * table).sum(axis=1)[before].mean()),
            grad_norm=float(np.linalg.norm(gradient)),
            learning_rate=self._learning_rate,
        )

    def state(self) -> bytes:
        """Weights and counter; `load` goes on bit-identically from them."""
        buffer = io.BytesIO()
        np.savez(buffer, logits=self._policy.logits, updates=np.array(self._updates))
        return buffer.getvalue()

    def load(self, state: bytes) -> None:
        """Go back to a state.

        Raises:
            EngineError: if the bytes are not a state of a table of this size.
        """
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as archive:
                logits, updates = archive["logits"], int(archive["updates"])
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise EngineError(f"not a state of a tabular learner: {error}") from error
        if logits.shape != self._policy.logits.shape:
            got, want = logits.shape[0], self._policy.size
            raise EngineError(f"the state is of a vocabulary of {got} tokens, this learner has {want}")
        self._policy.logits, self._updates = logits, updates


def _draw(row: Float64[np.ndarray, " V"], sampling: Sampling, generator: np.random.Generator) -> int:
    if sampling.temperature == 0:
        return int(row.argmax())
    scaled = row / sampling.temperature
    chances = np.exp(scaled - scaled.max())
    chances /= chances.sum()
    order = np.argsort(-chances, kind="stable")
    # The nucleus: tokens whose more probable ones hold less than top_p together; the first is always in.
    chances[order[np.cumsum(chances[order]) - chances[order] >= sampling.top_p]] = 0.0
    return int(generator.choice(len(chances), p=chances / chances.sum()))


def _trained_places(pack: Pack, policy: TabularPolicy) -> np.ndarray:
    policy.check(pack.ids)
    places = np.flatnonzero(pack.trained)
    if (pack.positions[places] == 0).any():
        raise EngineError("a trained token stands first in its sequence: nothing comes before it to predict it from")
    return places

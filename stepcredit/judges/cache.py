"""Verdicts and replies kept by content: what a judge or a model said once is not asked again."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol, final
from weakref import WeakValueDictionary

from stepcredit.core.digests import digest
from stepcredit.core.errors import JudgeError
from stepcredit.core.protocols import ChatModel, Judge, Message, Reply, Scale
from stepcredit.core.rationales import Passage, Rationale, hearing, tell
from stepcredit.core.records import Label, Steps, Verdict


class VerdictCache(Protocol):
    """Bytes under content keys; the store keeps them in the ledger, `MemoryCache` in a dictionary."""

    def get(self, key: str) -> bytes | None:
        """The bytes under the key, `None` if it was never put."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep the bytes under the key."""
        ...

    def put_all(self, entries: Mapping[str, bytes]) -> None:
        """Keep the bytes under each key, all or none should the process end."""
        ...


@final
class MemoryCache:
    """A cache that lives as long as the process.

    >>> cache = MemoryCache()
    >>> cache.put("k", b"v")
    >>> cache.get("k"), cache.get("other")
    (b'v', None)
    """

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The bytes under the key, `None` if it was never put."""
        return self._kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep the bytes under the key; what is there already stays."""
        self._kept.setdefault(key, value)

    def put_all(self, entries: Mapping[str, bytes]) -> None:
        """Keep the bytes under each key; what is there already stays."""
        for key, value in entries.items():
            self.put(key, value)


def cache_key(steps: Steps, judge: str) -> str:
    """Key of a judgement: everything a judge may read of a solution, and who judges. Ids are no part of it.

    Args:
        steps: the cut rollout: problem text, outcome status and answer, step texts, answer block and closing count.
        judge: fingerprint of the judge.
    """
    outcome = steps.outcome
    read = (steps.rollout.problem.text, outcome.status, outcome.answer, outcome.reason, steps.texts)
    return "verdicts:" + digest(judge, read, steps.in_answer, steps.closed)


def encode(verdicts: tuple[Verdict, ...]) -> bytes:
    """Verdicts as JSON bytes; equal neighbours' fields are written out, nothing is lost.

    >>> decode(encode((Verdict(1.0, Label.CORRECT, "", ("c1",)), Verdict(reason="cut"))))[1].reason
    'cut'
    """
    rows = [[v.score, v.label, v.reason, v.calls] for v in verdicts]
    return json.dumps(rows, allow_nan=False).encode()


def decode(data: bytes) -> tuple[Verdict, ...]:
    """Verdicts from `encode`.

    Raises:
        ValueError: if the bytes are not such verdicts.
    """
    rows: list[list[Any]] = json.loads(data)
    return tuple(
        Verdict(score, None if label is None else Label(label), str(reason), tuple(calls))
        for score, label, reason, calls in rows
    )


def encode_rationales(said: Sequence[Rationale]) -> bytes:
    """Rationales as JSON bytes, nothing lost.

    >>> said = (Rationale("reply 1", 0, (1.0, None), (Passage("written", "so", 1),), "boxed 1"),)
    >>> decode_rationales(encode_rationales(said)) == said
    True
    """
    rows = [
        [r.name, r.first, r.scores, [[p.kind, p.text, p.step, p.status] for p in r.passages], r.verdict, r.status]
        for r in said
    ]
    return json.dumps(rows, allow_nan=False).encode()


def decode_rationales(data: bytes) -> tuple[Rationale, ...]:
    """Rationales from `encode_rationales`.

    Raises:
        ValueError, TypeError: if the bytes are not such rationales.
    """
    rows: list[list[Any]] = json.loads(data)
    return tuple(
        Rationale(name, first, tuple(scores), tuple(Passage(*part) for part in passages), verdict, status)
        for name, first, scores, passages, verdict, status in rows
    )


@final
class CachedJudge:
    """Asks the judge once for each content; equal solutions judged at the same time wait for the first.

    A judgement in which every verdict is unknown is not kept: a failure today may be read tomorrow. What the judge
    told of a judgement that is kept is kept beside it and told again; a cache that was filled before this was so gives
    the verdicts alone.

    Args:
        judge: who is asked; deterministic for a given fingerprint, or taken to be.
        cache: where verdicts are kept.
    """

    def __init__(self, judge: Judge, cache: VerdictCache) -> None:
        self._judge = judge
        self._cache = cache
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.hits = 0
        self.misses = 0

    @property
    def fingerprint(self) -> str:
        """That of the judge: a cache changes no verdict."""
        return self._judge.fingerprint

    @property
    def scale(self) -> Scale:
        """That of the judge."""
        return self._judge.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts, from the cache if they are there.

        Raises:
            JudgeError: if the judge failed, or the cache holds something else under this key.
        """
        key = cache_key(steps, self.fingerprint)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            kept = self._cache.get(key)
            if kept is not None:
                self.hits += 1
                verdicts = _read(kept, steps, key)
                tell(_read_rationales(self._cache.get(_beside(key)), steps, _beside(key)))
                return verdicts
            self.misses += 1
            with hearing() as said:
                verdicts = await self._judge.judge(steps)
            if any(verdict.known for verdict in verdicts):
                texts = {_beside(key): encode_rationales(said)} if said else {}
                self._cache.put_all({key: encode(verdicts), **texts})
            tell(said)
            return verdicts


def _beside(key: str) -> str:
    """Key of the rationales of the judgement under a key."""
    return key.replace("verdicts:", "rationales:", 1)


def _read_rationales(kept: bytes | None, steps: Steps, key: str) -> tuple[Rationale, ...]:
    try:
        return () if kept is None else decode_rationales(kept)
    except (ValueError, TypeError) as error:
        raise JudgeError(f"the cache entry {key} is damaged; remove it to have none", item=steps.rollout.id) from error


@final
class CachedChat:
    """Asks the model once for each question and seed; implements `core.protocols.ChatModel`.

    For judges whose verdict takes many replies: one that was interrupted goes on where it stopped.

    Args:
        model: who is asked.
        cache: gives the cache where replies are kept, asked at each call.
    """

    def __init__(self, model: ChatModel, cache: Callable[[], VerdictCache]) -> None:
        self._model, self._cache = model, cache

    @property
    def fingerprint(self) -> str:
        """That of the model: a cache changes no reply."""
        return self._model.fingerprint

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> Reply:
        """The reply, from the cache if it is there; raises as the model, and JudgeError if the entry is damaged."""
        key = "reply:" + digest(self.fingerprint, list(messages), max_tokens, temperature, seed)
        kept = self._cache().get(key)
        if kept is not None:
            try:
                return Reply(**json.loads(kept))
            except (ValueError, TypeError) as error:
                raise JudgeError(f"the cache entry {key} is damaged; remove it to ask again") from error
        reply = await self._model.complete(messages, max_tokens=max_tokens, temperature=temperature, seed=seed)
        self._cache().put(key, json.dumps(asdict(reply)).encode())
        return reply


def _read(kept: bytes, steps: Steps, key: str) -> tuple[Verdict, ...]:
    try:
        verdicts = decode(kept)
    except (ValueError, TypeError) as error:
        raise JudgeError(
            f"the cache entry {key} is damaged; remove it to judge again", item=steps.rollout.id
        ) from error
    if len(verdicts) != len(steps):
        message = f"the cache entry {key} has {len(verdicts)} verdicts for {len(steps)} steps; remove it"
        raise JudgeError(message, item=steps.rollout.id)
    return verdicts

"""The codec: every record comes back equal in every field and digest."""

import math
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.digests import digest
from stepcredit.core.errors import StoreError
from stepcredit.core.protocols import Completion, Message, Reply, Sampling
from stepcredit.core.records import (
    Credit,
    Failure,
    Group,
    Judgement,
    Label,
    Outcome,
    Prefix,
    Problem,
    Rollout,
    Steps,
    Update,
    Verdict,
)
from stepcredit.store.codec import decode, dump, encode, load, record_id


def chain(tokens: int = 5, *, text: str = "abcde", logprobs: bool = True) -> Credit:
    ids = np.arange(tokens) * 1001
    rollout = Rollout(
        id="r1",
        problem=Problem("p1", "1 + 1 = é\ud800", None, "set"),
        group="g1",
        sample=3,
        text=text,
        prompt_ids=[7, 8],
        completion_ids=ids,
        char_starts=np.arange(tokens),
        sampler_logprobs=np.full(tokens, -0.1) if logprobs else None,
        finish="length",
        policy="abc",
        prefix=Prefix("r0", 2),
    )
    outcome = Outcome(rollout, "unscorable", None, "no reference")
    steps = Steps(outcome, [0, 2], "paragraph", [False, True], closed=True, form="r1")
    verdicts = (Verdict(0.1 + 0.2, Label.MISMATCHED, "because", ("c1", "c2")), Verdict(reason="no box"))
    judgement = Judgement(steps, verdicts, "judge")
    thoughts = Steps(outcome, [0], "thought", [False], closed=True)
    advantages = np.array([math.nan, math.inf, -0.0, 1e-30, 1 / 3][:tokens], np.float32)
    return Credit(thoughts, judgement, advantages, "tp_grpo", ("outcome", "flags"), "digest", kept=False, note="n")


def same(a: object, b: object) -> None:
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
        assert not b.flags.writeable
    elif is_dataclass(a):
        for field in fields(a):
            same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            same(left, right)
    elif isinstance(a, float) and math.isnan(a):
        assert math.isnan(b)
    else:
        assert a == b


def test_a_whole_chain_comes_back_with_its_digest():
    credit = chain()
    back = load(dump(credit))
    same(credit, back)
    assert digest(back) == digest(credit)
    # the outcome met twice is one object again
    assert back.steps.outcome is back.judgement.steps.outcome


def test_long_arrays_are_compressed_and_exact():
    credit = chain()
    steps = credit.steps
    big = Completion(np.arange(10_000), np.linspace(-5, 0, 10_000), "stop", "p")
    same(big, load(dump(big)))
    assert len(dump(Completion(np.zeros(10_000), None, "stop", "p"))) < 1000
    assert steps.unit == "thought"


@pytest.mark.parametrize(
    "record",
    [
        Update(3, math.nan, 8, 100, 0.1, 0.2, math.inf, 0.9, 0.0, 0.1, -math.inf, 1.0, 1e-3, "nan loss"),
        Failure("g", 1, "server gone"),
        Message("user", "hi"),
        Reply("text", "stop", "c1", "m", 3, None),
        Sampling(10, temperature=0.0, stop_ids=(1, 2)),
        Verdict(score=0.0),
        Verdict(label=Label.CORRECT),
    ],
)
def test_other_records(record: object):
    same(record, load(dump(record)))


def test_groups():
    outcome = chain().steps.outcome
    group = Group("g1", (outcome,), (Failure("g1", 0, "x"),))
    back = load(dump(group))
    same(group, back)
    assert back.digest == group.digest


def test_empty_completion():
    rollout = Rollout("r", Problem("p", "t", ""), "g", 0, "", [1], [], [])
    steps = Steps(Outcome(rollout, "wrong"), [], "line", [], closed=False)
    same(steps, load(dump(steps)))


def test_numpy_scalars_are_read_as_numbers():
    back = load(dump(Verdict(score=np.float64(0.25))))  # what a judge on arrays may hand over
    assert back.score == 0.25


def test_references_are_resolved():
    credit = chain()
    judgement = credit.judgement
    assert judgement is not None
    known = {("Steps", record_id(judgement.steps)): judgement.steps}
    data = dump(judgement, nested=False)
    assert len(data) < len(dump(judgement)) / 2
    back = load(data, resolve=lambda kind, name: known[kind, name])
    assert back.steps is judgement.steps
    same(back, judgement)
    assert record_id(judgement) == "r1/paragraph/judge"
    with pytest.raises(StoreError, match=r"refers to Steps r1/paragraph, and decode\(\) was given no resolve"):
        load(data)


@settings(deadline=None)
@given(
    st.builds(
        Verdict,
        score=st.none() | st.floats(),
        label=st.none() | st.sampled_from(Label),
        reason=st.text(st.characters(exclude_categories=[]), max_size=5),  # lone surrogates too
        calls=st.lists(st.text(max_size=3), max_size=3).map(tuple),
    )
)
def test_any_verdict_comes_back(verdict: Verdict):
    same(verdict, load(dump(verdict)))


def test_equal_verdicts_are_written_alike_whether_they_are_one_object_or_many():
    """A judge whose answers come back from the cache makes its verdicts anew."""
    judgement = chain().judgement
    assert judgement is not None

    def written(*verdicts: Verdict) -> bytes:
        return dump(replace(judgement, verdicts=verdicts))

    one = Verdict(score=0.0, reason="after the first error")
    assert written(one, one) == written(one, replace(one))
    assert b'"same"' in written(one, replace(one))
    assert written(one, one) != written(one, replace(one, score=-0.0))
    same(load(written(one, replace(one))), load(written(one, one)))


def test_what_cannot_be_read_is_said():
    with pytest.raises(StoreError, match="no record called dict"):
        encode({})
    with pytest.raises(StoreError, match="codec 2, this stepcredit reads 1; upgrade"):
        decode({"codec": 2, "$": "Problem"})
    with pytest.raises(StoreError, match="damaged"):
        decode({"codec": 1, "$": "Nonsense"})
    with pytest.raises(StoreError, match="damaged"):
        decode({"codec": 1, "$": "Problem", "id": "p", "unheard": 1})
    with pytest.raises(StoreError, match="not JSON"):
        load(b"{")
    body = encode(Completion(np.arange(500), None, "stop", "p"))
    body["ids"]["data"] = body["ids"]["data"][:-8]
    with pytest.raises(StoreError, match="damaged"):
        decode(body)

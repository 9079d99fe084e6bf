import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.replies import (
    Matches,
    Reflection,
    Reflections,
    Reject,
    RejectReason,
    Tiling,
    Trace,
    TracedVerification,
    Verification,
)
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    ReflectTask,
    SplitTask,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)

STEPS = ("x is  4", "so y = 8", "half is 4", "wait, x is 5")
SPLIT = SplitTask("p", STEPS)
REFLECT = ReflectTask("p", STEPS)
TRACE = TraceTask("p", STEPS)
VERIFY = VerifyTask("p", STEPS, 1, "so y = 8")
BOTH = TraceVerifyTask("p", STEPS)
MATCH = MatchTask("p", STEPS, ("5",))
TASKS = (SPLIT, REFLECT, TRACE, VERIFY, BOTH, MATCH)


def reason(task, text):
    result = parse(task, text)
    assert isinstance(result, Reject), result
    assert result.detail
    return result.reason


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        (SPLIT, Tiling(((0, 1), (2, 3)))),
        (REFLECT, Reflections((Reflection(0, "confirm"), Reflection(3, "error")))),
        (REFLECT, Reflections(())),
        (TRACE, Trace(0, "x is 4")),
        (TRACE, Trace(2, "x is 5")),
        (TRACE, Trace(None, "")),
        (VERIFY, Verification((True, False))),
        (BOTH, TracedVerification(1, "y = 8", (True, True))),
        (BOTH, TracedVerification(None, "nothing said", ())),
        (MATCH, Matches((True, False, False, True))),
    ],
)
def test_what_is_written_is_read_back(task, answer):
    assert parse(task, answer.write()) == answer
    assert parse(task, f"\n {answer.write()}\n") == answer


def test_reflections_come_in_order_of_their_steps():
    text = '{"reflections": [{"kind": "error", "step": 3}, {"step": 1, "kind": "confirm"}]}'
    assert parse(REFLECT, text) == Reflections((Reflection(1, "confirm"), Reflection(3, "error")))
    assert Reflections((Reflection(1, "confirm"), Reflection(3, "error"))).errors == (3,)


def test_a_reader_may_go_through_all_steps_and_give_its_grounds():
    entries = [{"step": k, "because": f"step {k}", "kind": "none"} for k in range(4)]
    entries[2]["kind"] = "error"
    assert parse(REFLECT, json.dumps({"reflections": entries})) == Reflections((Reflection(2, "error"),))
    entries = [{"step": k, "because": "", "verdict": "no"} for k in range(4)]
    assert parse(MATCH, json.dumps({"matches": entries})) == Matches((False,) * 4)
    entries[1]["because"] = None
    assert reason(MATCH, json.dumps({"matches": entries})) == RejectReason.WRONG_TYPE


def matches(*verdicts):
    return json.dumps({"matches": [{"step": k, "verdict": verdict} for k, verdict in enumerate(verdicts)]})


@pytest.mark.parametrize(
    ("task", "text", "expected"),
    [
        (MATCH, "", RejectReason.NOT_JSON),
        (MATCH, "The matches are: {}", RejectReason.NOT_JSON),
        (MATCH, f"```json\n{matches(*['no'] * 4)}\n```", RejectReason.NOT_JSON),
        (MATCH, matches(*["no"] * 4) + ' {"matches": []}', RejectReason.NOT_JSON),
        (MATCH, matches(*["no"] * 4)[:-2], RejectReason.NOT_JSON),
        (MATCH, '{"matches": NaN}', RejectReason.NOT_JSON),
        (MATCH, "[" * 100_000, RejectReason.NOT_JSON),
        (MATCH, "9" * 5_000, RejectReason.NOT_JSON),
        (MATCH, '["no", "no", "no", "no"]', RejectReason.NOT_AN_OBJECT),
        (MATCH, "null", RejectReason.NOT_AN_OBJECT),
        (MATCH, "{}", RejectReason.WRONG_KEYS),
        (MATCH, '{"match": ["no", "no", "no", "no"]}', RejectReason.WRONG_KEYS),
        (MATCH, '{"matches": ["no", "no", "no", "no"], "why": ""}', RejectReason.WRONG_KEYS),
        (MATCH, '{"matches": [], "matches": ["no", "no", "no", "no"]}', RejectReason.WRONG_KEYS),
        (MATCH, '{"matches": "no"}', RejectReason.WRONG_TYPE),
        (MATCH, '{"matches": ["no", "no", "no", "no"]}', RejectReason.NOT_AN_OBJECT),
        (MATCH, '{"matches": [{"step": 0}]}', RejectReason.WRONG_KEYS),
        (MATCH, '{"matches": [{"step": 0, "verdict": "no", "why": ""}]}', RejectReason.WRONG_KEYS),
        (MATCH, '{"matches": [{"step": 0, "because": "", "kind": "no"}]}', RejectReason.WRONG_KEYS),
        (MATCH, matches("no", "no", "no", "No"), RejectReason.UNKNOWN_WORD),
        (MATCH, matches(True, False, True, True), RejectReason.UNKNOWN_WORD),
        (MATCH, matches(["match"], "no", "no", "no"), RejectReason.UNKNOWN_WORD),
        (MATCH, matches("no", "no", "no"), RejectReason.WRONG_COUNT),
        (MATCH, matches("no", "no", "no", "no", "no"), RejectReason.UNKNOWN_INDEX),
        (MATCH, '{"matches": [{"step": 1, "verdict": "no"}]}', RejectReason.WRONG_ORDER),
        (MATCH, '{"matches": [{"step": 0, "verdict": "no"}, {"step": 0, "verdict": "no"}]}', RejectReason.WRONG_ORDER),
        (MATCH, '{"matches": [{"step": "0", "verdict": "no"}]}', RejectReason.WRONG_TYPE),
        (VERIFY, '{"verdicts": ["wrong", "right", "right"]}', RejectReason.WRONG_COUNT),
        (VERIFY, '{"verdicts": ["wrong", "match"]}', RejectReason.UNKNOWN_WORD),
        (REFLECT, '{"reflections": [{"step": 4, "kind": "error"}]}', RejectReason.UNKNOWN_INDEX),
        (REFLECT, '{"reflections": [{"step": -1, "kind": "error"}]}', RejectReason.UNKNOWN_INDEX),
        (REFLECT, f'{{"reflections": [{{"step": {"9" * 4000}, "kind": "error"}}]}}', RejectReason.UNKNOWN_INDEX),
        (REFLECT, '{"reflections": [{"step": 1.0, "kind": "error"}]}', RejectReason.WRONG_TYPE),
        (REFLECT, '{"reflections": [{"step": true, "kind": "error"}]}', RejectReason.WRONG_TYPE),
        (REFLECT, '{"reflections": [{"step": "1", "kind": "error"}]}', RejectReason.WRONG_TYPE),
        (REFLECT, '{"reflections": [{"step": 1, "kind": "mistake"}]}', RejectReason.UNKNOWN_WORD),
        (REFLECT, '{"reflections": [{"step": 1, "kind": ["error"]}]}', RejectReason.UNKNOWN_WORD),
        (REFLECT, '{"reflections": [{"step": 1}]}', RejectReason.WRONG_KEYS),
        (REFLECT, '{"reflections": [1]}', RejectReason.NOT_AN_OBJECT),
        (
            REFLECT,
            '{"reflections": [{"step": 1, "kind": "error"}, {"step": 1, "kind": "confirm"}]}',
            RejectReason.REPEATED_INDEX,
        ),
        (TRACE, '{"source": 3, "evidence": "x is 5"}', RejectReason.LATE_SOURCE),
        (TRACE, '{"source": 4, "evidence": "x is 5"}', RejectReason.UNKNOWN_INDEX),
        (TRACE, '{"source": 0, "evidence": "x is 7"}', RejectReason.ABSENT_EVIDENCE),
        (TRACE, '{"source": 0, "evidence": " "}', RejectReason.ABSENT_EVIDENCE),
        (TRACE, '{"source": 0, "evidence": null}', RejectReason.WRONG_TYPE),
        (TRACE, '{"source": 0}', RejectReason.WRONG_KEYS),
        (BOTH, '{"source": 1, "evidence": "y = 8", "verdicts": ["wrong"]}', RejectReason.WRONG_COUNT),
        (BOTH, '{"source": null, "evidence": "", "verdicts": ["wrong"]}', RejectReason.WRONG_COUNT),
        (SPLIT, '{"steps": [[0, 1], [3, 3]]}', RejectReason.NOT_A_TILING),
        (SPLIT, '{"steps": [[0, 1], [1, 3]]}', RejectReason.NOT_A_TILING),
        (SPLIT, '{"steps": [[0, 2]]}', RejectReason.NOT_A_TILING),
        (SPLIT, '{"steps": [[0, 4]]}', RejectReason.NOT_A_TILING),
        (SPLIT, '{"steps": []}', RejectReason.NOT_A_TILING),
        (SPLIT, '{"steps": [[0]]}', RejectReason.WRONG_TYPE),
        (SPLIT, '{"steps": [[0, "3"]]}', RejectReason.WRONG_TYPE),
        (SPLIT, '{"steps": {"0": 3}}', RejectReason.WRONG_TYPE),
    ],
)
def test_every_fault_has_its_name(task, text, expected):
    assert reason(task, text) == expected


def test_a_reject_says_what_was_wanted():
    assert str(parse(VERIFY, '{"verdicts": ["wrong"]}')) == "wrong count: 1 verdicts for 2 steps"
    assert str(parse(TRACE, '{"source": 3, "evidence": "x"}')) == (
        "source not before the reflection: source 3, reflection 3"
    )
    assert str(parse(SPLIT, '{"steps": [[0, 1], [3, 3]]}')) == "not a tiling: range [3, 3] where 2 must begin"
    assert len(str(parse(MATCH, "x" * 10_000))) < 250


@settings(deadline=None)
@given(st.sampled_from(TASKS), st.text(max_size=200))
def test_no_text_raises(task, text):
    assert isinstance(parse(task, text), Reject)


WORDS = st.sampled_from(["wrong", "match", "no", "error", "y = 8", "step", "source", "verdict", "kind", "because", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 6) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)
KEYS = st.sampled_from(["steps", "reflections", "source", "evidence", "verdicts", "matches"])


@settings(deadline=None)
@given(st.sampled_from(TASKS), st.dictionaries(KEYS, VALUES, max_size=3))
def test_no_json_raises_and_what_is_taken_fits_the_task(task, fields):
    result = parse(task, json.dumps(fields))
    if isinstance(result, Matches):
        assert len(result.matched) == len(STEPS)
        assert ["match" if yes else "no" for yes in result.matched] == [e["verdict"] for e in fields["matches"]]
    elif isinstance(result, Trace | TracedVerification):
        assert result.source is None or 0 <= result.source < 3
    elif not isinstance(result, Reject):
        assert json.loads(result.write()).keys() == fields.keys()


@settings(deadline=None)
@given(st.data())
def test_any_tiling_is_taken_and_any_other_list_of_ranges_is_not(data):
    cuts = sorted(data.draw(st.sets(st.integers(1, 3))))
    bounds = [0, *cuts, 4]
    ranges = [[a, b - 1] for a, b in itertools.pairwise(bounds)]
    assert isinstance(parse(SPLIT, json.dumps({"steps": ranges})), Tiling)
    k = data.draw(st.integers(0, len(ranges) - 1))
    ranges[k][data.draw(st.integers(0, 1))] += data.draw(st.sampled_from([-1, 1]))
    assert isinstance(parse(SPLIT, json.dumps({"steps": ranges})), Reject)

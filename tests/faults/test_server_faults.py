"""A walk against a server on bad days: the same verdicts, or one line and the right exit code.

Statuses, waits, hangs and broken connections one by one: `tests/engines/server/test_faults.py`.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from garbage import corpus, odd_beside_a_good_answer
from killing import show
from recorded_cases import PROBLEM, RIGHT, Heard, call, row, write_rows

from stepcredit.core.errors import ChangedModelError, PartialError
from stepcredit.core.protocols import Message
from stepcredit.recipes.recorded import RecordedResult, RecordedSettings, run_recorded
from stepcredit.recipes.session import read_session
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Asked, Fault, Manners, ScriptedServer, ScriptedTokenizer, TabularPolicy, random_faults

QUICK = ("checker.mode=string", "server.backoff_s=0.001", "server.backoff_cap_s=0.002", "server.max_tries=20")
WORDS = ("<eos>", "a", "b", "c", "d")
FAILURES = [Fault("status", status=status) for status in (500, 502, 503)] + [Fault("reset"), Fault("cut")]


def short_rows(file: Path, count: int) -> Path:
    """Solutions of two steps that all differ."""
    texts = (f"Two and {k} make {k + 2}.\n\nThe answer is \\boxed{{{k + 2}}}." for k in range(count))
    return write_rows(file, *(row(text, name=f"s{k}", answer=str(k + 2)) for k, text in enumerate(texts)))


def by_number(messages: Sequence[Message]) -> str:
    """A critic whose verdict depends on the solution."""
    found = re.search(r"Two and (\d+)", messages[-1].content)
    return f"Well. \\boxed{{{int(found[1]) % 3 - 1}}}" if found else "?"


def judged(file: Path, out: Path, server: ScriptedServer, *more: str, heard: Heard | None = None) -> RecordedResult:
    settings = RecordedSettings(
        out, "critic", until="judge", server=server.url, model="scripted", overrides=(*QUICK, *more)
    )
    return run_recorded(file, settings, verb="judge", progress=heard)


def chats(choose: Callable[[Asked], Fault | None]) -> Callable[[Asked], Fault | None]:
    return lambda asked: choose(asked) if asked.route == "chat/completions" else None


@pytest.mark.parametrize("calls", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_thirty_percent_failures_give_the_same_verdicts_as_none(calls: int, tmp_path: Path) -> None:
    file = short_rows(tmp_path / "x.jsonl", calls)
    found = []
    for rate in (0.0, 0.3):
        with ScriptedServer(reply=by_number, faults=chats(random_faults(rate, 7, faults=FAILURES))) as server:
            result = judged(file, tmp_path / f"run{rate}", server)
            asked = sum(one.route == "chat/completions" for one in server.asked)
        assert result.summary["coverage"] == {
            "asked": calls,
            "answered": calls,
            "unknown": 0,
            "failed": 0,
            "quarantined": 0,
        }
        found.append([judgement.verdicts for judgement in result.judgements])
        show(f"{calls} calls at {rate:.0%}: {asked} requests, {result.summary['calls']['errors']}")
    assert found[0] == found[1]
    assert asked > 1.3 * calls


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault("status", status=400, body=b'{"error": "no such parameter"}'), "refuses chat/completions .400: no such"),
        (Fault("status", status=401), "the server refuses the key .401.; set the environment variable"),
        (Fault("status", status=404, body=b'{"message": "gone"}'), "no route chat/completions or no model 'scripted'"),
        (
            Fault("status", status=400, body=b'{"message": "maximum context length is 9"}'),
            "do not fit .* lower max_tok",
        ),
    ],
)
def test_what_waiting_does_not_mend_ends_in_one_line(
    fault: Fault, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = short_rows(tmp_path / "x.jsonl", 3)
    words = ("--judge", "critic", "--model", "scripted", "--set", "checker.mode=string", "--out", tmp_path / "run")
    with ScriptedServer(faults=chats(lambda _asked: fault)) as server:
        assert call("judge", file, "--server", server.url, *words, "--set", "server.max_in_flight=1") == 2
        asked = [one for one in server.asked if one.route == "chat/completions"]
    errors = [said for said in capsys.readouterr().err.splitlines() if said.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(line, errors[0])
    assert len(asked) <= 2  # the next may be on its way when the refusal comes; neither is asked again
    assert {one.repeats for one in asked} == {0}
    note = read_session(tmp_path / "run")
    assert note is not None
    assert (note.ending, note.why) == ("failed", errors[0].removeprefix("error: "))


def test_two_hundred_garbage_bodies_are_never_a_score(tmp_path: Path) -> None:
    """Each solution meets one body, at every try."""
    bodies = corpus(200)
    file = short_rows(tmp_path / "x.jsonl", len(bodies))

    def garbage(asked: Asked) -> Fault:
        found = re.search(r"Two and (\d+)", asked.body["messages"][0]["content"])
        return Fault("body", body=bodies[int(found[1])] if found else b"")

    with ScriptedServer(faults=chats(garbage)) as server, pytest.raises(PartialError, match="the judge failed on 200"):
        judged(file, tmp_path / "run", server, "limits.stop_unknown=1")
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        assert ledger.count("judgement") == 0
        errors = {attempt.error for attempt in ledger.attempts() if attempt.route == "chat/completions"}
    assert errors == {"garbage", "ignored"}


def test_odd_fields_beside_a_good_answer_break_nothing(tmp_path: Path) -> None:
    bodies = odd_beside_a_good_answer()
    file = short_rows(tmp_path / "x.jsonl", len(bodies))

    def odd(asked: Asked) -> Fault:
        found = re.search(r"Two and (\d+)", asked.body["messages"][0]["content"])
        return Fault("body", body=bodies[int(found[1])] if found else b"")

    # Some are not even JSON to a strict reader: numbers beyond 64 bits, lone surrogates.
    with ScriptedServer(faults=chats(odd)) as server, suppress(PartialError):
        judged(file, tmp_path / "run", server, "limits.stop_unknown=1")
    told = read_json(tmp_path / "run", "summary.json")["coverage"]
    assert told["answered"] + told["failed"] == len(bodies)
    assert told["answered"] > 0.8 * len(bodies)
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        kept = [payload["verdicts"] for _, payload in ledger.items("judgement")]
    scores = [verdict["score"] for verdicts in kept for verdict in verdicts if verdict["$"] == "Verdict"]
    assert set(scores) == {1.0}


@pytest.mark.parametrize(("bad", "warned", "stopped"), [(1, False, False), (4, True, False), (12, True, True)])
def test_unreadable_replies_warn_and_then_stop(bad: int, warned: bool, stopped: bool, tmp_path: Path) -> None:
    """1, 4 and 12 of 100 replies hold no box: limits are 2 % and 10 %."""
    file, heard = short_rows(tmp_path / "x.jsonl", 100), Heard()

    def reply(messages: Sequence[Message]) -> str:
        found = re.search(r"Two and (\d+)", messages[-1].content)
        # The bad ones first, so that the limit is passed as soon as it is looked at.
        return "Hm." if found and int(found[1]) < bad else "\\boxed{-1}"

    def run() -> RecordedResult:
        return judged(file, tmp_path / "run", server, "server.max_in_flight=1", heard=heard)

    with ScriptedServer(reply=reply) as server:
        if stopped:
            with pytest.raises(
                PartialError, match=r"no readable reply \(2\d.\d%\).*the reply has no .*stop_unknown = 0.1"
            ):
                run()
            asked = sum(one.route == "chat/completions" for one in server.asked)
            assert asked < 100
            note = read_session(tmp_path / "run")
            assert note is not None
            assert note.ending == "partial"
            assert note.coverage["not yet"] > 0
        else:
            told = run().summary["coverage"]
            assert (told["answered"], told["unknown"]) == (100 - bad, bad)
    assert any(line.startswith("warning: ") for line in heard.lines) == warned


def scoring_server(policy: TabularPolicy, **more: object) -> ScriptedServer:
    return ScriptedServer(reply=by_number, policy=policy, tokenizer=ScriptedTokenizer(WORDS), **more)  # type: ignore[arg-type]


def test_another_model_after_a_restart_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the same name: after a broken connection the client looks at log probabilities of a few fixed tokens."""
    file = short_rows(tmp_path / "x.jsonl", 40)
    policy = TabularPolicy(len(WORDS), seed=4, spread=1.0)
    other = TabularPolicy(len(WORDS), seed=5, spread=1.0).logits

    def restart(asked: Asked) -> Fault | None:
        if asked.number == 20:
            policy.logits = other
            return Fault("reset")
        return None

    words = ("--judge", "critic", "--model", "scripted", "--set", "checker.mode=string", "--out", tmp_path / "run")
    with scoring_server(policy, faults=restart) as server:
        assert call("judge", file, "--server", server.url, *words, "--set", "server.max_in_flight=1") == 3
        asked = len(server.asked)
        said = capsys.readouterr().err
    assert "came back with other weights under the same name; start a new run" in said
    assert asked <= 30  # the broken one again, the look at the weights, and few that were on their way


def test_another_model_in_the_next_session_stops_the_run(tmp_path: Path) -> None:
    file = short_rows(tmp_path / "x.jsonl", 12)
    policy = TabularPolicy(len(WORDS), seed=4, spread=1.0)
    with scoring_server(policy) as server:
        words = ("judge", file, "--judge", "critic", "--server", server.url, "--model", "scripted")
        more = ("--set", "checker.mode=string", "--out", tmp_path / "run")
        assert call(*words, *more, "--max-calls", "6") == 4
        policy.logits = policy.logits + 0.01  # rounding, not another model
        assert call(*words, *more, "--max-calls", "10") == 4
        policy.logits = TabularPolicy(len(WORDS), seed=5, spread=1.0).logits
        with pytest.raises(ChangedModelError, match="other weights under its name than when this run began; serve"):
            judged(file, tmp_path / "run", server)


def test_another_name_in_an_answer_stops_the_run(tmp_path: Path) -> None:
    file = short_rows(tmp_path / "x.jsonl", 12)
    faults = [None, None, None, Fault("model", model="another")]
    with (
        ScriptedServer(reply=by_number, faults=faults) as server,
        pytest.raises(ChangedModelError, match="answers come from model 'another', not 'scripted'"),
    ):
        judged(file, tmp_path / "run", server, "server.max_in_flight=1")


def test_a_slow_server_and_votes_keep_each_problem_apart(tmp_path: Path) -> None:
    """Answers in any order: each verdict is that of its own solution."""
    file = short_rows(tmp_path / "x.jsonl", 30)
    with ScriptedServer(reply=by_number, manners=Manners(delay_s=0.002)) as server:
        result = judged(file, tmp_path / "run", server)
    firsts = [next((k for k, v in enumerate(j.verdicts) if v.score == 0.0), -1) for j in result.judgements]
    assert firsts == [k % 3 - 1 for k in range(30)]
    assert PROBLEM not in RIGHT

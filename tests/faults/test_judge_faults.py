"""Each judge that asks a server, on the server's bad days: nothing is lost, nothing made up, the right exit code.

What one call meets and how long it waits: `tests/engines/server/test_faults.py`; here a whole `stepcredit judge` does.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from intrinsic_cases import reads_like_markers
from recorded_cases import RIGHT, WRONG, call, row, write_rows
from tokenizers import Tokenizer
from writing_cases import model_folder, served

from stepcredit.core.protocols import Message
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Asked, Fault, Manners, ScriptedServer, TabularPolicy

JUDGES = ("thinkprm", "genprm", "discriminative", "critic", "step-critic", "intrinsic")
TOKEN_JUDGES = ("thinkprm", "genprm", "discriminative")
MARK = "<extra_0>"
Choose = Callable[[Asked], Fault | None]

MENDED = (
    Fault("status", status=429),
    Fault("status", status=429, headers={"Retry-After": "0.01"}),
    Fault("status", status=500, body=b"{}"),
    Fault("reset"),
    Fault("hang"),
    Fault("drip"),
    Fault("cut"),
    Fault("body", body=b"<html>502 Bad Gateway</html>"),
    Fault("body", body=b'{"model": "scripted", "choices": [{"mes'),
)
"""What a request meets at its first tries, in this order; then it is answered."""

LASTING = {
    "too many requests": Fault("status", status=429),
    "too many requests, with a wait": Fault("status", status=429, headers={"Retry-After": "0.01"}),
    "internal error": Fault("status", status=500, body=b"{}"),
    "hangs, then closes": Fault("hang", seconds=0.01),
    "half of an answer": Fault("cut"),
    "reset": Fault("reset"),
    "not JSON": Fault("body", body=b"<html>502 Bad Gateway</html>"),
    "NaN in place of every number": Fault("nan"),
    "no answer inside": Fault("body", body=b'{"model": "scripted", "choices": [], "data": []}'),
    "text that is no text": Fault("body", body=b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}'),
}
"""What every request about one solution meets, at every try: a solution each."""

QUICK = {"checker.mode": "string", "server.backoff_s": 0.001, "server.backoff_cap_s": 0.002, "limits.stop_unknown": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), words=(MARK,))


def solutions(file: Path, count: int) -> Path:
    """Solutions of as many problems, told apart in every prompt."""
    made = (row(WRONG if k % 2 else RIGHT, name=f"s{k}") for k in range(count))
    return write_rows(file, *({**one, "problem": f"{one['problem']} (case {k})"} for k, one in enumerate(made)))


def step_critic(_messages: Sequence[Message]) -> str:
    return "<verdicts>\n" + "".join(f"{k}: {'no' if k == 2 else 'yes'}\n" for k in range(4)) + "</verdicts>"


def critic(messages: Sequence[Message]) -> str:
    return f"So it is. \\boxed{{{2 if '= 20' in messages[-1].content else -1}}}"


CHATS = {"critic": critic, "step-critic": step_critic, "intrinsic": reads_like_markers}


def server_of(judge: str, model: Path, choose: Choose) -> ScriptedServer:
    """A server of the judge's model that is on its bad days where `choose` says so."""
    if judge in CHATS:
        return ScriptedServer(reply=CHATS[judge], faults=choose)
    if judge == "discriminative":
        size = Tokenizer.from_file(str(model / "tokenizer.json")).get_vocab_size()
        tokenizer = FileTokenizer.load(model)
        policy = TabularPolicy(size, seed=4, spread=1.0)
        return ScriptedServer(policy=policy, tokenizer=tokenizer, faults=choose, manners=Manners())
    return served(model, judge, faults=choose)


def words_of(judge: str, file: Path, out: Path, server: ScriptedServer, model: Path, **settings: Any) -> list[Any]:
    """`judge FILE` by the judge."""
    words: list[Any] = ["judge", file, "--judge", judge, "--server", server.url, "--model", "scripted", "--out", out]
    words += ["--tokenizer", model] if judge in TOKEN_JUDGES else []
    more = {"judge.variant": "each"} if judge == "step-critic" else {}
    given = {**QUICK, **more, **settings}
    return words + [word for key, value in given.items() for word in ("--set", f"{key}={value}")]


def about(tokenizer: FileTokenizer, asked: Asked) -> int | None:
    """Which solution a request is about; `None` for one about the server itself."""
    body = asked.body
    ids = body.get("prompt", body.get("input"))
    said = tokenizer.decode(ids) if isinstance(ids, list) else str(body.get("messages", ""))
    found = re.search(r"\(case (\d+)\)", said)
    return int(found[1]) if found else None


def verdicts(folder: Path) -> dict[str, Any]:
    """Score, label and reason of every step that was judged, by solution; the calls that gave them left out."""
    with Ledger(folder / "ledger.sqlite") as ledger:
        rows = {key.partition("/")[0]: payload["verdicts"] for key, payload in ledger.items("judgement")}
    return {name: [{**one, "calls": None} for one in steps] for name, steps in rows.items()}


@pytest.mark.parametrize("judge", JUDGES)
def test_what_a_request_meets_once_changes_no_verdict(judge: str, tmp_path: Path, model: Path) -> None:
    """Every request about one of three solutions meets all of it in turn; the first alone waits."""
    file, tokenizer = solutions(tmp_path / "x.jsonl", 3), FileTokenizer.load(model)
    slow: list[str] = []

    def bad(asked: Asked) -> Fault | None:
        fault = MENDED[asked.repeats] if about(tokenizer, asked) == 1 and asked.repeats < len(MENDED) else None
        if fault is not None and fault.kind in ("hang", "drip"):
            slow.append(fault.kind)
            return fault if slow.count(fault.kind) == 1 else Fault("status", status=503)
        return fault

    waits = {"server.first_byte_s": 0.5, "server.idle_s": 0.5, "server.max_tries": 40}
    with server_of(judge, model, lambda _asked: None) as server:
        assert call(*words_of(judge, file, tmp_path / "good", server, model)) == 0
    with server_of(judge, model, bad) as server:
        assert call(*words_of(judge, file, tmp_path / "bad", server, model, **waits)) == 0
    assert verdicts(tmp_path / "bad") == verdicts(tmp_path / "good")
    told = read_json(tmp_path / "bad", "summary.json")
    assert told["coverage"] == {"asked": 3, "answered": 3, "unknown": 0, "failed": 0, "quarantined": 0}
    assert {"http_429", "http_500", "first_byte", "cut", "garbage"} <= set(told["calls"]["errors"])
    assert set(slow) == {"hang", "drip"}


@pytest.mark.parametrize("judge", JUDGES)
def test_what_lasts_fails_its_solution_alone_and_the_next_session_asks_it_again(
    judge: str, tmp_path: Path, model: Path
) -> None:
    """Ten solutions each with a fault of its own, two without: those two are judged, and then the ten."""
    faults, tokenizer = list(LASTING.values()), FileTokenizer.load(model)
    file, broken = solutions(tmp_path / "x.jsonl", len(faults) + 2), [True]

    def bad(asked: Asked) -> Fault | None:
        place = about(tokenizer, asked)
        return faults[place] if broken[0] and place is not None and place < len(faults) else None

    # Where an answer holds no number, there is none to spoil.
    spared = {"s7"} if judge in CHATS else set[str]()
    with server_of(judge, model, bad) as server:
        words = words_of(judge, file, tmp_path / "run", server, model, **{"server.max_tries": 2, "limits.deaths": 0})
        assert call(*words) == 5
        kept = verdicts(tmp_path / "run")
        assert kept.keys() == {"s10", "s11"} | spared
        coverage = read_json(tmp_path / "run", "summary.json")["coverage"]
        assert (coverage["answered"], coverage["unknown"]) == (len(kept), 0)
        assert coverage["failed"] == len(faults) + 2 - len(kept)
        broken[0], first = False, len(server.asked)
        assert call(*words) == 0
        again = {about(tokenizer, one) for one in server.asked[first:]} - {None}
    assert again == {place for place in range(len(faults)) if f"s{place}" not in spared}
    with server_of(judge, model, lambda _asked: None) as server:
        assert call(*words_of(judge, file, tmp_path / "good", server, model)) == 0
    assert verdicts(tmp_path / "run") == verdicts(tmp_path / "good")


@pytest.mark.parametrize("judge", JUDGES)
def test_an_answer_by_another_model_is_never_a_verdict_and_stops_the_run(
    judge: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, tokenizer, broken = solutions(tmp_path / "x.jsonl", 3), FileTokenizer.load(model), [True]
    other = lambda asked: Fault("model") if broken[0] and about(tokenizer, asked) == 1 else None  # noqa: E731
    with server_of(judge, model, other) as server:
        words = words_of(judge, file, tmp_path / "run", server, model, **{"server.max_in_flight": 1})
        assert call(*words) == 3
        assert "answers come from model 'another-model', not 'scripted'" in capsys.readouterr().err
        assert "s1" not in verdicts(tmp_path / "run")
        broken[0] = False
        assert call(*words) == 0
    assert verdicts(tmp_path / "run").keys() == {"s0", "s1", "s2"}


@pytest.mark.parametrize("judge", JUDGES)
def test_a_truncated_answer_is_no_verdict(judge: str, tmp_path: Path, model: Path) -> None:
    """Every answer about one of three solutions ends at half: unknown with the reason, or failed; never a number.

    GenPRM is the exception that its method makes: the verdict on a cut analysis is asked for, and the cut counted.
    """
    file, tokenizer = solutions(tmp_path / "x.jsonl", 3), FileTokenizer.load(model)
    half = lambda asked: Fault("truncated") if about(tokenizer, asked) == 1 else None  # noqa: E731
    with server_of(judge, model, half) as server:
        code = call(*words_of(judge, file, tmp_path / "run", server, model, **{"server.max_tries": 2}))
    told, kept = read_json(tmp_path / "run", "summary.json"), verdicts(tmp_path / "run")
    coverage = {name: told["coverage"][name] for name in ("answered", "unknown", "failed")}
    if judge == "genprm":
        assert (code, coverage) == (0, {"answered": 3, "unknown": 0, "failed": 0})
        assert told["signatures"]["over_long"] == 4
        assert [one["score"] for one in kept["s1"]] == [pytest.approx(p) for p in (8 / 9, 8 / 9, 1 / 9, 8 / 9)]
    elif judge == "discriminative":
        assert (code, coverage) == (5, {"answered": 2, "unknown": 0, "failed": 1})
        assert "s1" not in kept
    else:
        assert (code, coverage) == (0, {"answered": 2, "unknown": 1, "failed": 0})
        assert [one.get("score") for one in kept["s1"]] == [None] * len(kept["s1"])
        (reason,) = told["unknown_reasons"]
        assert "cut" in reason

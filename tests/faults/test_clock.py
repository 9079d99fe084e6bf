"""Clocks that jump: nothing is ordered by wall time, and deadlines use the monotonic clock."""

import ast
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import FAULTS, rows_of
from recorded_cases import RIGHT, WRONG, byte_level, row, write_rows

from stepcredit.recipes.recorded import RecordedSettings, run_recorded
from stepcredit.store.ledger import Ledger
from stepcredit.testing import Fault, ScriptedServer

PACKAGE = FAULTS.parents[1] / "stepcredit"
WALL_CLOCK = {
    "time.time": {"engines/server/transport.py"},  # the time of an attempt, for people
    "datetime.now": {
        "engines/server/transport.py",  # Retry-After may name a date; capped
        "engines/chat_template.py",  # a model's template may ask for today's date
    },
    "strftime": {"engines/chat_template.py"},
}
SUMMER, WINTER = "CET-1CEST,M3.5.0,M10.5.0/3", "UTC+12"


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_only_what_is_for_people_reads_the_wall_clock() -> None:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in calls(path):
            known = [
                word
                for word in ("time.time", "datetime.now", "utcnow", "date.today", "localtime", "strftime")
                if name.endswith(word)
            ]
            for word in known:
                found.setdefault(word, set()).add(path.relative_to(PACKAGE).as_posix())
    assert found == WALL_CLOCK


def test_the_ledger_orders_nothing_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for number in range(300):
            monkeypatch.setattr(time, "time", lambda number=number: 1e9 - 3600.0 * number)
            ledger.put("s", str(number), {})
        assert [key for key, _ in ledger.items("s")] == [str(number) for number in range(300)]


def jumping(seed: int) -> Iterator[float]:
    """Hours and years, back and forth."""
    draws = random.Random(seed)
    now = 1.7e9
    while True:
        now = max(0.0, now + draws.choice([-86400 * 365, -3600, -1, 0, 0.5, 3600, 86400 * 400]))
        yield now


@pytest.mark.parametrize("zone", ["", SUMMER, WINTER])
def test_a_walk_under_a_jumping_clock_gives_the_same_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    rows = [row((RIGHT if k % 2 else WRONG) + f" ({k})", name=f"s{k}") for k in range(30)]
    file, tokenizer = write_rows(tmp_path / "x.jsonl", *rows), byte_level(tmp_path / "tokenizer")
    settings = RecordedSettings(tmp_path / "usual", tokenizer=tokenizer, overrides=("checker.mode=string",))
    run_recorded(file, settings)
    clock = jumping(3)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: next(clock))
        jumped = RecordedSettings(tmp_path / "jumped", tokenizer=tokenizer, overrides=("checker.mode=string",))
        run_recorded(file, jumped)
        run_recorded(file, jumped)
    monkeypatch.delenv("TZ")
    time.tzset()
    stages = ("outcome", "judgement", "credit")
    assert rows_of(tmp_path / "jumped", *stages) == rows_of(tmp_path / "usual", *stages)


def test_waits_and_deadlines_do_not_follow_the_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is too busy at first, under a clock that jumps by years: everybody gets an answer."""
    rows = [row(RIGHT + f" ({k})", name=f"s{k}") for k in range(20)]
    file = write_rows(tmp_path / "x.jsonl", *rows)
    busy = Fault("status", status=429, headers={"Retry-After": "0.02"})
    clock = jumping(4)
    with ScriptedServer(reply=lambda _: "\\boxed{-1}", faults=[None, None, *itertools.repeat(busy, 6)]) as server:
        settings = RecordedSettings(
            tmp_path / "run",
            "critic",
            until="judge",
            server=server.url,
            model="scripted",
            overrides=("checker.mode=string",),
        )
        monkeypatch.setattr(time, "time", lambda: next(clock))
        told = run_recorded(file, settings).summary
    assert told["coverage"]["answered"] == 20
    assert told["calls"]["errors"]["http_429"] == 6
    assert 0 < told["calls"]["seconds"] < 60

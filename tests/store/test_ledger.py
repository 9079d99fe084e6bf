"""The ledger: insert-or-ignore, order, group commit, faults."""

import asyncio
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stepcredit.core.errors import StoreError
from stepcredit.store.attempts import AttemptRecord
from stepcredit.store.cache import VerdictCache
from stepcredit.store.ledger import Ledger


def stored(path: Path) -> list[str]:
    """Keys that another connection sees: what is committed."""
    db = sqlite3.connect(path)
    try:
        return [row[0] for row in db.execute("SELECT key FROM records ORDER BY id")]
    finally:
        db.close()


def test_a_key_is_stored_once_and_the_first_payload_stays(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.put("sample", "a", {"x": 1}) is True
        assert ledger.put("sample", "a", {"x": 2}) is False
        assert ledger.put("judge", "a", {"x": 3}) is True
        assert ledger.get("sample", "a") == {"x": 1}
        assert ledger.get("sample", "b") is None
        assert ledger.has("judge", "a")
        assert not ledger.has("judge", "b")
        assert ledger.count("sample") == 1
        assert ledger.stages() == {"judge": 1, "sample": 1}


def test_items_come_in_the_order_they_were_put_over_many_pages(tmp_path: Path):
    keys = [f"{i * 7919 % 1000:04d}" for i in range(1000)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for key in keys:
            ledger.put("s", key, {"key": key})
        assert [key for key, _ in ledger.items("s")] == keys
        assert all(payload["key"] == key for key, payload in ledger.items("s"))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert [key for key, _ in ledger.items("s")] == keys


def test_items_can_be_walked_while_records_are_put(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for i in range(300):
            ledger.put("a", str(i), {})
        for key, _ in ledger.items("a"):
            ledger.put("b", key, {})
        assert ledger.count("b") == 300


def test_unknown_stays_unknown(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.put("s", "k", {"a": None, "b": math.nan, "c": "\u0000\U0001f600"})
        assert ledger.get("s", "k") == {"a": None, "b": None, "c": "\u0000\U0001f600"}


def test_sixty_four_records_commit_without_waiting(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    with Ledger(path, group_seconds=3600.0) as ledger:
        for i in range(63):
            ledger.put("s", str(i), {})
        assert stored(path) == []
        ledger.put("s", "63", {})
        assert len(stored(path)) == 64


def test_a_lonely_record_is_committed_by_its_age(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    with Ledger(path, group_seconds=0.01) as ledger:
        ledger.put("s", "only", {})
        deadline = time.monotonic() + 10
        while not stored(path) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert stored(path) == ["only"]


def test_flush_makes_all_durable(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    with Ledger(path, group_seconds=3600.0) as ledger:
        ledger.put("s", "a", {})
        ledger.flush()
        assert stored(path) == ["a"]


async def test_threads_and_async_code_share_it(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite") as ledger:

        def write(worker: int) -> None:
            for i in range(100):
                ledger.put("t", f"{worker}/{i}", {"worker": worker})

        threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
        for thread in threads:
            thread.start()

        async def put(i: int) -> None:
            await asyncio.sleep(0)
            ledger.put("a", str(i), {})

        await asyncio.gather(*(put(i) for i in range(100)))
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert ledger.count("t") == 400
        assert ledger.count("a") == 100


def test_two_writers_wait_for_each_other(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    with Ledger(path, group_seconds=0.01) as one, Ledger(path, group_seconds=0.01) as two:
        for i in range(5):
            one.put("s", f"one{i}", {})
            two.put("s", f"two{i}", {})
        two.flush()
        one.flush()
        assert one.count("s") == 10


def test_rollback_journal_for_network_file_systems(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    with Ledger(path, journal="delete") as ledger:
        ledger.put("s", "a", {"x": 1})
    assert not (tmp_path / "l.sqlite-wal").exists()
    with Ledger(path, journal="delete") as ledger:
        assert ledger.get("s", "a") == {"x": 1}


def test_cache_keeps_bytes(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        cache = VerdictCache(ledger)
        assert cache.get("k") is None
        cache.put("k", b"\x00\xff")
        cache.put("k", b"other")
        assert cache.get("k") == b"\x00\xff"


def test_attempts_are_summed(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.attempt_totals().input_tokens is None
        bad = AttemptRecord("c1", "chat", 0, 429, 0.5, error="http_429")
        good = AttemptRecord("c1", "chat", 1, 200, 1.5, input_tokens=10, output_tokens=3, cost=0.25)
        ledger.attempt(bad)
        ledger.attempt(good)
        assert list(ledger.attempts()) == [bad, good]
        totals = ledger.attempt_totals()
        assert (totals.calls, totals.attempts, totals.failed, totals.seconds) == (1, 2, 1, 2.0)
        assert (totals.input_tokens, totals.output_tokens, totals.cost) == (10, 3, 0.25)
        assert totals.errors == {"http_429": 1}


def test_what_is_not_json_is_refused_by_name(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(StoreError, match="record s/k cannot be written as JSON"):
            ledger.put("s", "k", {"x": object()})
        ledger.put("s", "k", {"x": 1})
        assert ledger.get("s", "k") == {"x": 1}


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"this is not a database, and it is long enough to be read as one" * 20)
    with pytest.raises(StoreError, match="not a database"):
        Ledger(path)


def test_a_newer_ledger_is_refused(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    Ledger(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match=r"schema 99.*upgrade stepcredit"):
        Ledger(path)


def test_a_damaged_record_is_named(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.put("s", "k", {"x": 1})
    db = sqlite3.connect(path)
    db.execute("UPDATE records SET payload = X'00112233'")
    db.commit()
    db.close()
    with Ledger(path) as ledger, pytest.raises(StoreError, match="record s/k is damaged"):
        ledger.get("s", "k")


def test_a_full_disk_stops_the_ledger_and_what_was_committed_stays(tmp_path: Path):
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path, group_seconds=3600.0)
    ledger.put("s", "first", {})
    ledger.flush()
    ledger._db.execute("PRAGMA max_page_count=12")  # SQLite's own way to play a full disk

    def fill() -> None:
        for i in range(10_000):
            ledger.put("s", str(i), {"noise": random.Random(i).randbytes(500).hex()})

    with pytest.raises(StoreError, match=r"full.*asked again on resume"):
        fill()
    with pytest.raises(StoreError, match="full"):
        ledger.put("s", "later", {})
    ledger.close()
    with Ledger(path) as again:
        again.check()
        keys = [key for key, _ in again.items("s")]
        assert keys[0] == "first"
        assert keys[1:] == [str(i) for i in range(len(keys) - 1)]  # a prefix, whole groups
        assert again.put("s", "later", {})


def test_a_closed_ledger_says_so(tmp_path: Path):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.close()
    ledger.close()
    with pytest.raises(StoreError, match="closed"):
        ledger.put("s", "k", {})


CHILD = """
import sys
from pathlib import Path
from stepcredit.store.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), group_seconds=0.005, group_size=8)
i = ledger.count("s")
while True:
    ledger.put("s", f"{i:06d}", {"i": i, "text": "x" * 500})
    i += 1
    if i % 8 == 0:
        ledger.flush()
        print(i, flush=True)
"""


def test_kill_loses_nothing_that_was_flushed_and_doubles_nothing(tmp_path: Path):
    path, moments = tmp_path / "l.sqlite", random.Random(7)
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")
        child.stdout.close()
        child.wait()
        told = max([int(line) for line in rest[:-1] if line], default=0)  # the last line may be torn
        keys = stored(path)
        assert len(keys) >= told
        assert keys == [f"{i:06d}" for i in range(len(keys))]
    with Ledger(path) as ledger:
        ledger.check()


def test_what_is_put_together_is_committed_together_whatever_the_group_holds(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite", group_size=2, group_seconds=0.001) as ledger:
        ledger.put("judge", "before", {})
        with ledger.together():
            for name in ("verdict", "text", "more"):
                ledger.put("judge", name, {})
                time.sleep(0.01)  # the group is full and old, and must wait
                assert not {"verdict", "text", "more"} & set(stored(tmp_path / "l.sqlite"))
        ledger.flush()
        assert stored(tmp_path / "l.sqlite")[-3:] == ["verdict", "text", "more"]


def test_entries_of_a_cache_are_kept_together(tmp_path: Path):
    with Ledger(tmp_path / "l.sqlite", group_size=1) as ledger:
        cache = VerdictCache(ledger)
        cache.put("a", b"first")
        cache.put_all({"a": b"second", "b": b"b"})
        assert (cache.get("a"), cache.get("b")) == (b"first", b"b")

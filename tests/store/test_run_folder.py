"""The run folder: resume, one writer, takeover, manifest, checkpoints, metrics."""

import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stepcredit.core.errors import MachineError, StoreError, UsageError
from stepcredit.store.filesystem import journal_of, mount_type
from stepcredit.store.run_folder import RunFolder, read_manifest, read_metrics

MANIFEST = {"recipe": {"credit": {"alpha": 2.0, "rule": "tp_grpo"}}, "seed": 7, "versions": {"numpy": "1"}}


def test_a_run_goes_on_where_it_stopped(tmp_path: Path):
    path = tmp_path / "runs" / "one"
    with RunFolder.create_or_open(path, MANIFEST) as folder:
        assert folder.notes == ()
        assert folder.manifest == MANIFEST
        folder.ledger.put("sample", "k", {"x": 1})
        assert not folder.stage_done("sample", "round/0")
        folder.mark_done("sample", "round/0")
        folder.cache.put("verdict", b"yes")
        folder.append_metrics({"update": 0, "loss": math.nan})
        folder.write_json("summary.json", {"accuracy": 0.5, "nan": None})
        folder.write_text("report.html", "<p>é")
    with RunFolder.create_or_open(path, MANIFEST) as folder:
        assert folder.notes == ()
        assert folder.ledger.get("sample", "k") == {"x": 1}
        assert folder.stage_done("sample", "round/0")
        assert not folder.stage_done("judge", "round/0")
        assert folder.cache.get("verdict") == b"yes"
        folder.append_metrics({"update": 1, "loss": np.float32(0.5)})
        assert folder.metrics() == [{"update": 0, "loss": None}, {"update": 1, "loss": 0.5}]
        assert folder.read_json("summary.json") == {"accuracy": 0.5, "nan": None}
        assert folder.read_json("other.json") is None
    names = {p.name for p in path.iterdir()}
    assert names == {"ledger.sqlite", "lock", "manifest.json", "metrics.jsonl", "report.html", "summary.json"}


def test_another_manifest_is_refused_and_the_key_named(tmp_path: Path):
    RunFolder.create_or_open(tmp_path, MANIFEST).close()
    other = {**MANIFEST, "recipe": {"credit": {"alpha": 1.0, "rule": "tp_grpo"}}}
    with pytest.raises(UsageError, match=r"made with recipe.credit.alpha = 2.0, not 1.0; run with the same settings"):
        RunFolder.create_or_open(tmp_path, other)
    with pytest.raises(UsageError, match=r"made with seed = 7, not \(absent\)"):
        RunFolder.create_or_open(tmp_path, {key: MANIFEST[key] for key in ("recipe", "versions")})
    RunFolder.create_or_open(tmp_path, MANIFEST).close()  # the refusal left it usable


def test_digests_are_compared_last_and_said_in_words(tmp_path: Path):
    first = {"verb": "judge", "input": {"sha256": "a"}, "judge": {"temperature": 0.0, "version": "x"}}
    RunFolder.create_or_open(tmp_path, first).close()
    said = {"input.sha256": "the file has changed", "judge.version": "another judge"}
    for other, line in (
        ({"verb": "run"}, r"made with verb = judge, not run; run with the same settings, or choose another folder"),
        ({"judge": {"temperature": 0.5, "version": "y"}}, r"made with judge.temperature = 0.0, not 0.5"),
        ({}, r": the file has changed; choose another folder with --out$"),
    ):
        with pytest.raises(UsageError, match=line):
            RunFolder.create_or_open(tmp_path, first | {"input": {"sha256": "b"}} | other, said=said)


def test_a_key_may_be_settled_later_and_is_then_compared(tmp_path: Path):
    def manifest(model: str, version: str | None) -> dict[str, object]:
        return {"judge": {"model": model, "version": version}}

    later = "judge.version"
    RunFolder.create_or_open(tmp_path, manifest("typo", None), later=later).close()
    with RunFolder.create_or_open(tmp_path, manifest("m", None), later=later) as folder:  # nothing is kept yet
        folder.settle(later, "1", said="another judge")
        assert folder.manifest == manifest("m", "1")
        folder.settle(later, "1", said="another judge")
        with pytest.raises(UsageError, match="another judge; choose another folder"):
            folder.settle(later, "2", said="another judge")
    RunFolder.create_or_open(tmp_path, manifest("m", None), later=later).close()
    with pytest.raises(UsageError, match=r"made with judge\.model = m, not n"):
        RunFolder.create_or_open(tmp_path, manifest("n", None), later=later)
    with pytest.raises(UsageError, match=r"made with judge\.version = 1, not 2"):
        RunFolder.create_or_open(tmp_path, manifest("m", "2"), later=later)


@pytest.mark.parametrize("name", ["summary.json", "report.html", "lock", ".git", "checkpoints"])
def test_a_folder_of_somebody_else_is_refused_and_nothing_in_it_is_touched(tmp_path: Path, name: str):
    theirs = tmp_path / "mine"
    theirs.mkdir()
    (theirs / name).write_text("not yours", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"mine: the folder is no run folder .* holds {name}; .*--out"):
        RunFolder.create_or_open(theirs, MANIFEST)
    assert [(p.name, p.read_text(encoding="utf-8")) for p in theirs.iterdir()] == [(name, "not yours")]


def test_a_manifest_of_somebody_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"name": "an app"}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"made with judge = \(absent\)"):
        RunFolder.create_or_open(tmp_path, {"judge": {"version": None}}, later="judge.version")
    assert (tmp_path / "manifest.json").read_text(encoding="utf-8") == '{"name": "an app"}'


def test_what_a_kill_before_the_manifest_leaves_is_gone_on_with(tmp_path: Path):
    (tmp_path / "lock").write_bytes(b'{"pid":1,"host":"gone","boot":"","space":"","start":""}')
    (tmp_path / ".manifest.json.7.part").write_bytes(b"{")
    (tmp_path / ".trial-x").mkdir()
    RunFolder.create_or_open(tmp_path, MANIFEST).close()
    assert read_manifest(tmp_path) == MANIFEST


def test_a_folder_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="the run folder needs a name of its own; give one with --out"):
        RunFolder.create_or_open(Path(), MANIFEST)
    assert list(tmp_path.iterdir()) == []


def test_other_versions_are_told_not_refused(tmp_path: Path):
    RunFolder.create_or_open(tmp_path, MANIFEST).close()
    with RunFolder.create_or_open(tmp_path, {**MANIFEST, "versions": {"numpy": "2"}}) as folder:
        assert folder.notes == ("versions.numpy was 1 and is now 2: results need not be bit-identical",)
        assert folder.manifest["versions"] == {"numpy": "1"}


def test_a_second_writer_is_refused_with_pid_and_host(tmp_path: Path):
    with RunFolder.create_or_open(tmp_path, MANIFEST):
        with pytest.raises(StoreError, match=f"in use by pid {os.getpid()} on host {socket.gethostname()}"):
            RunFolder.create_or_open(tmp_path, MANIFEST)
        assert read_manifest(tmp_path) == MANIFEST  # readers need no lock
    RunFolder.create_or_open(tmp_path, MANIFEST).close()


HOLDER = """
import sys, time
from pathlib import Path
from stepcredit.store.run_folder import RunFolder
folder = RunFolder.create_or_open(Path(sys.argv[1]), {"seed": 1})
folder.ledger.put("s", "k", {})
folder.mark_done("s", "all")
print("held", flush=True)
time.sleep(60)
"""


def test_a_dead_owner_is_taken_over(tmp_path: Path):
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(StoreError, match=f"in use by pid {child.pid} on host"):
        RunFolder.create_or_open(tmp_path, {"seed": 1})
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with RunFolder.create_or_open(tmp_path, {"seed": 1}) as folder:
        assert folder.notes == ("the last writer of this run died; the ledger was checked and the run goes on",)
        assert folder.stage_done("s", "all")


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path):
    code = """
import os, sys, time
from pathlib import Path
from stepcredit.store.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if os.fork() == 0:
    print(os.getpid(), flush=True)
    os.close(1)
    time.sleep(60)
time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    orphan = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    try:
        os.kill(orphan, 0)  # it lives
        RunFolder.create_or_open(tmp_path, MANIFEST).close()
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_row_with_a_name_is_written_once(tmp_path: Path):
    with RunFolder.create_or_open(tmp_path, MANIFEST) as folder:
        assert folder.append_metrics({"loss": 1.0}, key="update/0")
        assert not folder.append_metrics({"loss": 2.0}, key="update/0")
    with RunFolder.create_or_open(tmp_path, MANIFEST) as folder:
        assert not folder.append_metrics({"loss": 3.0}, key="update/0")
        assert folder.metrics() == [{"loss": 1.0}]


@pytest.mark.parametrize("on_disk", [b"", b'{"loss":1.0}\n{"lo', b'{"loss":1.0}\n{"loss":2.0}\n{"loss":3.0}\n'])
def test_metrics_follow_the_ledger_after_a_kill(tmp_path: Path, on_disk: bytes):
    with RunFolder.create_or_open(tmp_path, MANIFEST) as folder:
        folder.append_metrics({"loss": 1.0})
        folder.append_metrics({"loss": 2.0})
    (tmp_path / "metrics.jsonl").write_bytes(on_disk)
    with RunFolder.create_or_open(tmp_path, MANIFEST) as folder:
        assert folder.metrics() == [{"loss": 1.0}, {"loss": 2.0}]


def test_readers_of_metrics(tmp_path: Path):
    assert list(read_metrics(tmp_path)) == []
    (tmp_path / "metrics.jsonl").write_bytes(b'{"a":1}\n{"b":')
    assert list(read_metrics(tmp_path)) == [{"a": 1}]
    (tmp_path / "metrics.jsonl").write_bytes(b'{"a":1}\ngarbage\n{"c":3}\n')
    with pytest.raises(StoreError, match="line 2, byte 8: the line is not JSON"):
        list(read_metrics(tmp_path))


def test_checkpoints(tmp_path: Path):
    with RunFolder.create_or_open(tmp_path, MANIFEST) as folder:
        assert not folder.has_checkpoint("round-1")
        folder.write_checkpoint("round-1", b"weights" * 100)
        assert folder.has_checkpoint("round-1")
        assert folder.read_checkpoint("round-1") == b"weights" * 100
        folder.write_checkpoint("round-1", b"")
        assert folder.read_checkpoint("round-1") == b""
        path = tmp_path / "checkpoints" / "round-1"
        for damaged in (path.read_bytes()[:-1], path.read_bytes() + b"x", b""):
            path.write_bytes(damaged)
            with pytest.raises(StoreError, match="damaged, or not one of ours"):
                folder.read_checkpoint("round-1")
        with pytest.raises(StoreError, match="cannot be read: No such file"):
            folder.read_checkpoint("round-2")


def test_shards_by_ledger_row(tmp_path: Path):
    with RunFolder.create_or_open(tmp_path, MANIFEST) as folder:
        first = folder.write_shard("tokens", "round/0", columns={"ids": np.arange(3)})
        assert folder.write_shard("tokens", "round/0", columns={"ids": np.arange(9)}) == first
        np.testing.assert_array_equal(folder.read_shard("tokens", "round/0")["ids"], [0, 1, 2])
        with pytest.raises(StoreError, match="no shard tokens/other"):
            folder.read_shard("tokens", "other")


def test_bad_places(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="a file stands where a folder is needed"):
        RunFolder.create_or_open(tmp_path / "file", MANIFEST)
    with pytest.raises(UsageError, match="not a run folder"):
        read_manifest(tmp_path)
    with pytest.raises(UsageError, match="not a run folder"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(MachineError, match="a file stands"):
        read_manifest(tmp_path / "file")


def test_json_that_cannot_be_written_or_read(tmp_path: Path):
    with RunFolder.create_or_open(tmp_path, MANIFEST) as folder:
        with pytest.raises(StoreError, match=r"summary.json cannot be written as JSON"):
            folder.write_json("summary.json", object())
        folder.write_text("x.json", "{")
        with pytest.raises(StoreError, match="not JSON"):
            folder.read_json("x.json")


def test_journal_on_network_file_systems(tmp_path: Path):
    mounts = "/dev/sda / ext4 rw 0 0\nhost:/x /mnt/my\\040data nfs4 rw 0 0\n"
    assert mount_type(Path("/mnt/my data/run"), mounts) == "nfs4"
    assert mount_type(Path("/mnt/other"), mounts) == "ext4"
    assert journal_of(tmp_path) in ("wal", "delete")

"""The worker that hosts WebAssembly instances: one fresh instance a job, one job at a time.

Started as `python -I wasm.py COMPONENT`. The worker's own clock ends a program that computes; one that sleeps in a
call of the host is ended by killing the worker, which is why there is one (reliability.md A2.8).
"""

import base64
import json
import os
import re
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

SETTINGS = "epoch_interruption"
"""Of the engine, as part of the component's name: what was compiled under others does not load."""

_CLEAR_PEAK = b"5"
_HUNG_S = 3.0
_LOOK_S = 0.01


def engine() -> Any:
    """The engine's settings; a compiled component loads only under the same."""
    from wasmtime import Config, Engine  # noqa: PLC0415

    config = Config()
    setattr(config, SETTINGS, True)
    return Engine(config)


def compiled(component: bytes) -> bytes:
    """Native code of a component."""
    from wasmtime.component import Component  # noqa: PLC0415

    return bytes(Component(engine(), component).serialize())


def main() -> None:
    """Answer frames until the input ends."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but frames may come out there
    boot = read_frame(requests)
    if boot is None:
        return
    host = Host(sys.argv[1], boot["limits"])
    write_frame(replies, {"ready": True})
    while (job := read_frame(requests)) is not None:
        write_frame(replies, host.run(job))


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame, `None` at the end."""
    head = stream.read(4)
    return json.loads(stream.read(struct.unpack(">I", head)[0])) if len(head) == 4 else None


def write_frame(stream: BinaryIO, value: dict[str, Any]) -> None:
    """Write one frame."""
    data = json.dumps(value).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


class Host:
    """Runs jobs in instances of one component.

    Args:
        path: compiled component.
        limits: fields of `Limits`.
    """

    def __init__(self, path: str, limits: dict[str, Any]) -> None:
        from wasmtime.component import Component, Linker  # noqa: PLC0415

        self._limits, self._engine = limits, engine()
        self._watched = Watched(self._engine)
        self._component = Component.deserialize_file(self._engine, path)
        self._linker = Linker(self._engine)
        self._linker.add_wasip2()

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """One job in an instance of its own."""
        from wasmtime import Store, WasiConfig  # noqa: PLC0415

        streams = Streams(self._limits, self._engine)
        wasi = WasiConfig()
        wasi.stdout_custom = streams.take_out
        wasi.stderr_custom = streams.take_err
        store = Store(self._engine)
        store.set_limits(memory_size=self._limits["wasm_bytes"])
        store.set_wasi(wasi)
        _clear_peak()
        began_cpu = time.thread_time()
        store.set_epoch_deadline(1)
        instance = self._linker.instantiate(store, self._component)
        run = instance.get_func(store, "run")
        until = time.monotonic() + job["replay_s"]
        for source in job["earlier"]:
            ended, _ = self._call(store, run, source, until - time.monotonic(), streams)
            if ended not in ("ended", "raised"):
                return {"exit": "lost"}
        streams.begin()
        began = time.monotonic()
        ended, said = self._call(store, run, job["source"], self._limits["wall_s"], streams)
        return {
            "exit": ended,
            "error": _text(said.encode("utf-8", "backslashreplace")),
            "out": _text(bytes(streams.out)),
            "err": _text(bytes(streams.err)),
            "output_bytes": streams.written,
            "seconds": time.monotonic() - began,
            "cpu_s": time.thread_time() - began_cpu,
            "peak_bytes": _peak(),
        }

    def _call(self, store: Any, run: Any, source: str, seconds: float, streams: "Streams") -> tuple[str, str]:
        from wasmtime import ExitTrap, Trap, WasmtimeError  # noqa: PLC0415

        store.set_epoch_deadline(1)
        watched = self._watched
        watched.begin(seconds, self._limits["cpu_s"])
        try:
            code, said = run(store, json.dumps(source))
        except ExitTrap as end:
            return f"exit {end.code}", ""
        except (Trap, WasmtimeError) as error:
            if streams.full:
                return "output", ""
            return (watched.reached, "") if watched.reached else ("trap", _cause(str(error)))
        finally:
            watched.end()
        run.post_return(store)
        return ("ended", "raised", "exit")[code], said


class Watched:
    """Ends a program that computes too long; ends the process if a program hangs and no parent kills it.

    Args:
        engine: whose epoch ends the program.
    """

    def __init__(self, engine: Any) -> None:
        self._engine, self._running, self._lock = engine, threading.Event(), threading.Lock()
        self._until, self._cpu_until, self.reached = 0.0, 0.0, ""
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._cpu = None if clock is None else clock(threading.get_ident())
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, seconds: float, cpu_s: float) -> None:
        """A program of this thread begins; where processor time cannot be watched, `seconds` alone counts."""
        self.reached = ""
        self._until, self._cpu_until = time.monotonic() + seconds, time.thread_time() + cpu_s
        self._running.set()

    def end(self) -> None:
        """It ended: what is seen from now on is not held against the next one."""
        with self._lock:
            self._running.clear()

    def _watch(self) -> None:
        while self._running.wait():
            time.sleep(_LOOK_S)
            with self._lock:
                if self._running.is_set():
                    self._look(time.monotonic())

    def _look(self, now: float) -> None:
        if now > self._until + _HUNG_S:
            os._exit(1)
        late = now > self._until
        if late or (self._cpu is not None and time.clock_gettime(self._cpu) > self._cpu_until):
            self.reached = self.reached or ("wall" if late else "cpu")
            self._engine.increment_epoch()


class Streams:
    """Takes what a program writes; stops it when that is too much.

    Args:
        limits: fields of `Limits`.
        engine: whose epoch ends the program.
    """

    def __init__(self, limits: dict[str, Any], engine: Any) -> None:
        self._limits, self._engine = limits, engine
        self.begin()

    def begin(self) -> None:
        """Forget what was written so far: it belongs to the replay."""
        self.out, self.err, self.written, self.full = bytearray(), bytearray(), 0, False

    def take_out(self, data: bytes) -> int:
        """Standard output."""
        return self._take(self.out, data)

    def take_err(self, data: bytes) -> int:
        """Standard error."""
        return self._take(self.err, data)

    def _take(self, kept: bytearray, data: bytes) -> int:
        self.written += len(data)
        kept += data[: max(0, self._limits["kept_bytes"] - len(kept))]
        if self.written > self._limits["killed_bytes"] and not self.full:
            self.full = True
            self._engine.increment_epoch()
        return len(data)


def _cause(said: str) -> str:
    """The trap's name, out of a report with a stack."""
    found = re.findall(r"(?:wasm trap: |\d: )([^\n]+)", said)
    return found[-1].strip() if found else said.split("\n", maxsplit=1)[0]


def _clear_peak() -> None:
    try:
        handle = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(handle, _CLEAR_PEAK)
        finally:
            os.close(handle)
    except OSError:
        pass


def _peak() -> int | None:
    """Most resident memory of this process since the last clearing, instance and host together."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    main()

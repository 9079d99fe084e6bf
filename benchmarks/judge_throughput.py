"""What a judge call costs on our side: client overhead and memory, and requests a second beside vLLM's own client.

    python benchmarks/judge_throughput.py [--calls 2000] [--vllm .venv-vllm]

First against a scripted server that answers at once, in a process of its own: CPU and wall time of this process a call,
and its memory after a quarter of the calls and at the end. With `--vllm`, the same requests of 128 tokens in and 16 out
against a real vLLM on the CPU, by our client and by `vllm bench serve`, in turns, several rounds at each concurrency.
Writes results/judge_throughput.json and judge_throughput.md.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent / "tests" / "recipes")]

from recorded_cases import RIGHT  # noqa: E402
from writing_cases import model_folder, served  # noqa: E402

from stepcredit.core.protocols import Judge, Writing  # noqa: E402
from stepcredit.core.records import Outcome, Problem, Rollout, Steps  # noqa: E402
from stepcredit.engines.chat_template import ChatTemplate  # noqa: E402
from stepcredit.engines.server import ServerClient, ServerSettings  # noqa: E402
from stepcredit.engines.tokenizer import FileTokenizer  # noqa: E402
from stepcredit.judges import CriticJudge, GenPrmJudge, ThinkPRMJudge  # noqa: E402
from stepcredit.testing import ScriptedServer  # noqa: E402

IN_FLIGHT = 32
TOKENS_IN, TOKENS_OUT, CONCURRENCIES, ROUNDS, REQUESTS = 128, 16, (8, 16, 32), 3, 256


def scripted(kind: str, folder: str, pipe: Connection) -> None:
    """The process of the scripted server."""
    server = ScriptedServer(reply=lambda _: "\\boxed{-1}") if kind == "critic" else served(Path(folder), kind)
    with server:
        pipe.send(server.url)
        pipe.recv()


def solution(number: int) -> Steps:
    """A solution of four steps; no two are equal."""
    texts = [*(f"{part}\n\n" for part in RIGHT.split("\n\n")[:3]), f"So {number}."]
    starts = np.cumsum([0, *map(len, texts)])[: len(texts)]
    ids = np.arange(len(texts))
    rollout = Rollout(f"r{number}", Problem("p", "How many?", "19"), "g", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "right"), ids, "paragraph", np.zeros(len(texts), bool), closed=False)


JUDGES: dict[str, tuple[int, Callable[[ServerClient, FileTokenizer, ChatTemplate], Judge]]] = {
    "critic": (1, lambda client, _tokenizer, _chat: CriticJudge(client)),
    "thinkprm": (2, ThinkPRMJudge),
    "genprm": (8, GenPrmJudge),
}
"""Judge -> calls a solution of four steps, and how it is made."""


async def overhead(kind: str, url: str, folder: Path, calls: int) -> dict[str, float]:
    """Costs of this process for so many calls of a judge."""
    each, make = JUDGES[kind]
    count = calls // each
    async with ServerClient(ServerSettings(url, max_in_flight=IN_FLIGHT, key_variable="NO_SUCH_KEY")) as client:
        judge = make(client, FileTokenizer.load(folder), ChatTemplate.load(folder))
        await _many(judge, range(-2 * IN_FLIGHT, 0))
        memory: list[int] = []
        cpu, wall = time.process_time(), time.perf_counter()
        for part in range(4):
            await _many(judge, range(part * count // 4, (part + 1) * count // 4))
            memory.append(_resident_bytes())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    made = count * each
    return {
        "calls": made,
        "client_cpu_ms_a_call": 1000 * cpu / made,
        "wall_ms_a_call": 1000 * wall / made,
        "memory_after_a_quarter_mb": memory[0] / 2**20,
        "memory_at_the_end_mb": memory[-1] / 2**20,
        "growth_bytes_a_call": (memory[-1] - memory[0]) / (0.75 * made),
    }


async def _many(judge: Judge, numbers: range) -> None:
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            for verdict in await judge.judge(solution(number)):
                if verdict.score is None:
                    raise SystemExit(f"a verdict is unknown: {verdict.reason}")

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def beside_scripted(calls: int) -> dict[str, dict[str, float]]:
    """Each judge against a scripted server of its own."""
    context, found = get_context("spawn"), dict[str, dict[str, float]]()
    with tempfile.TemporaryDirectory() as name:
        folder = model_folder(Path(name))
        for kind in JUDGES:
            ours, theirs = context.Pipe()
            process = context.Process(target=scripted, args=(kind, name, theirs))
            process.start()
            try:
                found[kind] = asyncio.run(overhead(kind, ours.recv(), folder, calls))
                ours.send(None)
            finally:
                process.join(5)
                process.terminate()
    return found


@contextmanager
def vllm(venv: Path, folder: Path) -> Generator[str]:
    """A vLLM of the tiny model of tests/servers while the block runs."""
    from tests.servers.tiny_model import build  # noqa: PLC0415

    build(folder / "model", seed=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"model": folder / "model", "served-model-name": "tiny", "host": "127.0.0.1", "port": port}
    flags |= {"dtype": "float32", "max-model-len": 512, "max-num-seqs": 32}
    command = [venv / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += ["--no-enable-prefix-caching", *(part for name, value in flags.items() for part in (f"--{name}", value))]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "TORCHDYNAMO_DISABLE": "1"}
    env |= {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen([str(x) for x in command], stdout=out, stderr=out, env=env, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx2.get(f"{url}/health", timeout=2)
                break
            except httpx2.HTTPError:
                time.sleep(1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def by_us(url: str, concurrency: int, seed: int) -> float:
    """Requests a second of our client."""
    draws = np.random.default_rng(seed)
    prompts = draws.integers(0, 256, (REQUESTS, TOKENS_IN)).astype(np.int32)
    async with ServerClient(ServerSettings(url, max_in_flight=concurrency, key_variable="NO_SUCH_KEY")) as client:

        async def one(number: int) -> None:
            await client.write(prompts[number], Writing(TOKENS_OUT, temperature=1.0), seed=number)

        await one(0)
        return await _rate([lambda k=k: one(k) for k in range(REQUESTS)], concurrency)


async def _rate(calls: Sequence[Callable[[], Awaitable[None]]], concurrency: int) -> float:
    left = iter(calls)

    async def work() -> None:
        for call in left:
            await call()

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return len(calls) / (time.perf_counter() - begun)


def by_them(venv: Path, url: str, folder: Path, concurrency: int, seed: int) -> float:
    """Requests a second of `vllm bench serve`."""
    out = folder / f"bench-{concurrency}-{seed}.json"
    flags = {"base-url": url, "model": "tiny", "tokenizer": folder / "model", "dataset-name": "random"}
    flags |= {"random-input-len": TOKENS_IN, "random-output-len": TOKENS_OUT, "num-prompts": REQUESTS, "seed": seed}
    flags |= {"max-concurrency": concurrency, "result-filename": out.name, "result-dir": folder, "backend": "openai"}
    flags |= {"endpoint": "/v1/completions", "temperature": 1.0}
    words = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    code = "import sys; from vllm.entrypoints.cli.main import main; sys.argv[0] = 'vllm'; main()"
    command = [str(venv / "bin" / "python"), "-c", code, "bench", "serve", *words, "--save-result"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode or not out.is_file():
        raise SystemExit(f"vllm bench serve failed:\n{done.stdout[-800:]}\n{done.stderr[-2000:]}")
    return float(json.loads(out.read_text(encoding="utf-8"))["request_throughput"])


def beside_vllm(venv: Path) -> dict[str, Any]:
    """Both clients in turns; the share is of medians at each concurrency."""
    with tempfile.TemporaryDirectory() as name, vllm(venv, Path(name)) as url:
        asyncio.run(by_us(url, 8, 99))
        found: dict[str, Any] = {}
        for concurrency in CONCURRENCIES:
            ours, theirs = list[float](), list[float]()
            for seed in range(ROUNDS):
                theirs.append(by_them(venv, url, Path(name), concurrency, seed))
                ours.append(asyncio.run(by_us(url, concurrency, seed)))
            share = median(ours) / median(theirs)
            found[str(concurrency)] = {"ours": ours, "vllm_bench": theirs, "share": share}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--vllm", type=Path, help="environment with vLLM, see tests/servers/make_venv.sh")
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {"machine": platform.machine(), "cpus": os.cpu_count(), "in_flight": IN_FLIGHT}
    result["scripted"] = beside_scripted(options.calls)
    if options.vllm is not None:
        result["vllm"] = beside_vllm(options.vllm)
    (HERE / "results" / "judge_throughput.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (HERE / "results" / "judge_throughput.md").write_text(page(result), encoding="utf-8")


def page(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Judge calls", "", f"Made by `benchmarks/judge_throughput.py` on {result['cpus']} cores.", ""]
    names = list(next(iter(result["scripted"].values())))
    lines += [f"| judge | {' | '.join(name.replace('_', ' ') for name in names)} |", "| --- " * (len(names) + 1) + "|"]
    for kind, row in result["scripted"].items():
        lines.append(f"| {kind} | " + " | ".join(f"{row[name]:,.2f}" for name in names) + " |")
    if "vllm" in result:
        lines += ["", f"Requests a second, {TOKENS_IN} tokens in, {TOKENS_OUT} out, median of {ROUNDS} rounds:", ""]
        lines += ["| concurrency | ours | vllm bench serve | share |", "| --- | --- | --- | --- |"]
        for name, row in result["vllm"].items():
            both = median(row["ours"]), median(row["vllm_bench"])
            lines.append(f"| {name} | {both[0]:.1f} | {both[1]:.1f} | {row['share']:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Requests a second against a real vLLM on the CPU: our client beside vLLM's own benchmark client, in one run.

    python benchmarks/server_throughput.py --vllm .venv-vllm [--rounds 4] [--concurrency 8 16 32 64]

The environment is that of tests/servers (`make_venv.sh`). Both clients send the same prompts to the same chat route,
greedy, and get the same number of tokens, in turns on one server; input and output tokens are compared, so neither can
be asked for less. `vllm bench serve` streams its answers and cannot do otherwise; ours takes them whole, as judges do.
Writes results/server_throughput.json and server_throughput.md.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import IO, Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent)]

from stepcredit.core.protocols import Message  # noqa: E402
from stepcredit.core.seeds import derive  # noqa: E402
from stepcredit.engines.server import ServerClient, ServerSettings  # noqa: E402

REQUESTS, LETTERS, TOKENS_OUT, CONTEXT = 256, 160, 16, 512
START_S = 400.0
ENDED = "round-ended"
PROMISE = 0.95
BENCH = f"""
import argparse, json, sys
from vllm.benchmarks import serve
from vllm.benchmarks.datasets import SampleRequest
def samples(args, tokenizer):
    with open(args.dataset_path) as lines:
        texts = [json.loads(line)["prompt"] for line in lines]
    return [SampleRequest(prompt=one, prompt_len=1, expected_output_len=args.custom_output_len) for one in texts]
serve.get_samples = samples
parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
print("{ENDED}", flush=True)
for line in sys.stdin:
    serve.main(parser.parse_args(json.loads(line)))
    print("{ENDED}", flush=True)
"""
"""`vllm bench serve` round by round in one process: the command fails in builds of vLLM for the CPU, and its reader of
prompts wants pandas, which they lack; lengths of prompts are then told by the server."""


@dataclass(frozen=True)
class Round:
    """What one client did in one round: requests a second, and the tokens of all requests."""

    rate: float
    tokens_in: int
    tokens_out: int


def prompts(round_: int) -> list[str]:
    """Texts of equal length, none of them twice."""
    draws = Random(derive(0, "server throughput", round_))
    return ["".join(draws.choices("abcdefghijklmnopqrstuvwxyz ", k=LETTERS)) for _ in range(REQUESTS)]


@contextmanager
def vllm(venv: Path, folder: Path, most: int) -> Generator[str]:
    """Address of a vLLM with the tiny model of tests/servers while the block runs."""
    from tests.servers.tiny_model import build  # noqa: PLC0415

    build(folder / "model", seed=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"model": folder / "model", "served-model-name": "tiny", "host": "127.0.0.1", "port": port}
    # A prompt is read in one piece: vLLM on the CPU dies where it reads a seeded request's prompt in two.
    flags |= {"dtype": "float32", "max-model-len": CONTEXT, "max-num-seqs": most, "max-num-batched-tokens": most * 512}
    command = [venv / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += ["--no-enable-prefix-caching", "--disable-uvicorn-access-log"]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    env = {**offline(folder), "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=out, env=env, cwd=folder, start_new_session=True
        )
    try:
        wait(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def offline(folder: Path) -> dict[str, str]:
    """Environment in which nothing is looked up elsewhere."""
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HOME": str(folder / "home")}
    return {**os.environ, **quiet}


def wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Until the server answers."""
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < START_S:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    sys.exit("the server did not start:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-30:]))


async def by_us(url: str, concurrency: int, texts: Sequence[str]) -> Round:
    """A round of our client."""
    settings = ServerSettings(
        url, max_in_flight=concurrency, max_tries=1, key_variable="NO_SUCH_KEY", extra={"ignore_eos": True}
    )
    async with ServerClient(settings) as client:

        async def one(text: str) -> tuple[int, int]:
            said = [Message("user", text)]
            reply = await client.complete(said, max_tokens=TOKENS_OUT, temperature=0.0, seed=0)
            return reply.input_tokens or 0, reply.output_tokens or 0

        await one(texts[0])  # as the other client does before its clock starts
        begun = time.perf_counter()
        tokens = await asyncio.gather(*(one(text) for text in texts))
        seconds = time.perf_counter() - begun
    return Round(len(texts) / seconds, sum(one for one, _ in tokens), sum(two for _, two in tokens))


@contextmanager
def bench(venv: Path, folder: Path) -> Generator["subprocess.Popen[str]"]:
    """The process of the other client, ready for rounds."""
    with (folder / "bench-log").open("wb") as log:
        process = subprocess.Popen(
            [str(venv / "bin" / "python"), "-c", BENCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=offline(folder),
            text=True,
        )
    try:
        until_ended(process.stdout, folder)
        yield process
    finally:
        process.kill()
        process.wait()


def until_ended(lines: IO[str] | None, folder: Path) -> None:
    """Read what the other client says until it has ended a round."""
    told: list[str] = []
    for line in lines or ():
        if line.strip() == ENDED:
            return
        told.append(line)
    errors = (folder / "bench-log").read_text(errors="replace")
    sys.exit(f"vllm bench serve failed:\n{''.join(told[-20:])}\n{errors[-3000:]}")


def by_them(process: "subprocess.Popen[str]", url: str, folder: Path, concurrency: int, texts: Sequence[str]) -> Round:
    """A round of `vllm bench serve`."""
    file, out = folder / "prompts.jsonl", folder / "bench.json"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
    out.unlink(missing_ok=True)
    flags = {"base-url": url, "model": "tiny", "tokenizer": folder / "model", "dataset-name": "custom"}
    flags |= {"dataset-path": file, "custom-output-len": TOKENS_OUT, "num-prompts": len(texts), "temperature": 0.0}
    flags |= {"max-concurrency": concurrency, "backend": "openai-chat", "endpoint": "/v1/chat/completions"}
    flags |= {"result-dir": folder, "result-filename": out.name}
    words = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    switches = ("--save-result", "--ignore-eos", "--disable-tqdm")
    if process.stdin is None:
        raise AssertionError("the process was started with a pipe")
    process.stdin.write(json.dumps([*words, *switches]) + "\n")
    process.stdin.flush()
    until_ended(process.stdout, folder)
    told = json.loads(out.read_text(encoding="utf-8"))
    if told["completed"] != len(texts):
        sys.exit(f"vllm bench serve completed {told['completed']} of {len(texts)} requests")
    return Round(told["request_throughput"], told["total_input_tokens"], told["total_output_tokens"])


def measure(venv: Path, rounds: int, concurrencies: Sequence[int], minutes: float) -> list[dict[str, Any]]:
    """Both clients in turns; who goes first changes from round to round."""
    begun = time.monotonic()
    ours, theirs = ({concurrency: list[Round]() for concurrency in concurrencies} for _ in range(2))
    with (
        tempfile.TemporaryDirectory() as name,
        vllm(venv, Path(name), max(concurrencies)) as url,
        bench(venv, Path(name)) as other,
    ):
        folder = Path(name)
        print(f"the server is up after {time.monotonic() - begun:.0f} s", flush=True)
        for concurrency in concurrencies:  # the first answers of each batch size take long
            asyncio.run(by_us(url, concurrency, prompts(-concurrency)[: 2 * concurrency]))
        by_them(other, url, folder, 8, prompts(-1)[:16])
        for number in range(rounds):
            if number and time.monotonic() - begun > 60 * minutes * number / (number + 1):
                break  # another round would not end in time
            for concurrency in concurrencies:
                texts = prompts(1000 * concurrency + number)
                for who in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                    if who == "ours":
                        ours[concurrency].append(asyncio.run(by_us(url, concurrency, texts)))
                    else:
                        theirs[concurrency].append(by_them(other, url, folder, concurrency, texts))
                one, two = ours[concurrency][-1], theirs[concurrency][-1]
                print(f"{concurrency} at once, round {number}: ours {one.rate:.1f}, vLLM's {two.rate:.1f}", flush=True)
                if (one.tokens_in, one.tokens_out) != (two.tokens_in, two.tokens_out):
                    sys.exit(f"the clients did not ask for the same: {one}, {two}")
    return [row(concurrency, ours[concurrency], theirs[concurrency]) for concurrency in concurrencies]


def row(concurrency: int, ours: Sequence[Round], theirs: Sequence[Round]) -> dict[str, Any]:
    """A line of the table."""
    rates = {"ours": [one.rate for one in ours], "vllm_bench": [one.rate for one in theirs]}
    share = median(rates["ours"]) / median(rates["vllm_bench"])
    logs = np.log(np.array(rates["ours"]) / np.array(rates["vllm_bench"]))
    draws = np.random.default_rng(derive(0, "rounds", concurrency)).choice(logs, (4000, len(logs))).mean(axis=1)
    paired = np.exp([logs.mean(), *np.quantile(draws, [0.025, 0.975])]).tolist()
    tokens = {"tokens_in": ours[0].tokens_in / REQUESTS, "tokens_out": ours[0].tokens_out / REQUESTS}
    return {"concurrency": concurrency, **rates, "share": share, "paired": paired, **tokens}


def page(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = result["rows"]
    best = max(rows, key=lambda one: median(one["vllm_bench"]))
    made = (
        f"Made by `benchmarks/server_throughput.py`: {REQUESTS} chat requests a round, of {best['tokens_in']:.0f}"
        f" tokens in and {best['tokens_out']:.0f} out, {len(best['ours'])} rounds of each client in turns; server and"
        " clients share the cores. Median (least to most); then the share by medians, and round by round: geometric"
        " mean with a bootstrap interval of 95%."
    )
    lines = [
        "# Requests a second against a real vLLM",
        "",
        f"{result['machine']}; load before {result['load']:.1f}. {result['note']}".rstrip(),
        "",
        made,
        "",
        "| at once | our client | vllm bench serve | share of the medians | share round by round |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in rows:
        shown = (f"{median(xs):.1f} ({min(xs):.1f} to {max(xs):.1f})" for xs in (one["ours"], one["vllm_bench"]))
        lines.append(f"| {one['concurrency']} | {' | '.join(shown)} | {one['share']:.3f} | {between(one['paired'])} |")
    mean, low, _ = best["paired"]
    held = "held" if low >= PROMISE else "held by the mean, not surely" if mean >= PROMISE else "NOT held"
    told = (
        f"vLLM's client is at its best with {best['concurrency']} at once; there ours reaches {mean:.1%} of"
        f" its requests a second round by round, {best['share']:.1%} by medians. Wanted: {PROMISE:.0%}; {held}."
    )
    lines += ["", told]
    return "\n".join(lines) + "\n"


def between(paired: Sequence[float]) -> str:
    """A mean with its interval."""
    return f"{paired[0]:.3f} [{paired[1]:.3f}, {paired[2]:.3f}]"


def machine() -> str:
    """Processor, cores and Python."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name", 1)[1]
        name = told.split("\n", 1)[0].partition(":")[2].strip()
    except (OSError, IndexError):
        name = platform.machine()
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, required=True, help="environment that make_venv.sh makes")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=60.0, help="no further round where it would end later")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--note", default="", help="a sentence for the page, on the state of the machine")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # the server must not outlive it
    load = os.getloadavg()[0]
    rows = measure(options.vllm.resolve(), options.rounds, options.concurrency, options.minutes)
    result = {"machine": machine(), "load": load, "note": options.note, "rows": rows}
    text = page(result)
    print(text)
    (options.out / "server_throughput.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "server_throughput.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

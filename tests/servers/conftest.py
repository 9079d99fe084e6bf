"""The real server: vLLM on the CPU, in a virtual environment of its own, one for all tests of this folder."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

VENV = Path(__file__).resolve().parents[2] / ".venv-vllm"
START_S = 400.0


@dataclass(frozen=True)
class RealServer:
    """Where the server listens and what it serves."""

    url: str
    model: Path


@pytest.fixture(scope="session")
def real_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running vLLM with a tiny random model; killed, with all its processes, at the end."""
    if "servers" not in str(request.config.getoption("markexpr")):
        pytest.skip("starts a real server, about a minute: run with -m servers")
    if not list(VENV.glob(".complete-*")):
        pytest.skip("no .venv-vllm: run tests/servers/make_venv.sh (3 GB, some minutes)")
    from tests.servers.tiny_model import build

    folder = tmp_path_factory.mktemp("server")
    build(folder / "model", seed=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"model": folder / "model", "served-model-name": "tiny", "host": "127.0.0.1", "port": port}
    flags |= {"dtype": "float32", "max-model-len": 512, "max-num-seqs": 16}
    command = [VENV / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    quiet["TORCHDYNAMO_DISABLE"] = "1"  # compiling the sampler takes minutes on a busy machine, and gains nothing here
    env = {**os.environ, **quiet, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=folder, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield RealServer(f"http://127.0.0.1:{port}", folder / "model")
    finally:
        # The engine runs in processes of its own: all of the session go, however the parent fares.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < START_S:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail("the server did not start:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))

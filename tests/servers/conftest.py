"""Real servers: vLLM on the CPU and `transformers serve`, in an environment of their own; one each for all tests."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

VENV = Path(__file__).resolve().parents[2] / ".venv-vllm"
START_S = 1500.0


@dataclass(frozen=True)
class RealServer:
    """Where the server listens and what it serves."""

    url: str
    model: Path


@pytest.fixture(scope="session")
def real_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running vLLM with a tiny random model; killed, with all its processes, at the end."""
    folder = _asked(request, tmp_path_factory)
    from tests.servers.tiny_model import build

    build(folder / "model", seed=0)
    with _vllm(folder, context=512) as url:
        yield RealServer(url, folder / "model")


@pytest.fixture(scope="session")
def judge_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running vLLM with a tiny random model that has the vocabulary and template of R1-Distill-Qwen."""
    folder = _asked(request, tmp_path_factory)
    from tests.servers.tiny_qwen import CONTEXT, DATA, build

    if not DATA.exists():
        pytest.skip("needs ../shared/data")
    build(folder / "model", seed=0)
    with _vllm(folder, context=CONTEXT) as url:
        yield RealServer(url, folder / "model")


@pytest.fixture(scope="session")
def plain_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running `transformers serve`, which takes many parameters and ignores them."""
    folder = _asked(request, tmp_path_factory)
    from tests.servers.tiny_model import build

    build(folder / "model", seed=0)
    port = _free_port()
    command = [VENV / "bin" / "transformers", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with _running([*command, "--device", "cpu"], folder, url=f"http://127.0.0.1:{port}", answers="/v1/models") as url:
        yield RealServer(url, folder / "model")


def _asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a server that was asked for, and can be started."""
    if "servers" not in str(request.config.getoption("markexpr")):
        pytest.skip("starts a real server, about a minute: run with -m servers")
    if not list(VENV.glob(".complete-*")):
        pytest.skip("no .venv-vllm: run tests/servers/make_venv.sh (3 GB, some minutes)")
    return tmp_path_factory.mktemp("server")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _vllm(folder: Path, *, context: int) -> Generator[str]:
    port = _free_port()
    flags = {"model": folder / "model", "served-model-name": "tiny", "host": "127.0.0.1", "port": port}
    flags |= {"dtype": "float32", "max-model-len": context, "max-num-seqs": 16}
    # A prompt is read in one piece: vLLM on the CPU dies where it reads a seeded request's prompt in two.
    flags |= {"max-num-batched-tokens": 16 * context}
    command = [VENV / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    with _running(command, folder, url=f"http://127.0.0.1:{port}", answers="/health") as url:
        yield url


@contextmanager
def _running(command: list[str | Path], folder: Path, *, url: str, answers: str) -> Generator[str]:
    """The server's process while the block runs."""
    (folder / "home" / "hub").mkdir(parents=True)  # transformers serve lists the models of the hub's cache
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HOME": str(folder / "home")}
    quiet["TORCHDYNAMO_DISABLE"] = "1"  # compiling the sampler takes minutes on a busy machine, and gains nothing here
    env = {**os.environ, **quiet, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=folder, start_new_session=True)
    try:
        _wait(process, url + answers, log)
        yield url
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

"""Discriminative judges against a real vLLM: the pooling route and next tokens, equal to a local forward pass."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.scoring import load_classifier
from stepcredit.engines.server import ServerClient, ServerSettings
from stepcredit.engines.server.pooling import PoolingClient
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.discriminative.formats import MarkedFormat, TurnsFormat
from stepcredit.judges.discriminative.judge import DiscriminativeJudge
from stepcredit.judges.discriminative.next_tokens import NextTokenClassifier
from tests.servers.conftest import VENV, RealServer, _wait

pytestmark = pytest.mark.servers

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
STEPS = ("2 + 3 is 5.\n\n", "A mark in a step: <extra_0><extra_0>.\n\n", "So 5.")


def cut(texts: tuple[str, ...] = STEPS) -> Steps:
    starts = np.cumsum([0, *map(len, texts)])[: len(texts)]
    ids = np.arange(len(texts))
    rollout = Rollout("r0", Problem("p0", "What is 2 + 3?", "5"), "g0", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "right"), ids, "paragraph", np.zeros(len(texts), bool), closed=False)


def build_reward_model(folder: Path) -> int:
    """A tiny random model as Qwen2.5-Math-PRM's is laid out, with a byte-level tokenizer; gives the mark's id."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(t, normalized=False) for t in ("<|im_start|>", "<|im_end|>", "<extra_0>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", chat_template=TEMPLATE)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=264,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,  # head_dim 32: vLLM's CPU kernels fail below
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    backbone = Qwen2Model(config)
    score = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
    weights = {f"model.{name}": tensor.clone() for name, tensor in backbone.state_dict().items()}
    weights |= {f"score.{name}": tensor.clone() for name, tensor in score.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    said = {**config.to_dict(), "architectures": ["Qwen2ForProcessRewardModel"], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(said))
    return int(raw.token_to_id("<extra_0>"))


@pytest.fixture(scope="module", params=["STEP", "ALL"])
def reward_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running vLLM with a tiny reward model, pooling at the marks or at every token; killed at the end."""
    if "servers" not in str(request.config.getoption("markexpr")):
        pytest.skip("starts a real server, about a minute: run with -m servers")
    if not list(VENV.glob(".complete-*")):
        pytest.skip("no .venv-vllm: run tests/servers/make_venv.sh (3 GB, some minutes)")
    folder = tmp_path_factory.mktemp("reward")
    mark = build_reward_model(folder / "model")
    pooler: dict[str, object] = {"tok_pooling_type": request.param}
    pooler |= {"step_tag_id": mark} if request.param == "STEP" else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"model": folder / "model", "served-model-name": "tiny-prm", "host": "127.0.0.1", "port": port}
    flags |= {"dtype": "float32", "max-model-len": 400, "max-num-seqs": 8, "pooler-config": json.dumps(pooler)}
    command = [VENV / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TORCHDYNAMO_DISABLE": "1"}
    env = {**os.environ, **quiet, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=folder, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield RealServer(f"http://127.0.0.1:{port}", folder / "model")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def client_of(server: RealServer) -> PoolingClient:
    return PoolingClient(ServerSettings(server.url, key_variable="NO_SUCH_KEY"))


def form_of(server: RealServer) -> MarkedFormat:
    return MarkedFormat(FileTokenizer.load(server.model), ChatTemplate.load(server.model))


def scores(verdicts: tuple[Verdict, ...]) -> list[float | None]:
    return [verdict.score for verdict in verdicts]


def test_the_pooling_route_gives_the_scores_of_a_local_forward_pass(reward_server: RealServer):
    async def go() -> None:
        form = form_of(reward_server)
        with load_classifier(reward_server.model) as local:
            async with client_of(reward_server) as client:
                assert await client.context() == 400
                for texts in (STEPS, ("Done.",), ("a", "b", "c", "d" * 60)):
                    found = await DiscriminativeJudge(client, form).judge(cut(texts))
                    want = await DiscriminativeJudge(local, form).judge(cut(texts))
                    assert scores(found) == pytest.approx(scores(want), abs=1e-4)
                    assert all(verdict.calls for verdict in found)
                assert len({round(score or 0, 3) for score in scores(want)}) > 1

    asyncio.run(go())


def test_many_at_once_give_the_same_as_one_by_one(reward_server: RealServer):
    async def go() -> None:
        form = form_of(reward_server)
        async with client_of(reward_server) as client:
            judge = DiscriminativeJudge(client, form)
            several = [cut((f"{k} + 3 is {k + 3}.", "So.")) for k in range(24)]
            together = await asyncio.gather(*(judge.judge(steps) for steps in several))
            for k in (0, 11, 23):
                assert scores(await judge.judge(several[k])) == pytest.approx(scores(together[k]), abs=1e-4)

    asyncio.run(go())


def test_steps_beyond_the_servers_context_are_unknown(reward_server: RealServer):
    async def go() -> None:
        async with client_of(reward_server) as client:
            found = await DiscriminativeJudge(client, form_of(reward_server)).judge(cut(("short.", "x" * 500, "end")))
            assert [verdict.known for verdict in found] == [True, False, False]
            assert "the model reads 400" in found[1].reason
            with pytest.raises(UsageError, match="do not fit the model's context"):
                await client.classify(np.zeros(450, np.int32), np.array([1]))

    asyncio.run(go())


def test_next_tokens_give_the_scores_of_a_local_forward_pass(real_server: RealServer):
    """RLHFlow's format on a server that generates: one question a step, read by token id."""

    async def go() -> None:
        form = TurnsFormat(FileTokenizer.load(real_server.model), ChatTemplate.load(real_server.model))
        with load_classifier(real_server.model, candidates=form.candidates) as local:
            async with ServerClient(ServerSettings(real_server.url, key_variable="NO_SUCH_KEY")) as client:
                context = (await client.probe()).context
                served = NextTokenClassifier(client, form.candidates, context=context)
                found = await DiscriminativeJudge(served, form).judge(cut())
                want = await DiscriminativeJudge(local, form).judge(cut())
        assert scores(found) == pytest.approx(scores(want), abs=1e-4)

    asyncio.run(go())

"""Judges that write, end to end on a real vLLM: their scores are those of a transformers forward pass."""

import asyncio
import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import stepcredit
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import NextTokens, Writing, Written
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.server import ServerClient, ServerSettings
from stepcredit.engines.server.meeting import meet_writer
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges import GenPrmJudge, GenPrmSettings, ThinkPRMJudge, ThinkPRMSettings
from stepcredit.judges.genprm.settings import PROFILES as GENPRM
from stepcredit.judges.thinkprm.prompt import PROFILES as THINKPRM
from stepcredit.recipes.judge_file import judge_file
from tests.servers.conftest import RealServer

pytestmark = pytest.mark.servers

TEXTS = ("The box holds 3 rows of 4 apples: 3 * 4 = 14.\n\n", "With 7 more that makes 14 + 7 = 21.\n\n", "So 21.")
QUIET = "NO_SUCH_KEY"


class Recorded:
    """A writer that keeps what it was asked and what it said."""

    def __init__(self, client: ServerClient) -> None:
        self._client, self.fingerprint = client, "recorded"
        self.looked: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.wrote: list[tuple[np.ndarray, Written]] = []

    async def write(self, prompt_ids: np.ndarray, writing: Writing, *, seed: int) -> Written:
        done = await self._client.write(prompt_ids, writing, seed=seed)
        self.wrote.append((prompt_ids, done))
        return done

    async def next_tokens(self, prompt_ids: np.ndarray, candidates: np.ndarray) -> NextTokens:
        found = await self._client.next_tokens(prompt_ids, candidates)
        self.looked.append((prompt_ids, candidates, found.logprobs))
        return found


def solution(texts: tuple[str, ...] = TEXTS) -> Steps:
    starts = np.cumsum([0, *map(len, texts)])[: len(texts)]
    ids = np.arange(len(texts))
    problem = Problem("p", "A box holds 3 rows of 4 apples, and 7 more. How many?", "19")
    rollout = Rollout("r0", problem, "g", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "wrong"), ids, "paragraph", np.zeros(len(texts), bool), closed=False)


def share(server: RealServer, prompt: np.ndarray, candidates: np.ndarray) -> float:
    """p(first) / (p(first) + p(second)) after the prompt, by transformers in float32."""
    model = AutoModelForCausalLM.from_pretrained(server.model, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor(np.asarray(prompt, np.int64)[None])).logits[0, -1].double()
    pair = torch.softmax(logits[torch.tensor(candidates.astype(np.int64))], 0)
    return float(pair[0])


def parts(server: RealServer) -> tuple[FileTokenizer, ChatTemplate]:
    return FileTokenizer.load(server.model), ChatTemplate.load(server.model, variables={"enable_thinking": True})


def metric(server: RealServer, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"vllm:{name}"))


@pytest.mark.parametrize("profile", ["trained", "reference"])
def test_thinkprm_scores_equal_a_forward_pass(judge_server: RealServer, profile: str) -> None:
    async def go() -> None:
        async with ServerClient(ServerSettings(judge_server.url, key_variable=QUIET)) as client:
            tokenizer, chat = parts(judge_server)
            assert await meet_writer(client, tokenizer, judge="thinkprm") == 4096
            writer = Recorded(client)
            settings = ThinkPRMSettings(
                "prefixes", THINKPRM[profile], votes=4, temperature=1.0, max_tokens=200, resample=False, context=4096
            )
            judge = ThinkPRMJudge(writer, tokenizer, chat, settings)
            verdicts = await judge.judge(solution())
        assert judge.counts.chains == 12
        assert 4 <= len(writer.looked) == judge.counts.scores <= 12
        by_prompt = {prompt.tobytes(): share(judge_server, prompt, pair) for prompt, pair, _ in writer.looked}
        for prompt, done in writer.wrote:
            assert prompt.tolist().count(151646) == 1, "one begin token"
            assert done.finish in ("stop", "length")
        means: list[list[float]] = [[] for _ in TEXTS]
        for prompt, _, _ in writer.looked:
            size = tokenizer.decode(prompt).partition("[Solution]")[2].partition("Review and")[0].count("Step ")
            means[size - 1].append(by_prompt[prompt.tobytes()])
        for verdict, found in zip(verdicts, means, strict=True):
            if found:
                assert verdict.score == pytest.approx(np.mean(found), abs=1e-4)
            else:
                assert verdict.score is None
        assert any(verdict.score is not None for verdict in verdicts)

    asyncio.run(go())


@pytest.mark.parametrize("mode", ["analyze", "direct"])
def test_genprm_scores_equal_a_forward_pass_and_its_turns_hit_the_prefix_cache(
    judge_server: RealServer, mode: str
) -> None:
    async def go() -> None:
        async with ServerClient(ServerSettings(judge_server.url, key_variable=QUIET)) as client:
            tokenizer, chat = parts(judge_server)
            await client.probe()
            writer = Recorded(client)
            settings = GenPrmSettings(mode=mode, step_tokens=150, context_tokens=4096, seed=7)  # type: ignore[arg-type]
            judge = GenPrmJudge(writer, tokenizer, chat, settings)
            before = metric(judge_server, "prefix_cache_hits_total"), metric(judge_server, "prefix_cache_queries_total")
            verdicts = await judge.judge(solution())
            after = metric(judge_server, "prefix_cache_hits_total"), metric(judge_server, "prefix_cache_queries_total")
        wanted = [share(judge_server, prompt, pair) for prompt, pair, _ in writer.looked]
        assert len(wanted) == len(TEXTS)
        for verdict, found in zip(verdicts, wanted, strict=True):
            assert verdict.score == pytest.approx(found, abs=1e-4)
        prompts = [prompt for prompt, _, _ in writer.looked]
        assert prompts[0].tolist() == prompts[2].tolist()[: len(prompts[0])], "each turn goes on from the last"
        hits, asked = after[0] - before[0], after[1] - before[1]
        sys.stdout.write(f"\n{mode}: {hits:.0f} of {asked:.0f} prompt tokens came from the prefix cache\n")
        if mode == "analyze":
            assert hits >= 128
            assert hits > 0.3 * asked

    asyncio.run(go())


def test_the_reference_profile_of_genprm_is_served(judge_server: RealServer) -> None:
    """Its verdict is written, and a random model writes none: unknown, with the reason, and never a number."""

    async def go() -> None:
        async with ServerClient(ServerSettings(judge_server.url, key_variable=QUIET)) as client:
            tokenizer, chat = parts(judge_server)
            writer = Recorded(client)
            settings = GenPrmSettings(**{**vars(GENPRM["reference"]), "step_tokens": 60, "context_tokens": 4096})
            verdicts = await GenPrmJudge(writer, tokenizer, chat, settings).judge(solution())
        assert all(prompt.tolist().count(151646) == 2 for prompt, _ in writer.wrote)
        assert [verdict.score for verdict in verdicts] == [None] * 3
        assert all("no verdict could be read" in verdict.reason for verdict in verdicts)

    asyncio.run(go())


@pytest.mark.parametrize("judge", ["thinkprm", "genprm"])
def test_the_command_judges_a_file(judge_server: RealServer, judge: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"problem": "3 * 4 + 7?", "answer": "19", "steps": list(TEXTS)}) + "\n", "utf-8")
    small = ("checker.mode=string", "thinkprm.mode=prefixes", "thinkprm.votes=4", "thinkprm.max_tokens=200")
    small += ("thinkprm.temperature=1.0", "thinkprm.context=4096", "limits.unknown_from=100")
    small += ("genprm.step_tokens=60", "genprm.context_tokens=4096")
    where = {"server": judge_server.url, "tokenizer": str(judge_server.model), "overrides": small}
    result = judge_file(file, out=tmp_path / "run", judge=judge, **where)  # type: ignore[arg-type]
    again = judge_file(file, out=tmp_path / "run", judge=judge, **where)  # type: ignore[arg-type]
    assert result.summary["judged"] == again.summary["judged"] == 1
    assert again.summary["resumed"] == 1
    assert result.summary["signatures"]["scores"] > 0
    scores = [verdict.score for verdict in result.judgements[0].verdicts]
    assert scores == [verdict.score for verdict in again.judgements[0].verdicts]
    assert all(score is None or 0 < score < 1 for score in scores)


def test_a_tokenizer_of_another_model_is_refused(real_server: RealServer, judge_server: RealServer) -> None:
    rows = {"problem": "p", "answer": "1", "completion": "So 1."}
    asked = {"judge": "genprm", "server": real_server.url, "tokenizer": judge_server.model}
    with pytest.raises(UsageError, match="the tokenizer is not that of the served model"):
        stepcredit.judge(rows, overrides=["checker.mode=string"], **asked)  # type: ignore[arg-type]


def test_transformers_serve_is_refused_for_what_it_ignores(plain_server: RealServer) -> None:
    async def go() -> None:
        where = ServerSettings(plain_server.url, model=str(plain_server.model), key_variable=QUIET)
        async with ServerClient(where) as client:
            tokenizer = FileTokenizer.load(plain_server.model)
            with pytest.raises(UsageError, match="goes on with token ids and reads log probabilities, and this server"):
                await meet_writer(client, tokenizer, judge="thinkprm")
            can = await client.probe()
            assert set(can.missing(*[name for name in vars(can) if name != "context"])) >= {"token_ids_in", "logprobs"}

    asyncio.run(go())

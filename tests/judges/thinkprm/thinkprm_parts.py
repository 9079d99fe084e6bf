"""Tokenizers, templates and solutions for ThinkPRM tests."""

import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from stepcredit.core.protocols import Writing
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.thinkprm.chains import ThinkPRMSettings
from stepcredit.judges.thinkprm.judge import ThinkPRMJudge
from stepcredit.testing import ScriptedWriter

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
R1_TOKENS = (EOS, "<｜User｜>", "<｜Assistant｜>", BOS, "<|EOT|>", "<think>", "</think>")
"""Added tokens of the R1-Distill-Qwen tokenizers, from id 151643 on, where Qwen2.5 has others."""

R1_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)
GOOD, BAD = "The step is \\boxed{correct}.\n", "The step is \\boxed{incorrect}.\n"
YES, NO = {" Yes": 0.6, " No": 0.2}, {" Yes": 0.1, " No": 0.8}


@cache
def small_tokenizer() -> FileTokenizer:
    """A byte a token, beside the tokens of the R1 template and the words that are read."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, normalized=False) for token in R1_TOKENS])
    words = (" yes", " no", " Yes", " No", "incorrect", "correct")
    raw.add_tokens([AddedToken(word, normalized=False) for word in words])
    return FileTokenizer(raw, EOS)


@cache
def qwen_tokenizer() -> FileTokenizer:
    """The real Qwen2.5 tokenizer with the added tokens of R1-Distill-Qwen; skips where the data is absent."""
    file = DATA / "tokenizer_qwen2_5" / "tokenizer.json.gz"
    if not file.exists():
        pytest.skip("needs ../shared/data/tokenizer_qwen2_5")
    content = json.loads(gzip.decompress(file.read_bytes()))
    form = content["added_tokens"][0]
    content["added_tokens"] = [form | {"id": 151643 + k, "content": token} for k, token in enumerate(R1_TOKENS)]
    return FileTokenizer(Tokenizer.from_str(json.dumps(content)), EOS)


def r1_template(**variables: bool) -> ChatTemplate:
    """The real R1-Distill template; skips where the data is absent."""
    file = DATA / "chat_templates" / "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja"
    if not file.exists():
        pytest.skip("needs ../shared/data/chat_templates")
    return ChatTemplate(file.read_text(encoding="utf-8"), BOS, EOS, variables=variables)


def small_template() -> ChatTemplate:
    return ChatTemplate(R1_TEMPLATE, BOS, EOS)


def solution(texts: Sequence[str], *, problem: str = "How many?", name: str = "r0") -> Steps:
    """A rollout cut into the given steps, one token a step."""
    starts = np.cumsum([0, *(len(text) for text in texts)])[:-1]
    ids = np.arange(len(texts))
    rollout = Rollout(name, Problem("p0", problem, "1"), "g0", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "right"), ids, "paragraph", np.zeros(len(texts), bool), False)


def judge_of(script, following=None, **settings) -> tuple[ThinkPRMJudge, ScriptedWriter]:
    """A judge over a scripted writer, with its writer."""
    tokenizer = small_tokenizer()
    writer = ScriptedWriter(tokenizer, script, YES if following is None else following)
    return ThinkPRMJudge(writer, tokenizer, small_template(), ThinkPRMSettings(**settings)), writer


def endless(_: str, writing: Writing) -> str:
    """A text longer than any limit, which does not repeat itself."""
    return " ".join(f"thought {number}" for number in range(writing.max_tokens))

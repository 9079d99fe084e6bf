"""A small tokenizer and chat template with R1's special tokens, a scripted code runner, and solutions to judge."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.genprm.judge import GenPrmJudge
from stepcredit.judges.genprm.settings import GenPrmSettings
from stepcredit.testing import ScriptedWriter

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"

BOS, USER, ASSISTANT, EOS = "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"
SPECIALS = (EOS, USER, ASSISTANT, BOS, "<|EOT|>", "<think>", "</think>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}<｜User｜>{% elif m.role == 'assistant' %}<｜Assistant｜>{% endif %}{{ m.content }}"
    "{% if m.role == 'assistant' %}<｜end▁of▁sentence｜>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
CHAT = ChatTemplate(TEMPLATE, BOS, EOS)


def _little() -> FileTokenizer:
    words = [bytes([b]) for b in range(256)]
    alphabet = dict(zip(range(256), _byte_characters(), strict=True))
    vocabulary = {alphabet[w[0]]: i for i, w in enumerate(words)}
    vocabulary |= {"Ye": 256, "Yes": 257, "No": 258}
    inner = Tokenizer(models.BPE(vocabulary, [("Y", "e"), ("Ye", "s"), ("N", "o")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    return FileTokenizer(inner, EOS)


def _byte_characters() -> list[str]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


LITTLE = _little()
"""Bytes, Yes, No and R1's special tokens."""


def r1_tokenizer() -> FileTokenizer:
    """The real Qwen2.5 vocabulary with the special tokens of R1-Distill-Qwen in their places."""
    path = DATA / "tokenizer_qwen2_5" / "tokenizer.json.gz"
    if not path.is_file():
        pytest.skip("needs ../shared/data/tokenizer_qwen2_5")
    file = json.loads(gzip.decompress(path.read_bytes()))
    file["added_tokens"] = [
        {**added, "content": SPECIALS[added["id"] - 151643], "special": added["content"] == EOS}
        for added in file["added_tokens"]
        if added["id"] - 151643 < len(SPECIALS)
    ]
    return FileTokenizer(Tokenizer.from_str(json.dumps(file)), EOS)


def r1_template() -> ChatTemplate:
    """The chat template of R1-Distill-Qwen, which GenPRM starts from."""
    path = DATA / "chat_templates" / "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja"
    if not path.is_file():
        pytest.skip("needs ../shared/data/chat_templates")
    return ChatTemplate(path.read_text("utf-8"), BOS, EOS)


def solution(texts, *, problem="1 + 1?", name="r0") -> Steps:
    """A rollout with one token a step."""
    starts = np.cumsum([0, *(len(text) for text in texts)])[:-1]
    ids = np.arange(len(texts))
    rollout = Rollout(name, Problem("p0", problem, "2"), "g0", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "right"), ids, "paragraph", np.zeros(len(texts), bool), closed=False)


def judge_of(script, following=None, *, runner=None, **settings):
    """A judge on the small tokenizer, and its writer."""
    writer = ScriptedWriter(LITTLE, script, {"Yes": 0.8, "No": 0.1} if following is None else following)
    return GenPrmJudge(writer, LITTLE, chat=CHAT, settings=GenPrmSettings(**settings), runner=runner), writer

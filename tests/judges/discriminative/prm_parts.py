"""Tokenizers, templates and solutions for tests of discriminative PRMs."""

import gzip
import json
from functools import cache
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.tokenizer import FileTokenizer

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>")
LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)


def byte_level(tokens: tuple[str, ...], eos: str) -> FileTokenizer:
    """A byte a token, beside added ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, normalized=False) for token in tokens])
    return FileTokenizer(raw, eos)


@cache
def qwen_like() -> FileTokenizer:
    return byte_level(QWEN_TOKENS, "<|im_end|>")


@cache
def llama_like() -> FileTokenizer:
    return byte_level(LLAMA_TOKENS, "<|eot_id|>")


@cache
def mistral_like() -> FileTokenizer:
    """As SentencePiece models are exported: a space before the text, byte fallback; ` ки`, ` +` and ` -` are tokens."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += [*"▁abcdefghijklmnopqrstuvwxyzSIT0123456789.:=?", *"ки+-", "▁к", "▁ки", "▁+", "▁-"]
    merges = [("▁", "к"), ("▁к", "и"), ("▁", "+"), ("▁", "-")]
    vocabulary = {word: index for index, word in enumerate(words)}
    raw = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    raw.decoder = decoders.Sequence(parts)
    raw.add_special_tokens([AddedToken(word, normalized=False) for word in ("<unk>", "<s>", "</s>")])
    return FileTokenizer(raw, "</s>")


@cache
def qwen_real() -> FileTokenizer:
    """The real Qwen2.5 tokenizer with `<extra_0>` where the PRM's has it; skips where the data is absent."""
    file = DATA / "tokenizer_qwen2_5" / "tokenizer.json.gz"
    if not file.exists():
        pytest.skip("needs ../shared/data/tokenizer_qwen2_5")
    content = json.loads(gzip.decompress(file.read_bytes()))
    for token in content["added_tokens"]:
        if token["id"] == 151651:
            token["content"] = "<extra_0>"
    return FileTokenizer(Tokenizer.from_str(json.dumps(content)), "<|im_end|>")


def qwen_template() -> ChatTemplate:
    """The real Qwen2.5 template; skips where the data is absent."""
    file = DATA / "chat_templates" / "qwen2_5.jinja"
    if not file.exists():
        pytest.skip("needs ../shared/data/chat_templates")
    return ChatTemplate(file.read_text(encoding="utf-8"), "", "<|im_end|>")


def llama_template() -> ChatTemplate:
    return ChatTemplate(LLAMA_TEMPLATE, "<|begin_of_text|>", "<|eot_id|>")

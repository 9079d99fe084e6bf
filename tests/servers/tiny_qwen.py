"""A tiny random Qwen2 with the real Qwen2.5 vocabulary and the special tokens of R1-Distill, as checkpoints of
ThinkPRM and GenPRM have them; it ends its texts now and then, and what else it writes is noise."""

import gzip
import json
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
R1_TOKENS = (EOS, "<｜User｜>", "<｜Assistant｜>", BOS, "<|EOT|>", "<think>", "</think>")
FIRST_ADDED = 151643
CONTEXT = 4096


def build(folder: Path, *, seed: int) -> None:
    """Write model, tokenizer and chat template to the folder.

    The hidden state keeps a first channel by which the end token becomes likely in about one place of five: without
    it no text of a random model over 151,000 tokens would end.
    """
    folder.mkdir(parents=True)
    content = json.loads(gzip.decompress((DATA / "tokenizer_qwen2_5" / "tokenizer.json.gz").read_bytes()))
    form = content["added_tokens"][0]
    content["added_tokens"] = [form | {"id": FIRST_ADDED + k, "content": token} for k, token in enumerate(R1_TOKENS)]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    config = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    config |= {"add_bos_token": True, "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    template = DATA / "chat_templates" / "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja"
    (folder / "chat_template.jinja").write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=FIRST_ADDED + len(R1_TOKENS),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,  # head_dim 32: vLLM's CPU kernels fail below
            num_key_value_heads=1,
            max_position_embeddings=CONTEXT,
            initializer_range=0.15,
            bos_token_id=FIRST_ADDED + R1_TOKENS.index(BOS),
            eos_token_id=FIRST_ADDED,
            pad_token_id=None,
            tie_word_embeddings=False,
        )
    ).to(torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 2.0
        ids = torch.randint(0, FIRST_ADDED, (8, 64), generator=torch.Generator().manual_seed(seed))
        hidden = model.model(ids).last_hidden_state
        logits = model.lm_head(hidden)
        wanted = torch.logsumexp(logits, -1).mean() - 3.5
        model.lm_head.weight[FIRST_ADDED] = 0.0
        model.lm_head.weight[FIRST_ADDED, 0] = wanted / hidden[..., 0].mean()
    model.save_pretrained(folder)

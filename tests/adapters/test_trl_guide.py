"""The script of docs/guide/trl.md runs as it stands there, on a tiny model in place of the one that it downloads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

cases = pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")

ROOT = Path(__file__).resolve().parents[2]
MODEL = '"Qwen/Qwen3-0.6B"'


def save_model(folder: Path) -> None:
    """A tiny random Llama over bytes, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={text: k for k, text in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(alphabet), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=512, pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def test_the_script_of_the_guide_runs(tmp_path: Path) -> None:
    """Changed are the model's name and what the guide says to change where there is no GPU; fewer tokens, for time."""
    save_model(tmp_path / "model")
    script = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guide/trl.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert MODEL in script
    assert "max_steps=8" in script
    script = script.replace(MODEL, f'"{tmp_path / "model"}"')
    script = script.replace("max_steps=8", "max_steps=2, max_completion_length=32, use_cpu=True, bf16=False")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "script.py"]
    options = {"cwd": tmp_path, "env": {**os.environ, **offline}}
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'stepcredit/right': " in done.stdout

"""Scores of each format equal those of the models' own recipes, done with transformers alone, within 1e-4.

The models are tiny and random; the tokenizer of the first is the real one of Qwen2.5.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from prm_parts import QWEN_TEMPLATE, llama_like, llama_template, mistral_like, qwen_like, qwen_real, qwen_template
from safetensors.torch import save_file
from torch import nn

from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.scoring import load_classifier
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.discriminative.formats import MarkedFormat, TaggedFormat, TurnsFormat
from stepcredit.judges.discriminative.judge import DiscriminativeJudge

transformers = pytest.importorskip("transformers")

PROBLEM = "Let f(x) = 2x + 3. What is f(4) (as a number)?"
STEPS = ("f(4) = 2 \\cdot 4 + 3.\n\n", "So f(4) = 8 + 3 = 12.\n\n", "The answer is: \\boxed{12}.")
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 1, "max_position_embeddings": 2048, "initializer_range": 0.4}


def cut(texts=STEPS):
    starts = np.cumsum([0, *map(len, texts)])[: len(texts)]
    ids = np.arange(len(texts))
    rollout = Rollout("r0", Problem("p0", PROBLEM, "11"), "g0", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "right"), ids, "paragraph", np.zeros(len(texts), bool), closed=False)


def own_tokenizer(tokenizer: FileTokenizer, template: ChatTemplate | None = None):
    """The same tokenizer as transformers has it."""
    raw = type(tokenizer._tokenizer).from_str(tokenizer._json)
    chat = {} if template is None else {"chat_template": template.source, "bos_token": template.bos or None}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **chat)


def causal(folder: Path, size: int):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=size, **SIZES)).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("which", ["real", "small"])
async def test_qwen_prm(tmp_path: Path, which: str):
    tokenizer = qwen_real() if which == "real" else qwen_like()
    template = qwen_template() if which == "real" else ChatTemplate(QWEN_TEMPLATE, eos="<|im_end|>")
    torch.manual_seed(1)
    model = transformers.Qwen2Model(transformers.Qwen2Config(vocab_size=tokenizer.size, **SIZES)).eval()
    head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    model.save_pretrained(tmp_path)
    weights = {f"score.{name}": tensor.clone() for name, tensor in head.state_dict().items()}
    save_file(weights, tmp_path / "head.safetensors", {"format": "pt"})
    with load_classifier(tmp_path) as classifier:
        found = await DiscriminativeJudge(classifier, MarkedFormat(tokenizer, template)).judge(cut())
    own = own_tokenizer(tokenizer, template)
    said = [
        {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."},
        {"role": "user", "content": PROBLEM},
        {"role": "assistant", "content": "<extra_0>".join(step.strip() for step in STEPS) + "<extra_0>"},
    ]
    ids = own.encode(own.apply_chat_template(said, tokenize=False), return_tensors="pt")
    with torch.no_grad():
        logits = head(model(ids).last_hidden_state)
    want = logits.softmax(dim=-1)[ids == own.encode("<extra_0>")[0]][:, 1].tolist()
    assert [verdict.score for verdict in found] == pytest.approx(want, abs=1e-4)
    assert len(want) == 3


async def test_math_shepherd(tmp_path: Path):
    tokenizer = mistral_like()
    model = causal(tmp_path, tokenizer.size)
    form = TaggedFormat(tokenizer, numbered=False)
    with load_classifier(tmp_path, candidates=form.candidates) as classifier:
        found = await DiscriminativeJudge(classifier, form).judge(cut())
    own = own_tokenizer(tokenizer)
    text = PROBLEM + " " + " ки\n".join(step.strip() for step in STEPS) + " ки"
    bos = own.convert_tokens_to_ids("<s>")
    ids = torch.tensor([[bos, *own.encode(text, add_special_tokens=False)]])
    candidates, tag = own.encode("+ -", add_special_tokens=False), own.encode("ки", add_special_tokens=False)[-1]
    with torch.no_grad():
        scores = model(ids).logits[:, :, candidates].softmax(dim=-1)[:, :, 0]
    want = scores[ids == tag].tolist()
    assert [verdict.score for verdict in found] == pytest.approx(want, abs=1e-4)
    assert len(want) == 3


async def test_rlhflow_turn_by_turn(tmp_path: Path):
    tokenizer, template = llama_like(), llama_template()
    model = causal(tmp_path, tokenizer.size)
    form = TurnsFormat(tokenizer, template, joint=" ")
    with load_classifier(tmp_path, candidates=form.candidates) as classifier:
        found = await DiscriminativeJudge(classifier, form).judge(cut())
    own = own_tokenizer(tokenizer, template)
    candidates = [own.encode("+", add_special_tokens=False)[-1], own.encode("-", add_special_tokens=False)[-1]]
    said, want = [], []
    for k, step in enumerate(STEPS):
        said.append({"role": "user", "content": f"{PROBLEM} {step.strip()}" if k == 0 else step.strip()})
        said.append({"role": "assistant", "content": "+"})
        ids = own.encode(own.apply_chat_template(said, tokenize=False), add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            want.append(float(model(ids).logits[0, -3, candidates].softmax(dim=-1)[0]))
    assert [verdict.score for verdict in found] == pytest.approx(want, abs=1e-4)

from dataclasses import replace

import numpy as np
import pytest
import torch

from stepcredit.core.errors import EngineError
from stepcredit.engines.learner import LearnerSettings, TorchLearner, demonstration_pack, weights_fingerprint

transformers = pytest.importorskip("transformers")
huggingface = pytest.importorskip("stepcredit.engines.learner.huggingface")

SIZES = {
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def llama(seed: int = 0, **sizes: object):
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**(SIZES | sizes)))


def mistral():
    torch.manual_seed(0)
    return transformers.MistralForCausalLM(transformers.MistralConfig(**SIZES, sliding_window=4))


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=23, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config)


def pack(seed: int = 0):
    rng = np.random.default_rng(seed)
    made = demonstration_pack([(rng.integers(0, 23, 3), rng.integers(0, 23, n)) for n in (9, 4, 4, 1, 12)])
    return replace(made, advantages=np.where(made.trained, rng.normal(size=len(made.ids)), 0))


def alone(model, of) -> np.ndarray:
    """Log probabilities by transformers' own forward pass, one sequence at a time."""
    result = np.full(len(of.ids), np.nan, np.float32)
    for a, b in zip(of.starts[:-1], of.starts[1:], strict=True):
        ids = torch.tensor(of.ids[a:b], dtype=torch.int64)
        with torch.no_grad():
            table = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        result[a + 1 : b] = table[:-1].gather(1, ids[1:, None])[:, 0].numpy()
    return np.where(of.trained, result, np.nan)


@pytest.mark.parametrize("build", [llama, mistral, gpt2])
def test_packed_logprobs_are_those_of_each_sequence_alone(build) -> None:
    expected = alone(build().eval(), pack())
    learner = TorchLearner(huggingface.HuggingFacePacked(build()), LearnerSettings(0.01))
    np.testing.assert_allclose(learner.logprobs(pack()), expected, atol=2e-5)


def test_micro_batches_and_checkpointing_give_the_same_update() -> None:
    made = pack()
    results = []
    for budget, checkpointing in ((4096, False), (10, False), (4096, True)):
        packed = huggingface.HuggingFacePacked(llama(), gradient_checkpointing=checkpointing)
        learner = TorchLearner(packed, LearnerSettings(0.01, token_budget=budget))
        results.append(learner.update(made.with_old_logprobs(learner.logprobs(made))))
    for result in results[1:]:
        assert result.loss == pytest.approx(results[0].loss, abs=1e-6)
        assert result.grad_norm == pytest.approx(results[0].grad_norm, rel=1e-4)


def test_dropout_is_off() -> None:
    made = pack()
    packed = huggingface.HuggingFacePacked(llama(attention_dropout=0.5), gradient_checkpointing=True)
    learner = TorchLearner(packed, LearnerSettings(0.01))
    update = learner.update(made.with_old_logprobs(learner.logprobs(made)))
    assert update.log_ratio_p99 < 1e-5


def test_ordinary_calls_are_unchanged() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [0, 0, 5, 6]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    model = llama().eval()
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).logits
        written = model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
        huggingface.HuggingFacePacked(model)
        assert torch.allclose(model(input_ids=ids, attention_mask=mask).logits, before, atol=1e-6)
        again = model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert torch.equal(written, again)


def test_state_and_fingerprint_are_those_of_the_inner_model() -> None:
    model = llama()
    learner = TorchLearner(huggingface.HuggingFacePacked(model), LearnerSettings(0.01))
    assert learner.fingerprint == weights_fingerprint(model)
    other = TorchLearner(huggingface.HuggingFacePacked(llama(1)), LearnerSettings(0.01))
    other.load(learner.state())
    assert other.fingerprint == learner.fingerprint


def test_muon_takes_the_matrices_of_the_layers() -> None:
    settings = LearnerSettings(0.01, optimiser="muon", matrix_learning_rate=0.02)
    learner = TorchLearner(huggingface.HuggingFacePacked(llama()), settings)
    made = pack()
    assert not learner.update(made.with_old_logprobs(learner.logprobs(made))).skipped


def test_scaled_logits_are_refused() -> None:
    torch.manual_seed(0)
    granite = transformers.GraniteForCausalLM(transformers.GraniteConfig(**SIZES, logits_scaling=4.0))
    with pytest.raises(EngineError, match="GraniteForCausalLM cannot read packed sequences: its logits differ"):
        huggingface.HuggingFacePacked(granite)

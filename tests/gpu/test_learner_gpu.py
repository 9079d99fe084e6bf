"""The learner on a GPU: the same updates as on the CPU, exact states, and the variable-length kernel."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from stepcredit.core.pack import Pack
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner, demonstration_pack

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

SMALL = ModelConfig(61, dim=64, layers=2, heads=4, kv_heads=2, hidden=96)


def _pack(seed: int = 0) -> Pack:
    rng = np.random.default_rng(seed)
    pairs = [(rng.integers(0, 61, 5), rng.integers(0, 61, rng.integers(3, 40))) for _ in range(24)]
    pack = demonstration_pack(pairs)
    return replace(pack, advantages=np.where(pack.trained, rng.normal(size=len(pack.ids)), 0))


def _learner(device: str, *, seed: int = 0, **settings: object) -> TorchLearner:
    model = CausalLM(SMALL, seed=seed).to(device)
    return TorchLearner(model, LearnerSettings(**({"learning_rate": 1e-3, "token_budget": 256} | settings)))


def test_updates_equal_those_of_the_cpu() -> None:
    cpu, gpu = _learner("cpu"), _learner("cuda")
    pack = _pack()
    pack = pack.with_old_logprobs(cpu.logprobs(pack))
    np.testing.assert_allclose(gpu.logprobs(pack), cpu.logprobs(pack), atol=1e-4)
    for _ in range(3):
        expected, update = cpu.update(pack), gpu.update(pack)
        assert update.loss == pytest.approx(expected.loss, abs=1e-4)
        assert update.grad_norm == pytest.approx(expected.grad_norm, rel=1e-2)


def test_fingerprint_does_not_depend_on_the_device() -> None:
    assert _learner("cuda").fingerprint == _learner("cpu").fingerprint


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_loaded_state_has_the_same_weights_moments_and_next_loss(optimiser: str) -> None:
    settings = {"optimiser": optimiser, "matrix_learning_rate": 0.02}
    straight, resumed = _learner("cuda", **settings), _learner("cuda", seed=1, **settings)
    pack = _pack()
    pack = pack.with_old_logprobs(straight.logprobs(pack))
    straight.update(pack)
    state = straight.state()
    resumed.load(state)
    assert resumed.state() == state
    assert resumed.update(pack).loss == pytest.approx(straight.update(pack).loss, abs=1e-6)


def test_bf16_stays_near_fp32() -> None:
    pack = _pack()
    exact, half = _learner("cuda").logprobs(pack), _learner("cuda", precision="bf16").logprobs(pack)
    np.testing.assert_allclose(half, exact, atol=0.15)
    assert not _learner("cuda", precision="bf16").update(pack.with_old_logprobs(exact)).skipped


@pytest.mark.parametrize("window", [None, 8])
def test_variable_length_kernel_equals_one_sequence_at_a_time(window: int | None) -> None:
    transformers = pytest.importorskip("transformers")
    from stepcredit.engines.learner.huggingface import HuggingFacePacked

    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        sliding_window=window,
    )
    model = transformers.MistralForCausalLM(config).cuda()
    pack = _pack()
    exact = TorchLearner(HuggingFacePacked(deepcopy(model)), LearnerSettings(1e-3))
    half = TorchLearner(HuggingFacePacked(model), LearnerSettings(1e-3, precision="bf16"))
    pack = pack.with_old_logprobs(exact.logprobs(pack))
    np.testing.assert_allclose(half.logprobs(pack), pack.old_logprobs, atol=0.15)
    assert half.update(pack).grad_norm == pytest.approx(exact.update(pack).grad_norm, rel=0.02)

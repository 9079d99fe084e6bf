import pytest
import torch
from torch import nn

from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings
from stepcredit.engines.learner.muon import FloatMuon, orthogonalise
from stepcredit.engines.learner.optimisers import build_optimisers, hidden_matrices


@pytest.mark.parametrize("shape", [(12, 12), (8, 20), (20, 8)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert 0.3 < values.min().item() <= values.max().item() < 1.3


def test_scale_of_the_gradient_does_not_matter() -> None:
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(orthogonalise(matrix), orthogonalise(1000 * matrix), atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_follows_torchs_muon_within_bfloat16(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.95}
    steppers = [FloatMuon([ours], **options), torch.optim.Muon([theirs], **options)]
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        for parameter, stepper in zip((ours, theirs), steppers, strict=True):
            parameter.grad = gradient.clone()
            stepper.step()
    assert (ours - start).abs().mean().item() > 0.03
    assert torch.allclose(ours, theirs, atol=0.02)


def test_matrices_of_layers_go_to_muon_and_the_rest_to_adamw() -> None:
    model = CausalLM(ModelConfig(7, dim=8, layers=2, heads=2, hidden=12))
    names = hidden_matrices(model)
    assert len(names) == 14
    assert not any("embed" in name or "lm_head" in name or "norm" in name for name in names)
    settings = LearnerSettings(0.01, optimiser="muon", matrix_learning_rate=0.03)
    (muon, muon_rate), (adamw, adamw_rate) = build_optimisers(model, settings)
    assert (type(muon), muon_rate, adamw_rate) == (FloatMuon, 0.03, 0.01)
    counts = [sum(len(group["params"]) for group in opt.param_groups) for opt in (muon, adamw)]
    assert counts == [14, len(list(model.parameters())) - 14]

"""Optimisers of the learner: AdamW, or Muon for the hidden matrices and AdamW for the rest."""

import torch
from torch import nn
from torch.optim import Optimizer

from stepcredit.core.errors import EngineError
from stepcredit.engines.learner.muon import FloatMuon
from stepcredit.engines.learner.settings import LearnerSettings


def build_optimisers(module: nn.Module, settings: LearnerSettings) -> list[tuple[Optimizer, float]]:
    """Optimisers of a module's trained weights, each with its peak learning rate.

    Raises:
        EngineError: if there is nothing to train, or a trained weight is in half precision.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trained:
        raise EngineError("the model has no weights that require a gradient")
    for name, parameter in trained.items():
        if parameter.dtype in (torch.bfloat16, torch.float16):
            raise EngineError(
                f"{name} is {parameter.dtype}: small updates are lost in rounding; load the model in float32 and set "
                "precision = 'bf16'"
            )
    matrices = hidden_matrices(module) if settings.optimiser == "muon" else set[str]()
    rest = [p for name, p in trained.items() if name not in matrices]
    built: list[tuple[Optimizer, float]] = []
    if settings.optimiser == "muon" and settings.matrix_learning_rate is not None:
        if not matrices:
            raise EngineError("muon found no matrices inside numbered layers; use optimiser 'adamw'")
        chosen = [p for name, p in trained.items() if name in matrices]
        kind = FloatMuon if all(p.device.type == "cpu" for p in chosen) else torch.optim.Muon
        muon = kind(
            chosen,
            lr=settings.matrix_learning_rate,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
        )
        built.append((muon, settings.matrix_learning_rate))
    if rest:
        adamw = torch.optim.AdamW(
            rest,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.adam_eps,
            weight_decay=settings.weight_decay,
            fused=all(p.device.type in ("cpu", "cuda") for p in rest),
        )
        built.append((adamw, settings.learning_rate))
    return built


def hidden_matrices(module: nn.Module) -> set[str]:
    """Names of the trained 2-D weights inside numbered layers: what Muon is for; embeddings and heads stand outside.

    >>> block = nn.Sequential(nn.Linear(2, 2))
    >>> sorted(hidden_matrices(nn.ModuleDict({"embed": nn.Embedding(3, 2), "layers": block})))
    ['layers.0.weight']
    """
    return {
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and parameter.ndim == 2 and any(part.isdigit() for part in name.split("."))
    }

"""Small models and packed sequences for the tests of the embedded engine."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stepcredit.engines.embedded.model import CausalLM, ModelConfig

V = 19


def small_model(seed: int = 3, **sizes: int) -> CausalLM:
    """A model of about five thousand weights whose next tokens are far from uniform."""
    shape = {"dim": 16, "heads": 4, "hidden": 24, "max_positions": 48} | sizes
    model = CausalLM(ModelConfig(V, **shape), seed=seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(3.0)
    return model


def packed(lengths: Sequence[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random ids, positions and starts of sequences laid end to end."""
    ids = torch.randint(0, V, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    positions = torch.cat([torch.arange(length) for length in lengths])
    return ids, positions, torch.tensor(np.concatenate([[0], np.cumsum(lengths)]))


def logprobs_of(model: CausalLM, prompt: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[T] log probabilities of a completion from a packed forward pass, as in training."""
    sequence = torch.from_numpy(np.concatenate([prompt, ids]).astype(np.int64))
    places = torch.arange(len(sequence))
    with torch.no_grad():
        logits = model(sequence, places, torch.tensor([0, len(sequence)]))
    rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return rows.gather(1, sequence[len(prompt) :, None]).squeeze(1).numpy()

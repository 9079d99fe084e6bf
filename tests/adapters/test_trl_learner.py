"""The same batch gives the same loss and the same gradient in TRL's trainer and in our learner."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepcredit.core.pack import pack_of
from stepcredit.core.records import Credit

cases = pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")


class Keeping(cases.Ours):
    """Keeps the credits that it trains on."""

    credits: Sequence[Credit]

    def _with_advantages(
        self, out: dict[str, Any], own: Sequence[Credit], everyone: Sequence[Credit]
    ) -> dict[str, Any]:
        self.credits = own
        return super()._with_advantages(out, own, everyone)


@pytest.mark.parametrize(("loss_type", "reduction"), [("dapo", "token"), ("grpo", "grpo"), ("dr_grpo", "dr_grpo")])
def test_trl_and_our_learner_agree_on_loss_and_gradient(tmp_path: Path, loss_type: str, reduction: str) -> None:
    """With old logprobs half a nat off, so that both caps act. Tolerance: 2e-6 of the loss, 1e-5 of the gradient."""
    from stepcredit.engines.learner import LearnerSettings, TorchLearner
    from stepcredit.engines.learner.huggingface import HuggingFacePacked

    args = cases.config(tmp_path, loss_type=loss_type, epsilon=0.2, epsilon_high=0.28, max_steps=1, learning_rate=0.0)
    rows, tokenizer = cases.problems(), cases.words(tmp_path)
    trainer = Keeping(cases.policy(), cases.tp_grpo(), args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    settings = LearnerSettings(
        learning_rate=0.0,
        eps_low=0.2,
        eps_high=0.28,
        reduction=reduction,
        max_tokens=cases.MAX_TOKENS,
        max_grad_norm=None,
        kl="none",
        beta=0.0,
    )
    model = copy.deepcopy(trainer.model)
    learner = TorchLearner(HuggingFacePacked(model), settings)
    pack = pack_of(trainer.credits)
    noise = np.random.default_rng(0).normal(0.0, 0.5, len(pack.ids)).astype(np.float32)
    pack = replace(pack, old_logprobs=learner.logprobs(pack) + noise)
    batch = dict(trainer.batches[0])
    old = torch.zeros_like(batch["advantages"])
    old[batch["completion_mask"].bool()] = torch.tensor(pack.old_logprobs[pack.trained])
    loss, gradient = cases.loss_and_gradient(trainer, {**batch, "old_per_token_logps": old})
    found: dict[int, Any] = {}
    for index, part in enumerate(model.parameters()):
        part.register_hook(lambda grad, index=index: found.__setitem__(index, grad.clone()))
    update = learner.update(pack)
    ours = torch.cat([
        found.get(index, torch.zeros_like(part)).flatten() for index, part in enumerate(model.parameters())
    ])  # fmt: skip
    assert update.clip_low > 0
    assert update.clip_high > 0
    assert update.loss == pytest.approx(loss, abs=2e-6)
    assert gradient.norm() > 0.01
    assert float((ours - gradient).norm() / gradient.norm()) < 1e-5

"""What tests of training share: the policy that they start from."""

import fcntl
import os
from pathlib import Path

import pytest

from stepcredit.engines.embedded.checkpoint import save_checkpoint
from stepcredit.recipes.pretraining import pretrain
from stepcredit.recipes.world import WorldTask


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small world's policy (`test_arms.small`): made by the first worker that asks, read by all."""
    from test_arms import small

    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made, folder = root / "policy", tmp_path_factory.mktemp("policy")
    with (root / "policy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            task = WorldTask(small().world)
            policy = pretrain(small(), task, attempt=0, on_progress=lambda *_: None)
            save_checkpoint(policy, folder, tokenizer=task.tokenizer)
            folder.rename(made)
    return made

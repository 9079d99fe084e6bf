"""The frozen policy that an arm's log-ratios are taken to: the starting checkpoint, another one, or a run's policy."""

from pathlib import Path

from stepcredit.core.errors import EngineError, UsageError
from stepcredit.engines.embedded.checkpoint import load_checkpoint
from stepcredit.engines.embedded.model import CausalLM
from stepcredit.engines.learner.state import unpack_state
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.recipes.arm_rules.settings import START, newest_policy
from stepcredit.recipes.world import WorldTask, checkpoint_exists
from stepcredit.store.run_folder import read_checkpoint


def frozen_policy(reference: str, task: WorldTask, *, start: Path) -> CausalLM:
    """The policy that a reference names.

    Args:
        reference: `start`; or a folder: a checkpoint in Hugging Face format, such as the starting policy of a run that
            was fine-tuned for less long, or the run folder of an arm, whose newest policy is taken.
        task: the world; the policy must read its words.
        start: folder of the starting checkpoint, which gives the shape of an arm's policy.

    Raises:
        UsageError: if there is no policy, or it is one of another vocabulary or shape.
        StoreError: if an arm's checkpoint is damaged.
    """
    folder = start if reference == START else Path(reference)
    if checkpoint_exists(folder):
        if reference != START and FileTokenizer.load(folder).fingerprint != task.tokenizer.fingerprint:
            raise UsageError(
                "the reference reads other words than the world has; take one of this world", item=reference
            )
        return load_checkpoint(folder)
    newest = newest_policy(folder)
    if newest is None:
        raise UsageError("there is no checkpoint and no arm's run to take as reference", item=reference)
    policy = load_checkpoint(start)
    try:
        policy.load_state_dict(unpack_state(read_checkpoint(folder, newest))["weights"])
    except (EngineError, KeyError, RuntimeError) as error:
        wrong = "the arm's policy has another shape than this run's; take an arm of the same [model] and [world]"
        raise UsageError(wrong, item=reference) from error
    return policy

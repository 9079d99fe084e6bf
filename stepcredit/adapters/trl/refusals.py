"""Settings of TRL under which per-token credit would be wrong or have no effect, each with its mend; no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from stepcredit.core.errors import UsageError

_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo")
"""Losses that multiply each token's ratio with each token's advantage."""

_NO_LOSS = {
    "luspo": "it is defined with one ratio a sequence",
    "vespo": "its weight is one a sequence, by the sign of the sequence's advantage",
}


def check_loss(args: Any) -> None:
    """Refuse settings of `GRPOConfig` that break per-token credit, or that it would leave without effect.

    Args:
        args: the `GRPOConfig`; fields that a version of TRL does not have are not looked at.

    Raises:
        UsageError: naming the setting, why, and the mend.

    Source: engines.md 1.1, 1.5. Differs: none.
    """
    loss = getattr(args, "loss_type", "dapo")
    if loss not in _LOSSES:
        why = _NO_LOSS.get(loss, "the adapter does not know it")
        raise UsageError(
            f"loss_type={loss!r} cannot take one advantage a token: {why}; take one of {', '.join(_LOSSES)}"
        )
    for name, wanted, why in _WANTED:
        value = getattr(args, name, wanted)
        if value != wanted:
            raise UsageError(f"{name}={value!r} {why}; set {name}={wanted!r}")


_WANTED: tuple[tuple[str, Any, str], ...] = (
    (
        "importance_sampling_level",
        "token",
        "has one ratio a sequence, which with one advantage a token is not GSPO-token (no stop-gradient)",
    ),
    ("off_policy_mask_threshold", None, "would mask by the sign of each token's advantage, not of the sequence's"),
    (
        "scale_rewards",
        "none",
        "would have no effect, the advantages are the credit rule's (its settings say how rewards are scaled)",
    ),
    ("multi_objective_aggregation", "sum_then_normalize", "would have no effect, the advantages are the credit rule's"),
    ("use_liger_loss", False, "fuses a loss that takes one advantage a sequence"),
)


def check_liger(args: Any, *, fused: bool) -> None:
    """Refuse the fused loss of older versions of TRL, which takes one advantage a sequence.

    Args:
        args: the `GRPOConfig`.
        fused: True if this TRL has a fused GRPO loss of its own.

    Raises:
        UsageError: naming the mend.
    """
    if fused and getattr(args, "use_liger_kernel", False):
        raise UsageError("use_liger_kernel=True takes one advantage a sequence in this TRL; set use_liger_kernel=False")


def check_limit(settings: Any, args: Any) -> None:
    """Refuse a second limit of tokens, and a rule that is spread over another one than the trainer's (PURE's baseline).

    Raises:
        UsageError: naming both.

    Source: credit.md 2.2. Differs: none.
    """
    limit = args.max_completion_length
    other = getattr(args, "generation_kwargs", None) or {}
    if "max_new_tokens" in other:
        raise UsageError("generation_kwargs sets max_new_tokens, a second limit; set max_completion_length instead")
    if getattr(settings, "max_tokens", limit) != limit:
        raise UsageError(
            f"the rule's max_tokens is {settings.max_tokens}, and completions may have {limit} tokens; "
            f"set max_tokens={limit} in its settings"
        )


def check_rewards(names: Sequence[str], outcome: int, weights: Sequence[float] | None) -> None:
    """Refuse reward functions that would change nothing: only the outcome reaches the credit rule.

    Args:
        names: of all reward functions.
        outcome: index of the one that gives the outcome.
        weights: `reward_weights` of the `GRPOConfig`, `None` if not set.

    Raises:
        UsageError: naming the function and the mend.

    >>> check_rewards(("right", "brief"), 0, (1.0, 0.0))
    """
    given = [1.0] * len(names) if weights is None else list(weights)
    for index, (name, weight) in enumerate(zip(names, given, strict=False)):
        if index == outcome and weight != 1.0:
            raise UsageError(
                f"weight {weight:g} of {name!r}, which gives the outcome, would change nothing: its rule's settings "
                "say how rewards are scaled; give it weight 1 in reward_weights"
            )
        if index != outcome and weight != 0.0:
            mend = f"give it weight 0 in reward_weights (it is logged then), one for each of {', '.join(names)}"
            raise UsageError(
                f"reward function {name!r} would change nothing, credit is paid on {names[outcome]!r} alone; {mend}"
            )


def check_rollouts(options: Mapping[str, Any]) -> None:
    """Refuse rollouts with tokens that the policy did not write.

    Args:
        options: the trainer's arguments by name.

    Raises:
        UsageError: for tools and environments.
    """
    for name in ("tools", "environment_factory"):
        if options.get(name):
            raise UsageError(f"{name}: steps of tool calls are not told from tool answers yet; leave {name} out")

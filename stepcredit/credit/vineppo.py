"""VinePPO: what each step changed in the chance of a right answer, from Monte-Carlo values of its two ends."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, gae, leave_one_out, spread, sum_by_step, whiten
from stepcredit.credit.choices import check_choice, check_number

Root = Literal["sampled", "leave_one_out"]
"""Value of the prompt: as it was given, or the mean reward of the group's other rollouts, which costs nothing."""

OnUnknownValue = Literal["drop", "fill"]
"""What an unknown node does: its rollout gets no credit, or it takes the value of the next known node."""


@final
@dataclass(frozen=True)
class VineppoSettings:
    """Settings of VinePPO; the defaults are the paper's formula.

    Args:
        root: value of the prompt.
        on_unknown: what is done about a rollout with a node whose value is unknown. `fill` is the released code's way
            with nodes that it left out: steps without a value of their own share the change at the next known node,
            all of it on the step that ends at the first unknown node.
        whiten: True standardises the advantages over all known tokens of the batch.
        std: standard deviation of the whitening, as in `algebra.whiten`.
        epsilon: added to it.
    """

    root: Root = "sampled"
    on_unknown: OnUnknownValue = "drop"
    whiten: bool = True
    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (("root", Root), ("on_unknown", OnUnknownValue), ("std", Std)):
            check_choice(name, getattr(self, name), allowed)
        check_number("epsilon", self.epsilon)


def vineppo(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    values: Float[np.ndarray, " nodes"],
    *,
    settings: VineppoSettings,
    trained: Float[np.ndarray, " T"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: the change of value over its step.

    A[j] = V[after j] - V[before j], with V[end] = r; equal for all tokens of the step, then whitened over the batch

    Before the whitening the advantages of a rollout's steps telescope to r - V[prompt].

    Args:
        layout: the batch, in the steps at whose ends the values were taken.
        rewards: [N] outcome rewards, NaN where unscorable: no token of such a rollout gets credit.
        values: [S + N] node values in the unit of the rewards, for each rollout one before each step, then one for its
            end, which is not read: the outcome stands there. NaN where unknown. Take them from continuations of the
            policy that is being trained (`judges.montecarlo`).
        settings: the dials.
        trained: [T] 1 for tokens that the policy wrote; the others count in no statistic and get 0. `None` counts all.

    Returns:
        [T] advantages; NaN for unscorable and dropped rollouts and, with `root="leave_one_out"`, in groups with fewer
        than two scorable ones.

    Raises:
        CreditError: if a column's length does not fit the layout.

    Source: Kazemnejad et al. 2024, arXiv:2410.01679; credit.md 2.1. Differs: unknown values; the free root is ours.

    >>> layout = Layout(np.arange(2), np.zeros(2), np.zeros(1))
    >>> values = np.array([0.0, -0.5, np.nan])
    >>> vineppo(layout, np.array([1.0]), values, settings=VineppoSettings(whiten=False))
    array([-0.5,  1.5], dtype=float32)
    """
    steps = gae(np.zeros(layout.steps), _nodes(layout, rewards, values, settings), layout, lam=0.0)
    steps[np.isnan(rewards)[layout.rollout_of_step]] = np.nan
    return by_step(layout, steps, trained, white=settings.whiten, std=settings.std, epsilon=settings.epsilon)


def node_starts(layout: Layout) -> Int64[np.ndarray, " N+1"]:
    """[N + 1] first node of each rollout, and S + N; the node before the next rollout's first is the end.

    Source: DESIGN.md 3. Differs: none.

    >>> node_starts(Layout(np.arange(3), np.array([0, 0, 1]), np.zeros(2)))
    array([0, 3, 5])
    """
    return layout.step_starts + np.arange(layout.rollouts + 1)


def nodes_ending(
    layout: Layout, values: Float[np.ndarray, " nodes"], end: Float[np.ndarray, " N"] | float
) -> Float64[np.ndarray, " nodes"]:
    """[S + N] a copy of the node values with another value at the end of each rollout.

    Args:
        layout: the batch.
        values: [S + N] node values; those of the ends are not read.
        end: [N] what stands at the ends, or one number for all.

    Raises:
        CreditError: if the column has another length.

    Source: credit.md 3.1. Differs: none.

    >>> nodes_ending(Layout(np.zeros(2), np.zeros(1), np.zeros(1)), np.array([0.5, np.nan]), np.array([1.0]))
    array([0.5, 1. ])
    """
    if len(values) != layout.steps + layout.rollouts:
        raise CreditError(f"values: got {len(values)} entries, the layout has {layout.steps + layout.rollouts} nodes")
    node = np.array(values, np.float64)
    node[node_starts(layout)[1:] - 1] = end
    return node


def by_step(
    layout: Layout,
    steps: Float64[np.ndarray, " S"],
    trained: Float[np.ndarray, " T"] | None,
    *,
    white: bool,
    std: Std,
    epsilon: float,
) -> Float32[np.ndarray, " T"]:
    """[T] advantages of steps as a rule returns them: NaN in rollouts with an unknown one, otherwise as `finished`.

    Whitening steps, each as often as it has tokens that count, is whitening tokens; steps are ten times fewer.

    Args:
        layout: the batch.
        steps: [S] before the whitening, NaN where unknown.
        trained: as in `written`.
        white: True whitens over the tokens that count and are known.
        std: as in `algebra.whiten`.
        epsilon: as in `algebra.whiten`.

    Source: credit.md 3.5. Differs: none.

    >>> layout = Layout(np.array([0, 0, 1, 1]), np.zeros(2), np.zeros(1))
    >>> by_step(layout, np.array([3.0, 1.0]), None, white=True, std="population", epsilon=0.0)
    array([ 1.,  1., -1., -1.], dtype=float32)
    """
    counted = written(trained, layout.tokens)
    steps = np.where(layout.holders(np.isnan(steps))[layout.rollout_of_step], np.nan, steps)
    if white:
        tokens = layout.tokens_of_step if trained is None else sum_by_step(counted, layout)
        steps = whiten(steps, weights=tokens, std=std, epsilon=epsilon)
    return finished(spread(steps.astype(np.float32), layout), counted, white=False, std=std, epsilon=epsilon)


def finished(
    advantages: Float[np.ndarray, " T"], counted: Bool[np.ndarray, " T"], *, white: bool, std: Std, epsilon: float
) -> Float32[np.ndarray, " T"]:
    """[T] advantages as a rule returns them: whitened if that is asked for, 0 on tokens that do not count.

    Args:
        advantages: [T] before the whitening, NaN where unknown.
        counted: [T] True for tokens that the policy wrote.
        white: True whitens over what counts and is known.
        std: as in `algebra.whiten`.
        epsilon: as in `algebra.whiten`.

    Source: credit.md 3.5. Differs: none.

    >>> finished(np.array([3.0, 1.0]), np.ones(2, np.bool_), white=True, std="population", epsilon=0.0)
    array([ 1., -1.], dtype=float32)
    """
    if white:
        advantages = whiten(advantages, weights=counted, std=std, epsilon=epsilon)
    paid = advantages.astype(np.float32)
    paid[~counted] = 0.0
    return paid


def written(trained: Shaped[np.ndarray, " T"] | None, tokens: int) -> Bool[np.ndarray, " T"]:
    """[T] True for tokens that the policy wrote.

    Args:
        trained: [T] 1 or 0, or `None` for all.
        tokens: T.

    Raises:
        CreditError: if the column has another length, or holds something else than 0 and 1.

    Source: DESIGN.md 3. Differs: none.

    >>> written(np.array([1.0, 0.0]), 2)
    array([ True, False])
    """
    if trained is None:
        return np.ones(tokens, np.bool_)
    if len(trained) != tokens:
        raise CreditError(f"trained: got {len(trained)} entries, the layout has {tokens}")
    if not np.isin(trained, (0.0, 1.0)).all():
        raise CreditError("trained must be 1 for tokens that the policy wrote and 0 for the others")
    return np.asarray(trained) == 1.0


def _nodes(
    layout: Layout, rewards: Float[np.ndarray, " N"], values: Float[np.ndarray, " nodes"], settings: VineppoSettings
) -> Float64[np.ndarray, " nodes"]:
    """[S + N] values with the outcome at the end, the root that is asked for, and no gap if they are filled."""
    others = rewards - leave_one_out(rewards, layout)
    node, filled = nodes_ending(layout, values, rewards), layout.steps_of_rollout > 0
    first = node_starts(layout)[:-1][filled]
    if settings.root == "leave_one_out":
        node[first] = others[filled]
    if settings.on_unknown == "drop":
        return node
    gap = np.isnan(node)
    gap[first] = False  # an unknown prompt has nothing before it to share with
    following = np.where(gap, len(node), np.arange(len(node)))
    following = np.minimum.accumulate(following[::-1])[::-1]
    return np.append(node, np.nan)[following]

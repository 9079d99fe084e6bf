"""Which rules the tabular microscope looks at, with which signals, and what theory says of each beforehand."""

from collections.abc import Callable, Mapping

import numpy as np
from microscope_tabular import ETA, GROUP_SIZE, REWARDS, RIGHT, TREE, Groups, Row, Signals

from stepcredit.core.layout import Layout
from stepcredit.core.seeds import derive
from stepcredit.credit import Need

Columns = Callable[[Signals, Groups], Mapping[Need, np.ndarray]]

SAME = "unbiased"
OTHER = "gradient of another objective"


def flags(kind: str) -> Columns:
    """[S] TP-GRPO's labels by a judge of the truth: wrong steps of right solutions, right steps of wrong ones."""

    def columns(signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
        right = (RIGHT if kind == "oracle" else signals.noisy)[groups.token]
        solved = (REWARDS[groups.members.ravel()] > 0)[groups.rollout]
        return {Need.FLAGS: (right != solved).astype(np.float64)}

    return columns


def scores(kind: str) -> Columns:
    """[S] step scores in [0, 1]: the truth, a noisy judge's, or the value of the prefix at the start."""

    def columns(signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
        told = {"oracle": RIGHT, "noisy": signals.noisy}
        column = told[kind].astype(np.float64) if kind in told else (signals.after(stale=True) + 1.0) / 2.0
        return {Need.SCORES: column[groups.token]}

    return columns


def testimony(kind: str) -> Columns:
    """[S] +1 for right steps and -1 for wrong ones, of all that is said: by the truth, or by a noisy judge."""

    def columns(signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
        right = RIGHT if kind == "oracle" else signals.noisy
        return {Need.TESTIMONY: np.where(right[groups.token], 1.0, -1.0)}

    return columns


def nodes(layout: Layout, before: np.ndarray, end: np.ndarray) -> np.ndarray:
    """[S + N] node values of [t] values before each token and [N] values of the ends."""
    found = np.empty(layout.steps + layout.rollouts)
    found[np.arange(layout.steps) + layout.rollout_of_step] = before[layout.step_token_starts[:-1]]
    found[layout.step_starts[1:] + np.arange(layout.rollouts)] = end
    return found


def values(*, stale: bool = False, completions: int | None = None, unit: str = "token") -> Columns:
    """[S + N] values of the policy, of the first policy, or the mean of so many continuations of each prefix."""

    def columns(signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
        before = signals.before(stale=stale)
        row = TREE.row_of_token[groups.token]
        told = before[row]
        if completions is not None:  # equal prefixes of a group are continued once
            rng = np.random.default_rng(derive(signals.seed, "continuations", completions))
            chance = np.clip((before + 1.0) / 2.0, 0.0, 1.0)
            right = rng.binomial(completions, chance, (len(groups.members), TREE.rows))
            told = (2.0 * right / completions - 1.0)[groups.group, row]
        return {Need.VALUES: nodes(groups.layouts[unit], told, np.zeros(groups.members.size))}

    return columns


def token_scores(kind: str) -> Columns:
    """[T] the log-ratio of an ideal implicit reward model, or the expected reward after each token."""

    def columns(signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
        column = signals.implicit if kind == "implicit" else signals.after(stale=kind == "stale")
        return {Need.TOKEN_SCORES: column[groups.token]}

    return columns


def log_ratio(signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
    """[T] log pi - log pi of the first policy."""
    return {Need.LOG_RATIO: (TREE.logprobs(signals.logits) - TREE.logprobs(signals.start))[groups.token]}


def preferences(_signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
    """[M * G * G] a pair judge that knows the outcomes: the difference of the rewards."""
    rewards = REWARDS[groups.members]
    return {Need.PREFERENCES: (rewards[:, :, None] - rewards[:, None, :]).ravel()}


def votes(signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
    """[N] a judge's score of the whole solution."""
    return {Need.OUTCOME_SCORES: signals.votes[groups.members.ravel()]}


def bonus(_signals: Signals, groups: Groups) -> dict[Need, np.ndarray]:
    """[N] RLSP's pay for length, saturating: -1 / tokens."""
    return {Need.BONUS: -1.0 / TREE.lengths[groups.members.ravel()]}


PLAIN = {"std": "population", "epsilon": 0.0, "eta": ETA}
BARE = {"whiten": False}
PURE = {"whiten": False, "max_tokens": 6}
PRIME = {"whiten": False, "process_scale": "none"}
WIDE = {"accuracy_low": 0.0, "accuracy_high": 1.0}
KL = "z as grpo, and the gradient of the KL cost"

ROWS: dict[str, Row] = {
    "rloo": Row("rloo", "outcome", f"{SAME}: the baseline does not hold the own reward"),
    "dr_grpo": Row(
        "dr_grpo",
        "outcome",
        f"(G - 1) / G = {(GROUP_SIZE - 1) / GROUP_SIZE:g} of the truth: its own reward is in the baseline",
    ),
    "grpo": Row("grpo", "outcome", "parallel on each problem; over problems reweighted by their accuracy (the std)"),
    "think_rm": Row("think_rm", "pairs, exact", "grpo's direction: the std over G - 1", preferences),
    "spct": Row("spct", "voted scores", f"{OTHER}: the votes", votes),
    "rlsp": Row("rlsp", "outcome, length", f"{OTHER}: outcome and length", bonus),
    "vineppo": Row("vineppo", "values, exact", f"{SAME}: values depend on the prefix alone", values(), BARE),
    "vineppo_root": Row(
        "vineppo", "values, root by group", f"{SAME}", values(), {"whiten": False, "root": "leave_one_out"}
    ),
    "vineppo_fact": Row(
        "vineppo", "values, a fact a step", f"{SAME}, at any step length", values(unit="fact"), BARE, unit="fact"
    ),
    "vineppo_9": Row(
        "vineppo",
        "values, K = 9",
        f"{SAME}: fresh continuations err by 0 on average",
        values(completions=9),
        BARE,
        drawn=True,
    ),
    "vineppo_1": Row("vineppo", "values, K = 1", f"{SAME}, as K = 9", values(completions=1), BARE, drawn=True),
    "vineppo_stale": Row(
        "vineppo", "values of the start", "biased once the policy has moved", values(stale=True), BARE
    ),
    "gae_critic": Row("gae_critic", "values, exact, .95", f"{SAME}: true values forgive any lambda", values(), BARE),
    "gae_stale": Row(
        "gae_critic",
        "values of the start, .95",
        "biased once the policy has moved, by 1 - lambda",
        values(stale=True),
        BARE,
    ),
    "gae_stale_1": Row(
        "gae_critic",
        "values of the start, 1",
        f"{SAME}: with lambda 1 any critic is a baseline",
        values(stale=True),
        {**BARE, "lam": 1.0},
    ),
    "q_rm": Row("q_rm", "Q, exact", f"{SAME}: Q is the advantage and a baseline", token_scores("now")),
    "q_rm_stale": Row("q_rm", "Q of the start", "biased once the policy has moved", token_scores("stale")),
    "prime": Row(
        "prime",
        "ideal log-ratio",
        "baseline times tokens left is paid by length; flat groups are dropped",
        token_scores("implicit"),
        PRIME,
    ),
    "prime_bare": Row(
        "prime",
        "ideal log-ratio, no baseline",
        f"{SAME}: it telescopes to the reward less a value of the prefix",
        token_scores("implicit"),
        {**PRIME, **WIDE, "baseline": "none"},
    ),
    "frpo": Row("prl", "outcome, log-ratio", f"{KL}", log_ratio, PLAIN),
    "prl": Row("prl", "outcome, log-ratio, a fact a step", f"{KL}", log_ratio, PLAIN, unit="fact"),
    "prl_last": Row(
        "prl",
        "the same, own step last",
        "z as grpo; the KL part is biased",
        log_ratio,
        {**PLAIN, "own_step": "last"},
        unit="fact",
    ),
    "prl_none": Row(
        "prl",
        "the same, own step none",
        "z as grpo; the KL part is biased",
        log_ratio,
        {**PLAIN, "own_step": "none"},
        unit="fact",
    ),
    "frpo_baseline": Row(
        "prl", "outcome, log-ratio, baseline", f"{KL}; less variance", log_ratio, {**PLAIN, "baseline": "leave_one_out"}
    ),
    "tp_grpo": Row("tp_grpo", "flags, oracle", f"{OTHER}: thoughts are paid", flags("oracle")),
    "tp_grpo_noisy": Row("tp_grpo", "flags, noisy", f"{OTHER}, blurred", flags("noisy")),
    "tp_grpo_step": Row(
        "tp_grpo", "flags, oracle, unmerged", f"{OTHER}: steps are paid by number", flags("oracle"), {"unit": "step"}
    ),
    "witness": Row("witness", "testimony, oracle", f"{OTHER}: right steps are paid", testimony("oracle")),
    "witness_noisy": Row("witness", "testimony, noisy", f"{OTHER}, blurred", testimony("noisy")),
    "vppo": Row("vppo", "scores, oracle", "biased: the prefix of a wrong solution is spared", scores("oracle")),
    "vppo_noisy": Row("vppo", "scores, noisy", "biased, and by the judge's errors", scores("noisy")),
    "grpo_ps": Row(
        "grpo_ps", "scores, oracle", f"{OTHER}: the sum of scores, and so the number of steps", scores("oracle")
    ),
    "grpo_ps_noisy": Row("grpo_ps", "scores, noisy", f"{OTHER}, blurred", scores("noisy")),
    "grpo_ps_value": Row(
        "grpo_ps", "scores, value of the prefix", f"{OTHER}: a sum of values is a type error", scores("value")
    ),
    "math_shepherd": Row(
        "math_shepherd", "scores, value of the prefix", f"{OTHER}: the sum of scores, no baseline", scores("value")
    ),
    "line_level": Row(
        "line_level", "scores, value of the prefix", f"{OTHER}: z and the mean of scores", scores("value")
    ),
    "pure": Row(
        "pure",
        "scores, value of the prefix",
        f"{OTHER}: outcome and the worst step; b t_left pays length",
        scores("value"),
        PURE,
    ),
    "pure_oracle": Row("pure", "scores, oracle", f"{OTHER}, as pure", scores("oracle"), PURE),
    "pure_noisy": Row("pure", "scores, noisy", f"{OTHER}, blurred", scores("noisy"), PURE),
}
"""Line of the table -> what is looked at. Names without a suffix are those of the trained comparison's arms."""

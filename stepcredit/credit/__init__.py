"""Credit: Judgement -> Credit. One rule a file over one algebra; this is the table of rules.

A rule is a plain function `(layout, signals..., *, settings) -> float32[T]`; the table says which signals, in order.
A completion that was cut short is paid like any other, by the outcome that the checker gave it (wrong, mostly): no
rule asks how it ended. What groups without spread get is said in each rule.
Other packages add rules through the entry-point group `stepcredit.rules`, each pointing to a `Rule`.
"""

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from stepcredit.core.errors import UsageError
from stepcredit.credit import (
    dr_grpo,
    gae_critic,
    grpo,
    grpo_ps,
    prime,
    prl,
    q_rm,
    rloo,
    rlsp,
    spct,
    think_rm,
    tp_grpo,
    vineppo,
    witness,
)
from stepcredit.credit.choices import nearest
from stepcredit.credit.rule import Need, Rule, always, never
from stepcredit.credit.scored import line_level, math_shepherd, pure, vppo

__all__ = ["ENTRY_POINTS", "RULES", "Need", "Rule", "all_rules", "rule_named"]

ENTRY_POINTS = "stepcredit.rules"
"""Entry-point group in which other packages name their rules."""

RULES: dict[str, Rule] = {
    "dr_grpo": Rule(
        function=dr_grpo.dr_grpo,
        needs=(Need.OUTCOME,),
        settings=dr_grpo.DrGrpoSettings,
        unit="any",
        outcome_part=dr_grpo.dr_grpo,
        source="arXiv:2503.20783",
        additive=always,
        whole=always,
    ),
    "gae_critic": Rule(
        function=gae_critic.gae_critic,
        needs=(Need.OUTCOME, Need.VALUES),
        settings=gae_critic.GaeCriticSettings,
        unit="any",
        outcome_part=None,
        source="arXiv:1506.02438",
        optional={Need.TRAINED: never},
        additive=lambda settings: settings.lam == 0.0 and settings.gamma == 1.0 and not settings.whiten,
    ),
    "grpo": Rule(
        function=grpo.grpo,
        needs=(Need.OUTCOME,),
        settings=grpo.GrpoSettings,
        unit="any",
        outcome_part=grpo.grpo,
        source="arXiv:2402.03300",
        additive=always,
        whole=always,
    ),
    "grpo_ps": Rule(
        function=grpo_ps.grpo_ps,
        needs=(Need.SCORES,),
        settings=grpo_ps.GrpoPsSettings,
        unit="step",
        outcome_part=None,
        source="arXiv:2402.03300, process supervision",
        additive=never,
    ),
    "line_level": Rule(
        function=line_level.line_level,
        needs=(Need.OUTCOME, Need.SCORES),
        settings=line_level.LineLevelSettings,
        unit="step",
        outcome_part=line_level.outcome_part,
        source="arXiv:2410.17621",
        optional={Need.NEUTRAL: never},
        additive=lambda settings: settings.process_weight == 0.0,
    ),
    "math_shepherd": Rule(
        function=math_shepherd.math_shepherd,
        needs=(Need.SCORES,),
        settings=math_shepherd.MathShepherdSettings,
        unit="step",
        outcome_part=None,
        source="arXiv:2312.08935",
        optional={Need.VALUES: lambda settings: settings.critic},
        additive=lambda settings: not settings.critic and settings.gamma * settings.lam == 0.0,
    ),
    "prime": Rule(
        function=prime.prime,
        needs=(Need.OUTCOME, Need.TOKEN_SCORES),
        settings=prime.PrimeSettings,
        unit="any",
        outcome_part=prime.outcome_part,
        source="arXiv:2502.01456",
        optional={Need.TRAINED: never},
        additive=always,
    ),
    "prl": Rule(
        function=prl.prl,
        needs=(Need.OUTCOME, Need.LOG_RATIO),
        settings=prl.PrlSettings,
        unit="any",
        outcome_part=prl.outcome_part,
        source="arXiv:2601.10201",
        optional={
            Need.BONUS: lambda settings: settings.bonus_weight != 0.0,
            Need.TRAINED: never,
        },
        additive=prl.is_additive,
    ),
    "pure": Rule(
        function=pure.pure,
        needs=(Need.OUTCOME, Need.SCORES),
        settings=pure.PureSettings,
        unit="step",
        outcome_part=pure.outcome_part,
        source="arXiv:2504.15275",
        optional={Need.TRAINED: never},
        additive=lambda settings: settings.process_weight == 0.0,
    ),
    "q_rm": Rule(
        function=q_rm.q_rm,
        needs=(Need.TOKEN_SCORES,),
        settings=q_rm.QRmSettings,
        unit="any",
        outcome_part=None,
        source="arXiv:2505.23363",
        optional={
            Need.VALUES: lambda settings: settings.value_weight != 0.0,
            Need.LOG_RATIO: lambda settings: settings.kl_weight != 0.0,
            Need.TRAINED: never,
        },
        additive=always,
    ),
    "rloo": Rule(
        function=rloo.rloo,
        needs=(Need.OUTCOME,),
        settings=rloo.RlooSettings,
        unit="any",
        outcome_part=rloo.rloo,
        source="arXiv:2402.14740",
        additive=always,
        whole=always,
    ),
    "rlsp": Rule(
        function=rlsp.rlsp,
        needs=(Need.OUTCOME, Need.BONUS),
        settings=rlsp.RlspSettings,
        unit="any",
        outcome_part=rlsp.outcome_part,
        source="arXiv:2502.06773",
        optional={
            Need.OUTCOME_SCORES: lambda settings: settings.judged_share != 0.0,
            Need.VALUES: lambda settings: settings.baseline == "critic",
        },
        additive=lambda settings: settings.baseline == "group",
        whole=lambda settings: settings.baseline == "group",
    ),
    "spct": Rule(
        function=spct.spct,
        needs=(Need.OUTCOME_SCORES,),
        settings=spct.SpctSettings,
        unit="any",
        outcome_part=None,
        source="arXiv:2504.02495",
        additive=always,
        whole=always,
    ),
    "think_rm": Rule(
        function=think_rm.think_rm,
        needs=(Need.PREFERENCES,),
        settings=think_rm.ThinkRmSettings,
        unit="any",
        outcome_part=None,
        source="arXiv:2505.16265",
        additive=always,
        whole=always,
    ),
    "tp_grpo": Rule(
        function=tp_grpo.tp_grpo,
        needs=(Need.OUTCOME, Need.FLAGS),
        settings=tp_grpo.TpGrpoSettings,
        unit="thought",
        outcome_part=tp_grpo.outcome_part,
        source="arXiv:2507.23317",
        additive=lambda settings: settings.unit == "thought" or settings.process_weight == 0.0,
    ),
    "vineppo": Rule(
        function=vineppo.vineppo,
        needs=(Need.OUTCOME, Need.VALUES),
        settings=vineppo.VineppoSettings,
        unit="step",
        outcome_part=None,
        source="arXiv:2410.01679",
        optional={Need.TRAINED: never},
        additive=lambda settings: not settings.whiten,
    ),
    "vppo": Rule(
        function=vppo.vppo,
        needs=(Need.OUTCOME, Need.SCORES),
        settings=vppo.VppoSettings,
        unit="step",
        outcome_part=vppo.outcome_part,
        source="arXiv:2601.18984",
        additive=always,
    ),
    "witness": Rule(
        function=witness.witness,
        needs=(Need.OUTCOME, Need.TESTIMONY),
        settings=witness.WitnessCreditSettings,
        unit="step",
        outcome_part=witness.outcome_part,
        source="own",
        additive=always,
    ),
}


def all_rules() -> dict[str, Rule]:
    """Our rules and those of installed packages.

    Raises:
        UsageError: if a package takes a name that is taken, or its entry cannot be loaded or is not a `Rule`.

    >>> sorted(all_rules())[:3]
    ['dr_grpo', 'gae_critic', 'grpo']
    """
    joined = dict(RULES)
    for entry in _entries(tuple((place, _changed(place)) for place in sys.path)):
        where = f"entry point {ENTRY_POINTS}: {entry.name} = {entry.value}"
        if entry.name in joined:
            raise UsageError(f"{where}: the name is taken; rename it in its package, or uninstall that")
        try:
            rule = entry.load()
        except Exception as error:  # another package's code may raise anything
            said = f"{type(error).__name__}: {error}"
            told = f"cannot be loaded ({said}); mend or update the package that names it, or uninstall it"
            raise UsageError(f"{where}: {told}") from error
        if not isinstance(rule, Rule):
            raise UsageError(f"{where}: got {type(rule).__name__}, wanted a stepcredit.credit.Rule")
        joined[entry.name] = rule
    return joined


@lru_cache(maxsize=1)
def _entries(_places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Entries of installed packages, by name; scanned anew once `sys.path` or a folder of it has changed."""
    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)))


def _changed(place: str) -> int:
    """When a folder of `sys.path` was last changed, in ns; 0 where there is none."""
    try:
        return Path(place).stat().st_mtime_ns  # "" is the working folder
    except OSError:
        return 0


def rule_named(name: str) -> Rule:
    """The rule of this name.

    Args:
        name: a key of the table, or the name of an installed package's entry.

    Raises:
        UsageError: naming the nearest rule.

    >>> rule_named("tp_grpo").needs
    (<Need.OUTCOME: 'outcome'>, <Need.FLAGS: 'flags'>)
    """
    rules = all_rules()
    if name not in rules:
        raise UsageError(f"credit rule {name!r} is unknown; {nearest(name, tuple(rules))}")
    return rules[name]

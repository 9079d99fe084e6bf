"""Credit: Judgement -> Credit. One rule a file over one algebra; this is the table of rules.

A rule is a plain function `(layout, signals..., *, settings) -> float32[T]`; the table says which signals, in order.
Other packages add rules through the entry-point group `stepcredit.rules`, each pointing to a `Rule`.
"""

from importlib.metadata import entry_points

from stepcredit.core.errors import UsageError
from stepcredit.credit import grpo, grpo_ps, tp_grpo
from stepcredit.credit.choices import nearest
from stepcredit.credit.rule import Need, Rule

__all__ = ["ENTRY_POINTS", "RULES", "Need", "Rule", "all_rules", "rule_named"]

ENTRY_POINTS = "stepcredit.rules"
"""Entry-point group in which other packages name their rules."""

RULES: dict[str, Rule] = {
    "grpo": Rule(
        function=grpo.grpo,
        needs=(Need.OUTCOME,),
        settings=grpo.GrpoSettings,
        unit="any",
        outcome_part=grpo.grpo,
        source="arXiv:2402.03300",
    ),
    "grpo_ps": Rule(
        function=grpo_ps.grpo_ps,
        needs=(Need.SCORES,),
        settings=grpo_ps.GrpoPsSettings,
        unit="step",
        outcome_part=None,
        source="arXiv:2402.03300, process supervision",
    ),
    "tp_grpo": Rule(
        function=tp_grpo.tp_grpo,
        needs=(Need.OUTCOME, Need.FLAGS),
        settings=tp_grpo.TpGrpoSettings,
        unit="thought",
        outcome_part=tp_grpo.outcome_part,
        source="arXiv:2507.23317",
    ),
}


def all_rules() -> dict[str, Rule]:
    """Our rules and those of installed packages.

    Raises:
        UsageError: if a package takes a name that is taken, or its entry is not a `Rule`.

    >>> sorted(all_rules())[:3]
    ['grpo', 'grpo_ps', 'tp_grpo']
    """
    joined = dict(RULES)
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        where = f"entry point {ENTRY_POINTS}: {entry.name} = {entry.value}"
        if entry.name in joined:
            raise UsageError(f"{where}: the name is taken; rename it in its package, or uninstall that")
        rule = entry.load()
        if not isinstance(rule, Rule):
            raise UsageError(f"{where}: got {type(rule).__name__}, wanted a stepcredit.credit.Rule")
        joined[entry.name] = rule
    return joined


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

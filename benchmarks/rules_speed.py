"""Time of every credit rule on 1,000,000 tokens in 10,000 rollouts, as a ratio to grpo's time in the same run.

    OMP_NUM_THREADS=1 python benchmarks/rules_speed.py [--tokens 1000000] [--rollouts 10000] [--repeats 9]

Two ways. *From records*: `assign`, groups and judgements in, one `Credit` a rollout out, which is what a trainer calls.
*Function alone*: columns in, one column out; grpo's writes one number a rollout, about the least that writing a column
can take, so that the ratios say mostly how often a rule reads a column. *Parts*: operations that rules of steps and
tokens cannot do without, alone: a rule takes at least the sum of its parts. Each repeat times grpo and, right after it,
the other; the figures are medians over the repeats, with the range of the ratio. Writes results/rules_speed.json and
rules_speed.md.
"""

import argparse
import gc
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from credit_speed import GROUP_SIZE, batch, timed_ms

from stepcredit.core.layout import Layout
from stepcredit.core.records import Group, Judgement, Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.credit import RULES, Need
from stepcredit.credit.algebra import pooled, spread, sum_by_step, to_go, whiten
from stepcredit.credit.batch import assign
from stepcredit.credit.prl import PrlSettings
from stepcredit.credit.rule import RECORDED
from stepcredit.credit.tp_grpo import TpGrpoSettings

RESULTS = Path(__file__).parent / "results"
VERDICTS = (Verdict(score=0.25, label=Label.INCORRECT), Verdict(score=0.75, label=Label.CORRECT))
WRONG = (Verdict(score=0.25, label=Label.MISMATCHED), Verdict(score=0.75, label=Label.MATCHED))


def settings_of() -> dict[str, tuple[str, Any]]:
    """What is timed: name -> rule and settings; every rule of the table, and PRL's and TP-GRPO's other ways."""
    found = {name: (name, rule.settings()) for name, rule in RULES.items()}
    found["prl, own step last"] = ("prl", PrlSettings(own_step="last"))
    found["prl, position baseline"] = ("prl", PrlSettings(baseline="leave_one_out"))
    found["prl, process first (FRPO's sum)"] = ("prl", PrlSettings(order="process_first"))
    found["tp_grpo, unit step"] = ("tp_grpo", TpGrpoSettings(unit="step"))
    return dict(sorted(found.items(), key=lambda item: (item[0] != "grpo", item[0])))


def columns_of(layout: Layout, rng: np.random.Generator) -> dict[Need, np.ndarray]:
    """Every signal."""
    values = rng.random(layout.steps + layout.rollouts)
    values[layout.step_starts[1:] + np.arange(layout.rollouts)] = 0.0
    found: dict[Need, np.ndarray] = {Need.VALUES: values, Need.OUTCOME: rng.choice([-1.0, 1.0], layout.rollouts)}
    found |= {Need.FLAGS: rng.integers(0, 2, layout.steps).astype(np.float32), Need.SCORES: rng.random(layout.steps)}
    drawn = [rng.normal(size=(size, size)) for size in layout.rollouts_of_group]
    found[Need.PREFERENCES] = np.concatenate([(one - one.T).ravel() for one in drawn])
    for need in Need:
        if need not in found:
            found[need] = rng.normal(size=need.length_in(layout)).astype(np.float32)
    return found


def records_of(layout: Layout, columns: Mapping[Need, np.ndarray]) -> tuple[list[Group], list[Judgement]]:
    """Groups and judgements of this Layout."""
    groups: dict[int, list[Outcome]] = {}
    cuts: list[Judgement] = []
    for index in range(layout.rollouts):
        tokens = slice(*layout.token_starts[index : index + 2])
        steps = slice(*layout.step_starts[index : index + 2])
        size, group = tokens.stop - tokens.start, int(layout.group_of_rollout[index])
        ids = np.arange(size)
        name = f"g{group}/{index % GROUP_SIZE}"
        problem = Problem(f"g{group}", "", "1")
        rollout = Rollout(name, problem, f"g{group}", index % GROUP_SIZE, "x" * size, ids[:0], ids, ids)
        right = columns[Need.OUTCOME][index] > 0.0
        outcome = Outcome(rollout, "right" if right else "wrong")
        groups.setdefault(group, []).append(outcome)
        starts = layout.step_token_starts[steps] - tokens.start
        cut = Steps(outcome, starts, "step", np.zeros(len(starts), np.bool_), closed=False)
        said = tuple((VERDICTS if right else WRONG)[int(flag == 0.0)] for flag in columns[Need.FLAGS][steps])
        cuts.append(Judgement(cut, said, "benchmark"))
    return [Group(f"g{group}", tuple(members)) for group, members in groups.items()], cuts


def calls(layout: Layout, columns: Mapping[Need, np.ndarray]) -> dict[str, tuple[Callable[[], object], ...]]:
    """Name -> the rule from records, and the function alone."""
    groups, cuts = records_of(layout, columns)
    found: dict[str, tuple[Callable[[], object], ...]] = {}
    for name, (rule, settings) in settings_of().items():
        line = RULES[rule]
        signals = {need: columns[need] for need in line.wanted(settings) if need not in RECORDED}
        named = {str(need): columns[need] for need, asks in line.optional.items() if asks(settings)}
        given = tuple(columns[need] for need in line.needs)

        def records(rule: str = rule, settings: Any = settings, signals: Any = signals) -> object:
            return assign(groups, cuts, rule=rule, settings=settings, signals=signals)

        def alone(line: Any = line, given: Any = given, settings: Any = settings, named: Any = named) -> object:
            return line.function(layout, *given, settings=settings, **named)

        found[name] = (records, alone)
    return found


def parts(layout: Layout, columns: Mapping[Need, np.ndarray]) -> dict[str, Callable[[], object]]:
    """Name -> one operation of the algebra, and the memory copy that all of them are more than."""
    tokens = columns[Need.LOG_RATIO].astype(np.float64)
    steps, rollouts = columns[Need.SCORES], columns[Need.OUTCOME].astype(np.float32)
    column, target = np.ones(layout.tokens, np.float32), np.empty(layout.tokens, np.float32)
    return {
        "one memory copy of a float32 column": lambda: np.copyto(target, column),
        "one number a rollout, to its tokens": lambda: spread(rollouts, layout, site="rollout"),
        "one number a step, to its tokens": lambda: spread(steps.astype(np.float32), layout),
        "steps standardised in their group": lambda: pooled(steps, layout),
        "sums to go over steps": lambda: to_go(steps, layout, site="step"),
        "sum of each step's tokens": lambda: sum_by_step(tokens, layout),
        "whitening of a token column": lambda: whiten(tokens),
        "sums to go over tokens": lambda: to_go(tokens, layout),
    }


def ratios(call: Callable[[], object], base: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Median milliseconds, and the median and range of the ratio to `base`, called right before."""
    call()
    pairs: list[tuple[float, float]] = []
    for _ in range(repeats):
        gc.collect()
        pairs.append((timed_ms(base), timed_ms(call)))
    found = [spent / least for least, spent in pairs]
    ends = [round(min(found), 2), round(max(found), 2)]
    middle = float(np.median([spent for _, spent in pairs]))
    return {"ms": round(middle, 2), "ratio": round(float(np.median(found)), 2), "range": ends}


def markdown(report: Mapping[str, Any]) -> str:
    """The table: one row a rule, from records and alone."""
    facts = ", ".join(f"{name} {value}" for name, value in report["facts"].items())
    lines = ["# Credit rules beside grpo\n", facts + "\n"]
    lines += ["| rule | from records (`assign`) | times grpo's | function alone | times grpo's |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name, (records, alone) in report["figures"].items():
        cells = [f"{one['ms']:.1f} ms | {one['ratio']:.2f} [{one['range'][0]:.2f}, {one['range'][1]:.2f}]"
                 for one in (records, alone)]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| part | alone | times grpo's |", "| --- | --- | --- |"]
    for name, one in report["parts"].items():
        low, high = one["range"]
        lines.append(f"| {name} | {one['ms']:.2f} ms | {one['ratio']:.2f} [{low:.2f}, {high:.2f}] |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time everything, store it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9, help="of the function alone; from records a third of it")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    layout = batch(options.tokens, options.rollouts, rng)
    columns = columns_of(layout, rng)
    timed, pieces = calls(layout, columns), parts(layout, columns)
    gc.freeze()  # the records are not garbage: a collection in the middle of a call would time them
    base = timed["grpo"]
    figures = {
        name: (ratios(own[0], base[0], max(options.repeats // 3, 3)), ratios(own[1], base[1], options.repeats))
        for name, own in timed.items()
    }
    least = {name: ratios(call, base[1], options.repeats) for name, call in pieces.items()}
    facts = {"tokens": layout.tokens, "rollouts": layout.rollouts, "steps": layout.steps, "repeats": options.repeats}
    facts |= {"machine": platform.machine(), "numpy": np.__version__}
    report = {"facts": facts, "figures": figures, "parts": least}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rules_speed.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "rules_speed.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()

"""Tables of credit.py from its stored lines: equal sampled tokens, equal compute, pass@8 at equal avg@8.

Compute is counted in forward passes of the policy over one token: 1 for a sampled token, 3 for a trained one (forward
and backward), 1 for a token that a judge read or wrote (the judges here have the policy's shape), that a reference read
or that a continuation wrote. Fine-tuning of the policy and of judges is not counted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepcredit.evaluation.intervals import Interval, over_runs

TRAINED_COST = 3.0
FEWEST = 5
"""Runs that an arm needs before anything is said of it."""
Line = Mapping[str, Any]
Place = tuple[int, int]


def sampled(line: Line) -> np.ndarray:
    """Tokens sampled for training up to each point of the curve."""
    return np.array(line["spent"]["sampled"], float)


def compute(line: Line) -> np.ndarray:
    """Forward passes over one token up to each point of the curve."""
    spent = {kind: np.array(tokens, float) for kind, tokens in line["spent"].items()}
    return spent["sampled"] + TRAINED_COST * spent["trained"] + spent["judge"] + spent["signal"]


def at(line: Line, axis: Callable[[Line], np.ndarray], budget: float, figure: str = "accuracy") -> float:
    """A figure of the curve at a budget, interpolated; its last value where the run ended below the budget."""
    return float(np.interp(budget, axis(line), np.array(line[figure], float)))


def by_place(lines: Sequence[Line], arm: str) -> dict[Place, Line]:
    """Runs of one arm by (checkpoint, seed); none while there are fewer than `FEWEST`."""
    found = {(line["checkpoint"], line["seed"]): line for line in lines if line["arm"] == arm}
    return found if len(found) >= FEWEST else {}


def interval(values: Mapping[Place, float]) -> Interval:
    """Mean over runs with its 95% interval."""
    clusters = [np.array([x for (c, _), x in values.items() if c == k]) for k in sorted({c for c, _ in values})]
    return over_runs(clusters, seed=0)


def text_of(found: Interval, *, signed: bool = False) -> str:
    """`.123 [.100, .150]`."""
    sign = "+" if signed else ""
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def compared(mine: Mapping[Place, Line], base: Mapping[Place, Line], value: Callable[[Line], float]) -> tuple[str, str]:
    """(mean with interval, difference from the paired baseline with interval)."""
    both = [place for place in mine if place in base]
    mean = interval({place: value(mine[place]) for place in mine})
    if not both or all(mine[place] is base[place] for place in both):
        return text_of(mean), "–"
    paired = interval({place: value(mine[place]) - value(base[place]) for place in both})
    return text_of(mean), text_of(paired, signed=True)


def pass_at_equal_average(mine: Line, base: Line) -> float:
    """Pass@8 of a run less that of its paired baseline, where both have the same avg@8 on the pass problems.

    The point is the lower of the two highest averages on the curves; each is walked to where it first reaches it. Runs
    without a curve of pass@8 are a KeyError.
    """
    point = min(max(mine["hard_avg_at_8"]), max(base["hard_avg_at_8"]))
    return _first(mine, point) - _first(base, point)


def _first(line: Line, point: float) -> float:
    average, passed = np.array(line["hard_avg_at_8"], float), np.array(line["hard_pass_at_8"], float)
    i = int(np.flatnonzero(average >= point)[0])
    if i == 0:
        return float(passed[0])
    share = (point - average[i - 1]) / (average[i] - average[i - 1])
    return float(passed[i - 1] + share * (passed[i] - passed[i - 1]))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first its head."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def comparison(lines: Sequence[Line], titles: Mapping[str, str]) -> str:
    """One task: every arm at the sampled tokens and at the compute that all have spent, beside GRPO."""
    base = by_place(lines, "grpo")
    told = [line for arm in titles for line in by_place(lines, arm).values()]
    tokens = min(float(sampled(line)[-1]) for line in told)
    forward = min(float(compute(line)[-1]) for line in base.values())
    head = [
        "rule", "runs", "learning rate", f"accuracy at {tokens / 1e3:.0f}k sampled tokens", "against GRPO",
        f"accuracy at {forward / 1e6:.2f}M forward tokens", "against GRPO", "mean@8", "pass@8", "compute / GRPO's",
        "CPU s",
    ]  # fmt: skip
    rows = [head]
    for arm, title in titles.items():
        mine = by_place(lines, arm)
        if not mine:
            continue
        cost = np.mean([compute(line)[-1] for line in mine.values()]) / np.mean([compute(x)[-1] for x in base.values()])
        rate = next(iter(mine.values()))["learning_rate"]
        rows.append([
            title, str(len(mine)), f"{rate:g}",
            *compared(mine, base, lambda line: at(line, sampled, tokens)),
            *compared(mine, base, lambda line: at(line, compute, forward)),
            compared(mine, base, lambda line: float(line["avg_at_8"]))[0],
            compared(mine, base, lambda line: float(line["pass_at_8"]))[0],
            f"{cost:.2f}", f"{np.mean([line['cpu_seconds'] for line in mine.values()]):.0f}",
        ])  # fmt: skip
    return markdown(rows)


def questions(lines: Sequence[Line], arms: Mapping[str, Mapping[str, Any]]) -> str:
    """One table a question: the arms that ask it, under those of no question (`all`) and those they stand beside."""
    found = list(dict.fromkeys(str(part["question"]) for part in arms.values() if part["question"] != "all"))
    texts: list[str] = []
    for question in found:
        asking = {arm: part for arm, part in arms.items() if part["question"] == question}
        if any("rounds" in part for part in asking.values()):
            texts.append(longer(lines, question, asking))
            continue
        above = {arm: part for arm, part in arms.items() if part["question"] == "all"}
        beside = {part["beside"]: arms[part["beside"]] for part in asking.values() if "beside" in part}
        texts.append(_asked(lines, question, above | beside | asking))
    return "\n\n".join(text for text in texts if text)


def _asked(lines: Sequence[Line], question: str, arms: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of one question; columns of what was not measured are left out."""
    base = by_place(lines, "grpo")
    runs = [line for arm in arms for line in by_place(lines, arm).values()]
    hard, clips = all("hard_avg_at_8" in line for line in runs), all("clip_low" in line for line in runs)
    matched = any("beside" in part for part in arms.values())
    head = [question, "runs", "learning rate", "mean accuracy of the curve", "against GRPO"]
    head += ["against the arm that differs in this alone"] if matched else []
    head += ["mean@8", "pass@8"]
    head += ["pass@8 at equal avg@8, against GRPO"] if hard else []
    head += ["entropy, first to last round", "KL to the start, nats a token", "unknown log-ratios"]
    head += ["clipped below, above"] if clips else []
    rows = [head]
    for arm, part in arms.items():
        mine = by_place(lines, arm)
        if not mine:
            continue
        row = [str(part["title"]), str(len(mine)), f"{next(iter(mine.values()))['learning_rate']:g}"]
        row += compared(mine, base, curve)
        if matched:
            other = by_place(lines, str(part.get("beside", arm)))
            row.append(compared(mine, other, curve)[1])
        row += [compared(mine, base, lambda line, key=key: float(line[key]))[0] for key in ("avg_at_8", "pass_at_8")]
        if hard:
            equal = {p: pass_at_equal_average(mine[p], base[p]) for p in mine if p in base}
            row.append("–" if arm == "grpo" else text_of(interval(equal), signed=True))
        row.append(f"{_mean(mine, 'sampling_entropy', 1):.3f} to {_mean(mine, 'sampling_entropy', -1):.3f}")
        row.append(f"{_mean(mine, 'start_kl_k1', -1):.4f}")
        row.append(str(sum(sum(x or 0 for x in line["guarded_ratios"]) for line in mine.values())))
        if clips:
            row.append(", ".join(f"{_over(mine, key):.4f}" for key in ("clip_low", "clip_high")))
        rows.append(row)
    return markdown(rows) if len(rows) > 1 else ""


def curve(line: Line) -> float:
    """Mean accuracy over the curve, the start left out."""
    return float(np.mean(line["accuracy"][1:]))


def longer(lines: Sequence[Line], question: str, arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Accuracy along long runs, each arm beside the first."""
    base = by_place(lines, next(iter(arms)))
    if not base:
        return ""
    last = len(next(iter(base.values()))["accuracy"]) - 1
    points = [round(last * share) for share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)]
    rows = [[question, "runs", *(f"accuracy, round {point}" for point in points), "final accuracy", "pass@8"]]
    for arm, part in arms.items():
        mine = by_place(lines, arm)
        if not mine:
            continue
        values: list[Callable[[Line], float]] = [lambda line, at=point: float(line["accuracy"][at]) for point in points]
        values += [lambda line, key=key: float(line[key]) for key in ("final_accuracy", "pass_at_8")]
        told = [compared(mine, base, value) for value in values]
        rows.append([str(part["title"]), str(len(mine)), *(mean for mean, _ in told)])
        if mine is not base and told[0][1] != "–":
            rows.append([f"{part['title']}, difference", "", *(paired for _, paired in told)])
    return markdown(rows)


def _mean(lines: Mapping[Place, Line], figure: str, point: int) -> float:
    """Mean over runs of a figure at a point of the curve; NaN where it was not measured."""
    found = [line[figure][point] for line in lines.values()]
    return float(np.mean([np.nan if x is None else x for x in found]))


def _over(lines: Mapping[Place, Line], figure: str) -> float:
    """Mean over runs and rounds of a figure, where it was measured."""
    return float(np.mean([x for line in lines.values() for x in line[figure] if x is not None]))

"""What the X-ray found: the mapping of `xray.json`, and the views of its tables and of its page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from stepcredit.adapters.logged import counted
from stepcredit.core.records import Credit, Judgement
from stepcredit.credit.rule import Need
from stepcredit.evaluation.credit_xray import Bounded, RuleXray, step_credit
from stepcredit.recipes.evaluating.reading import THRESHOLDS
from stepcredit.recipes.xray.batch import XrayBatch
from stepcredit.recipes.xray.paying import LOGGED, ComparedRule, PaidRules
from stepcredit.report import Estimate, ReportData, TableView, Truth, rollout_view
from stepcredit.report.page import package_version
from stepcredit.report.views import RolloutView, XrayRow, XrayView

XRAY = "xray.json"
"""File of the figures."""

GAIN = "Monte-Carlo gain"
"""Name of the row that shows what each step changed in the chance of a right answer."""

LISTED = 200
"""Most solutions that the step viewer holds beside those shown side by side."""

_PEAK = 0.98


def payload_of(
    batch: XrayBatch,
    rules: Sequence[ComparedRule],
    paid: PaidRules,
    figures: Sequence[RuleXray],
    *,
    truth_by: str,
    source: str,
) -> dict[str, Any]:
    """All figures as JSON-able mapping; null is unknown.

    Args:
        batch: what was looked at.
        rules: that were asked for.
        paid: what they paid.
        figures: of those that could pay.
        truth_by: whose truth signs were compared with, empty if nobody's.
        source: path of what was read: a folder holds the X-ray of one source.
    """
    layout, asked = batch.layout, {compared.label: compared for compared in rules}
    return {
        "of": batch.name,
        "source": source,
        "kind": batch.kind,
        "rollouts": layout.rollouts,
        "groups": layout.groups,
        "steps": layout.steps,
        "tokens": layout.tokens,
        "unit": layout.unit,
        "outcomes": asdict(counted(batch.outcomes, batch.right_above)),
        "warning": batch.warning or None,
        "judge": batch.judge or None,
        "truth": truth_by or None,
        "values": batch.sources.get(Need.VALUES) if Need.VALUES in batch.signals else None,
        "signals": {str(need): batch.sources[need] for need in batch.signals},
        "rules": {found.name: {**_settings(asked.get(found.name)), **_figures(found)} for found in figures},
        "left_out": dict(paid.left_out),
        "stepcredit": package_version(),
    }


def report_of(
    batch: XrayBatch,
    paid: PaidRules,
    figures: Sequence[RuleXray],
    payload: Mapping[str, Any],
    *,
    gains: Sequence[Credit],
    truth: Float64[np.ndarray, " S"] | None,
    show: int,
) -> ReportData:
    """The page: tables, the same solutions under each rule, and the step viewer.

    Args:
        batch: what was looked at.
        paid: what the rules paid.
        figures: of those that could pay.
        payload: as `payload_of` gives it.
        gains: Monte-Carlo gains as a credit of each rollout, or empty.
        truth: [S] of the steps, as signs were compared with it; `None` if nothing is known.
        show: solutions shown side by side.
    """
    rows = _rows(batch, paid, gains)
    outcomes = counted(batch.outcomes, batch.right_above)
    counts = tuple((name, int(payload[name])) for name in ("rollouts", "groups", "steps", "tokens"))
    counts += tuple((name, int(payload["outcomes"][name])) for name in ("right", "wrong", "unscorable"))
    cut_at = "" if batch.right_above is None else f"; right is a reward above {batch.right_above:g}"
    facts = (
        *batch.facts,
        ("outcomes", str(outcomes)),
        *((("warning", batch.warning),) if batch.warning else ()),
        ("verdicts", batch.judge or "none"),
        ("truth of steps", payload["truth"] or "unknown"),
        *((f"signal {need}", source) for need, source in payload["signals"].items()),
        ("stepcredit", payload["stepcredit"]),
    )
    order = _telling(batch, paid)
    views = {index: _view(batch, rows, index) for index in {*order[:show], *range(LISTED)} if index < len(batch.cuts)}
    listed = [views[index] for index in sorted(views)]
    return ReportData(
        title="credit X-ray",
        subtitle=f"{batch.kind}{cut_at}",
        facts=facts,
        counts=counts,
        tables=tables_of(payload, figures),
        solutions=tuple(listed),
        omitted=len(batch.cuts) - len(listed),
        xray=XrayView(
            tuple(XrayRow(name, _peak(credits_)) for name, credits_ in rows.items()),
            tuple(views[index] for index in order[:show]),
            _truths(batch, truth, order[:show]),
            payload["truth"] or "",
        ),
    )


def tables_of(payload: Mapping[str, Any], figures: Sequence[RuleXray]) -> tuple[TableView, ...]:
    """The tables, for the terminal and the page."""
    columns = ("rule", "paid", "mean", "std", "variance")
    rows = tuple(
        (f.name, Estimate(f.paid), Estimate(_plain(f.mean)), Estimate(f.std), Estimate(f.variance)) for f in figures
    )
    note = "Paid: share of the rollouts with credit. The others: of the advantages of all their tokens."
    shown = [TableView("What each rule pays", columns, rows, note)]
    shown += [table for table in (_signs(payload, figures), _following(payload, figures)) if table.rows]
    if len(figures) > 1:
        names = [each.name for each in figures]
        matrix = tuple((each.name, *(Estimate(each.correlation[name], digits=2) for name in names)) for each in figures)
        shown.append(TableView("Correlation of the rules' token advantages", ("rule", *names), matrix))
    left = tuple((name, str(why)) for name, why in payload["left_out"].items())
    return (*shown, TableView("Left out", ("rule", "what is missing"), left))


def _signs(payload: Mapping[str, Any], figures: Sequence[RuleXray]) -> TableView:
    known = [(found.name, found.signs) for found in figures if found.signs is not None]
    rows = tuple(
        (name, _estimate(told.share), Estimate(told.right), Estimate(told.wrong), told.steps, told.silent)
        for name, told in known
    )
    note = (
        "A step agrees if its mean advantage is above 0 where it is right and below 0 where it is wrong; one that "
        "gets exactly 0 is not counted. 95% bootstrap intervals over problems."
    )
    columns = ("rule", "agrees", "right steps", "wrong steps", "counted", "exactly 0")
    return TableView(f"Signs beside the truth of steps: {payload['truth']}", columns, rows, note)


def _following(payload: Mapping[str, Any], figures: Sequence[RuleXray]) -> TableView:
    known = [(found.name, found.following) for found in figures if found.following is not None]
    rows = tuple(
        (name, _estimate(told.spearman), Estimate(told.pearson), _estimate(told.inside), told.steps)
        for name, told in known
    )
    note = (
        "Correlation of a step's mean advantage with what it changed in the value. Within: of what is left when each "
        "solution's mean is taken off both; a dash for a rule that pays all steps of a solution alike. The values have "
        "sampling error, which lowers every correlation. 95% bootstrap intervals over problems."
    )
    columns = ("rule", "Spearman", "Pearson", "within solutions", "steps")
    return TableView(f"Beside Monte-Carlo gains: {payload['values']}", columns, rows, note)


def _plain(value: float | None) -> float | None:
    """Without the sign that rounding leaves before a zero."""
    return None if value is None else round(value, 6) + 0.0


def _estimate(found: Bounded) -> Estimate:
    return Estimate(found.value, found.low, found.high)


def _settings(compared: ComparedRule | None) -> dict[str, Any]:
    if compared is None:
        return {"rule": LOGGED, "settings": {}}
    made: Any = compared.settings
    return {"rule": compared.name, "settings": dict(vars(made)) if is_dataclass(made) else {}}


def _figures(found: RuleXray) -> dict[str, Any]:
    told = asdict(found)
    told["monte_carlo"] = told.pop("following")
    return {name: value for name, value in told.items() if name != "name"}


def _rows(batch: XrayBatch, paid: PaidRules, gains: Sequence[Credit]) -> dict[str, Sequence[Credit]]:
    """By row: one credit a rollout, in order."""
    rows: dict[str, Sequence[Credit]] = {GAIN: gains} if gains else {}
    rows |= paid.credits
    if LOGGED in paid.advantages:
        parts = np.split(paid.advantages[LOGGED], batch.layout.token_starts[1:-1])
        digests = [group.digest for group in batch.groups for _ in group.outcomes]
        rows[LOGGED] = [
            Credit(steps, None, part, LOGGED, (), name)
            for steps, part, name in zip(batch.steps, parts, digests, strict=True)
        ]
    return rows


def _truths(
    batch: XrayBatch, truth: Float64[np.ndarray, " S"] | None, shown: Sequence[int]
) -> tuple[tuple[bool | None, ...], ...]:
    """For each solution shown the truth of its steps; empty if nothing is known."""
    if truth is None:
        return ()
    parts = np.split(truth, batch.layout.step_starts[1:-1])
    return tuple(tuple(None if np.isnan(known) else known == 1.0 for known in parts[index].tolist()) for index in shown)


def _peak(credits_: Sequence[Credit]) -> float:
    """Advantage at which a row's colour is full: few tokens are larger."""
    sizes = np.abs(np.concatenate([credit.advantages for credit in credits_]))
    known = sizes[~np.isnan(sizes) & (sizes > 0.0)]
    return float(np.quantile(known, _PEAK)) if len(known) else 0.0


def _view(batch: XrayBatch, rows: Mapping[str, Sequence[Credit]], index: int) -> RolloutView:
    cut = batch.cuts[index]
    steps = cut.steps if isinstance(cut, Judgement) else cut
    labels = batch.labels.get(steps.rollout.id)
    truth = None if labels is None else Truth(labels, (None,) * len(steps), THRESHOLDS.get(batch.scale, 0.5))  # type: ignore[arg-type]
    beside = [replace(found[index], rule=name) for name, found in rows.items()]
    scored = isinstance(cut, Judgement) and any(verdict.score is not None for verdict in cut.verdicts)
    return rollout_view(
        cut,
        beside=beside,
        method=steps.rollout.policy if steps.rollout.retokenised else "",
        round=batch.round,
        scale=batch.scale if scored else None,
        truth=truth,
    )


def _telling(batch: XrayBatch, paid: PaidRules) -> list[int]:
    """Rollouts, those first on whose steps the rules differ most, a right one and a wrong one by turns."""
    layout = batch.layout
    columns = [step_credit(layout, column).astype(np.float64) for column in paid.advantages.values()]
    scaled = np.array([column / (np.nanmax(np.abs(column), initial=0.0) or 1.0) for column in columns])
    spread = _spread(scaled)
    weight = np.bincount(layout.rollout_of_step, weights=spread, minlength=layout.rollouts)
    order = np.argsort(-weight / np.maximum(layout.steps_of_rollout, 1), kind="stable").tolist()
    right = [index for index in order if batch.steps[index].outcome.status == "right"]
    wrong = [index for index in order if batch.steps[index].outcome.status != "right"]
    turns = [index for pair in zip(right, wrong, strict=False) for index in pair]
    return [index for index in [*turns, *right[len(wrong) :], *wrong[len(right) :]] if len(batch.steps[index])]


def _spread(scaled: Float64[np.ndarray, "R S"]) -> Float64[np.ndarray, " S"]:
    """[S] standard deviation over the rules that know the step's credit, 0 where none does."""
    known = ~np.isnan(scaled)
    number = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, scaled, 0.0)
    mean = filled.sum(axis=0) / number
    return np.sqrt((np.where(known, scaled - mean, 0.0) ** 2).sum(axis=0) / number)
